import pytest

from tunetrail import UserError
from tunetrail.config import check
from tunetrail.config.schema import closed, nullable

SCHEMA = closed(
    seed={"type": "integer"},
    train=closed(
        False,
        learning_rate={"type": "number"},
        datasets={
            "anyOf": [
                {
                    "type": "array",
                    "items": {
                        "anyOf": [
                            closed(False, path={"type": "string"}, field={"type": "string"}),
                            closed(False, path={"type": "string"}, shape=closed(width={"type": "integer"})),
                        ]
                    },
                },
                {"type": "null"},
            ]
        },
        api_key=nullable({"type": "string"}),
        pad_token={"type": "string"},
    ),
)


def fault(values):
    with pytest.raises(UserError) as error:
        check.check(values, SCHEMA)
    return str(error.value)


def test_known_keys_pass():
    values = {"seed": 1, "train": {"datasets": [{"path": "a", "field": "b"}], "api_key": None}}
    assert check.check(values, SCHEMA) is None


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"seed": 1, "train": {"lerning_rate": 1}}, "train.lerning_rate: no such key. Did you mean train.learning_rate?"),
        ({"seed": 1, "train": {"xyzzy": 1}}, "train has: train.datasets, train.learning_rate, train.pad_token."),
        ({"seed": 1, "train": {"lr": 1}}, "train.lr: no such key. Did you mean train.learning_rate?"),
        ({"seed": float("inf"), "train": {}}, "seed: inf is not a finite number"),
        ({"seed": 1, "train": {}, "trian": {}}, "trian: no such key. Did you mean train?"),
        ({"seed": "one", "train": {}}, "seed: 'one' is not of type 'integer'"),
        ({"seed": 1, "train": {"learning_rate": "fast"}}, "train.learning_rate: 'fast' is not of type 'number'"),
        ({"seed": 1}, "'train' is a required property"),
        (
            {"seed": 1, "train": {"datasets": [{"path": "a", "fild": "b"}]}},
            "train.datasets.0.fild: no such key. Did you mean train.datasets.0.field?",
        ),
    ],
)
def test_each_fault_names_the_key_and_the_fix(values, says):
    assert says in fault(values)


def test_all_faults_are_reported_at_once():
    datasets = [{"path": "a", "fild": "b", "colour": 1}, {"path": 3}]
    with pytest.raises(check.Refused) as error:
        check.check({"seed": "one", "trian": 1, "train": {"lr": 1, "xyzzy": None, "datasets": datasets}}, SCHEMA)
    assert [(fault.key, fault.unknown, fault.instead) for fault in error.value.faults] == [
        ("seed", False, None),
        ("train.datasets.0.colour", True, None),
        ("train.datasets.0.fild", True, None),
        ("train.datasets.1.path", False, None),
        ("train.lr", True, "train.learning_rate"),
        ("train.xyzzy", True, None),
        ("trian", True, None),
    ]
    assert str(error.value).splitlines() == [fault.message for fault in error.value.faults]


def test_a_misspelled_null_key_is_refused_and_a_retired_one_is_not(known):
    train = {"properties": {"train": known["properties"]["train"]}, "$defs": known["$defs"]}
    config = {"base_model": "a", "optimizer": "sgd", "learning_rate": 1, "num_epochs": 1, "sequence_len": 8}
    config |= {"micro_batch_size": 1, "gradient_accumulation_steps": 1}
    check.check({"train": config | {"gptq_groupsize": None, "debug": None, "unsloth_rope": False}}, train)
    with pytest.raises(check.Refused, match=r"Did you mean train\.warmup_steps") as error:
        check.check({"train": config | {"warmup_step": None, "adam_eps": 1e-8, "xpos_rope": True}}, train)
    assert [fault.instead for fault in error.value.faults] == ["train.adam_epsilon", None, None]
    assert "Earlier versions of Axolotl had it. Leave it out." in str(error.value)


def test_text_that_pydantic_reads_as_nan_is_refused(known):
    train = {"properties": {"train": known["properties"]["train"] | {"required": []}}, "$defs": known["$defs"]}
    with pytest.raises(check.Refused, match=r"train\.weight_decay: nan is not a finite number"):
        check.check({"train": {"weight_decay": "nan"}}, train)


def test_two_names_of_one_key_have_one_value(known):
    train = {"properties": {"train": known["properties"]["train"] | {"required": []}}, "$defs": known["$defs"]}
    check.check({"train": {"model_revision": "a", "revision_of_model": "a"}}, train)
    with pytest.raises(check.Refused, match=r"train\.revision_of_model and train\.model_revision: two names of one key"):
        check.check({"train": {"model_revision": "a", "revision_of_model": "b"}}, train)


@pytest.mark.parametrize(
    ("key", "value", "meant"), [("optimizer", "adamw", "adamw_torch"), ("lr_scheduler", "wsd", "warmup_")]
)
def test_another_tools_name_of_a_value_is_refused_with_ours(known, key, value, meant):
    train = {"properties": {"train": known["properties"]["train"] | {"required": []}}, "$defs": known["$defs"]}
    with pytest.raises(UserError, match=f"train.{key}: '{value}' is not known. Did you mean {meant}"):
        check.check({"train": {key: value}}, train)


@pytest.mark.parametrize("key", ["train.api_kye", "train.wandb_api_ky", "train.hf_tokn", "train.passwrd", "hub_tokn"])
def test_a_misspelled_key_of_a_secret_is_not_corrected(key):
    says = check.unknown(key, [*KNOWN, "train.wandb_api_key", "train.comet_api_key"]).message
    assert says == f"{key}: no such key. If it holds a secret, put that into the environment: params.yaml would publish it."


def test_a_secret_never_reaches_params_yaml():
    message = fault({"seed": 1, "train": {"api_key": "hunter2"}})
    assert "train.api_key holds a secret" in message
    assert "hunter2" not in message
    check.check({"seed": 1, "train": {"pad_token": "<|end|>"}}, SCHEMA)
    # Nor into the message about a key that nobody knows, at whatever depth.
    for train in ({"hub_token": "hunter2"}, {"x": [{"y": {"password": "hunter2"}}]}, {"x": "https://me:hunter2@host/"}):
        message = fault({"seed": "wrong", "train": train})
        assert "holds a secret" in message
        assert "hunter2" not in message


def test_flattened_keys_are_dotted_and_lists_numbered():
    assert check.flatten({"a": {"b": [1, {"c": None}]}, "d": 2}) == {"a.b.0": 1, "a.b.1.c": None, "d": 2}


KNOWN = [
    *check.known_keys(SCHEMA),
    "experiment",
    "model",
    "hydra.sweeper.n_trials",
    "hydra.sweeper.params",
    "hydra.sweep.dir",
]


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("experimnt", "Did you mean experiment?"),
        ("hydra.sweeper.n_trails", "Did you mean hydra.sweeper.n_trials?"),
        ("hydra.swep.dir", "Did you mean hydra.sweep.dir?"),
        ("trian.learning_rate", "Did you mean train.learning_rate?"),
        ("learning_rate", "Did you mean train.learning_rate?"),
        ("lr", "Did you mean train.learning_rate?"),
        ("hydra.sweeper.xyzzy", "hydra.sweeper has: hydra.sweeper.n_trials, hydra.sweeper.params."),
        ("hydra.xyzzy", "hydra has: hydra.sweep, hydra.sweeper."),
        ("xyzzy.plugh", "The top level has: experiment, hydra, model, seed, train."),
    ],
)
def test_the_error_for_an_unknown_key_names_the_nearest_or_those_of_its_section(key, says):
    assert check.unknown(key, KNOWN).message == f"{key}: no such key. {says}"


def test_a_key_that_has_two_spellings_is_listed_once():
    known = ["accelerate.num_machines", "accelerate.num-machines", "accelerate.same-network"]
    assert check.unknown("accelerate.xyzzy", known).message.endswith(
        "accelerate has: accelerate.num_machines, accelerate.same-network."
    )

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException

from tests.conftest import ROOT
from tunetrail import UserError, config
from tunetrail.schema import closed, nullable

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
        config.check(values, SCHEMA)
    return str(error.value)


def test_what_the_schema_knows_passes():
    values = {"seed": 1, "train": {"datasets": [{"path": "a", "field": "b"}], "api_key": None}}
    assert config.check(values, SCHEMA) is None


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"seed": 1, "train": {"lerning_rate": 1}}, "train.lerning_rate: no such key. Did you mean train.learning_rate?"),
        ({"seed": 1, "train": {"xyzzy": 1}}, "train has: train.api_key, train.datasets, train.learning_rate"),
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
def test_each_fault_names_the_key_and_the_remedy(values, says):
    assert says in fault(values)


def test_a_secret_never_reaches_params_yaml():
    message = fault({"seed": 1, "train": {"api_key": "hunter2"}})
    assert "train.api_key holds a secret" in message
    assert "hunter2" not in message
    config.check({"seed": 1, "train": {"pad_token": "<|end|>"}}, SCHEMA)


def test_flattened_keys_are_dotted_and_lists_numbered():
    assert config.flatten({"a": {"b": [1, {"c": None}]}, "d": 2}) == {"a.b.0": 1, "a.b.1.c": None, "d": 2}


KNOWN = [
    *config.known_keys(SCHEMA),
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
        ("hydra.sweeper.xyzzy", "hydra.sweeper has: hydra.sweeper.n_trials, hydra.sweeper.params."),
        ("hydra.xyzzy", "hydra has: hydra.sweep, hydra.sweeper."),
        ("xyzzy.plugh", "The top level has: experiment, hydra, model, seed, train."),
    ],
)
def test_an_unknown_key_has_the_nearest_one_named_or_what_its_section_has_itself(key, says):
    assert config.unknown_key(key, KNOWN) == f"{key}: no such key. {says}"


def test_a_key_that_has_two_spellings_is_listed_once():
    known = ["accelerate.num_machines", "accelerate.num-machines", "accelerate.same-network"]
    assert config.unknown_key("accelerate.xyzzy", known).endswith(
        "accelerate has: accelerate.num_machines, accelerate.same-network."
    )


def hydra_says(message, cause=None):
    error = ConfigCompositionException(message)
    error.__cause__ = cause
    return config.composition_fault(error, KNOWN)


def test_hydras_word_for_an_unknown_key_becomes_ours():
    said = "Could not override 'train.lerning_rate'.\nTo append to your config use +train.lerning_rate=1"
    assert "Did you mean train.learning_rate?" in hydra_says(said)
    assert "Add it with a plus: +train.pad_token" in hydra_says("Could not override 'train.pad_token'.\nTo append ...")
    said = "Could not find 'model/foo'\n\nAvailable options in 'model':\n\tlocal\nConfig search path:\n\tprovider=hydra"
    assert hydra_says(said) == "Could not find 'model/foo'\n\nAvailable options in 'model':\n\tlocal"


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("hydra.launcher.n_jobs=abc", "hydra.launcher.n_jobs: 'abc' is not of type 'integer'. Give a value of that type."),
        ("hydra.launcher.timeout=[1]", "hydra.launcher.timeout: '[1]' is not of type 'float'. Give a value of that type."),
    ],
)
def test_a_value_of_a_wrong_type_that_hydra_itself_refuses_has_its_type_named(word, says):
    with pytest.raises(ConfigCompositionException) as error, initialize_config_dir(str(ROOT / "conf")):
        compose("config", ["sweep=joblib", word], return_hydra_config=True)
    assert config.composition_fault(error.value, KNOWN) == says


def test_a_plug_in_that_is_not_here_has_its_extra_named():
    said = hydra_says(
        "In 'hydra/config': Could not find 'hydra/launcher/ray'\n\nAvailable options in 'hydra/launcher':\n\tbasic"
    )
    assert said.startswith("sweep=ray: its plug-in is not installed. Install the extra")
    assert "'.[ray]'" in said

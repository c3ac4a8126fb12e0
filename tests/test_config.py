import pytest

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
    config.check({"seed": 1, "train": {"datasets": [{"path": "a", "field": "b"}], "api_key": None}}, SCHEMA)


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


def test_hydras_word_for_an_unknown_key_becomes_ours():
    said = "Could not override 'train.lerning_rate'.\nTo append to your config use +train.lerning_rate=1"
    assert "Did you mean train.learning_rate?" in config.composition_fault(said, SCHEMA)
    said = "Could not override 'train.pad_token'.\nTo append ..."
    assert "Add it with a plus: +train.pad_token" in config.composition_fault(said, SCHEMA)
    said = "Could not find 'model/foo'\n\nAvailable options in 'model':\n\tlocal\nConfig search path:\n\tprovider=hydra"
    assert config.composition_fault(said, SCHEMA) == "Could not find 'model/foo'\n\nAvailable options in 'model':\n\tlocal"

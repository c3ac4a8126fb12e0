import shlex

import pytest

from tunetrail.plan.rules import finding

VALUES = {"train": {"warmup_steps": 100, "datasets": [{"path": "a"}]}, "prepare": {"path": "a"}}


def test_an_existing_key_is_overridden_and_a_new_one_is_added_with_a_plus():
    line = finding.overrides(VALUES, {"train.warmup_steps": None, "train.warmup_ratio": 0.03})
    assert line == "train.warmup_steps=null +train.warmup_ratio=0.03"
    assert finding.overrides(VALUES, {"train.datasets.0.path": "b"}) == "train.datasets.0.path=b"
    assert finding.overrides(VALUES, {"train.datasets.1.path": "b"}) == "+train.datasets.1.path=b"


def test_a_group_takes_no_plus_and_a_list_is_quoted_for_the_shell():
    assert finding.overrides(VALUES, {"hardware": ["rocm", "fsdp2"]}) == "'hardware=[rocm,fsdp2]'"
    assert finding.overrides(VALUES, {"prepare": "file", "prepare.path": "FILE"}) == "prepare=file prepare.path=FILE"


@pytest.mark.parametrize(
    "value",
    [
        *(
            None,
            True,
            False,
            3,
            2e-5,
            0.25,
            1e-3,
            "no",
            "auto",
            "bf16",
            "true",
            "null",
            "1e-3",
            "two words",
            'a "b" c',
            "<|end|>",
        ),
        *("it's", "data/prepared/train.jsonl", ["a.b.C", "d"], ["a b"]),
    ],
)
def test_hydra_reads_a_written_value_back_as_it_was(composed, value):
    (override,) = shlex.split(finding.overrides(composed(), {"train.nothing_of_this_name": value}))
    read = composed(override)["train"]["nothing_of_this_name"]
    assert read == value
    assert type(read) is type(value)


def test_hydra_resolves_an_interpolation_inside_a_mapping(composed):
    values = composed()
    settings = {"train.datasets.0.type": {"field_input": "input", "format": "${template.with_input}"}}
    (override,) = shlex.split(finding.overrides(values, settings))
    kind = composed(override)["train"]["datasets"][0]["type"]
    assert kind["format"] == values["template"]["with_input"]


@pytest.mark.parametrize(("number", "text"), [(5.2e-6, "5.2e-6"), (0.003, "0.003"), (1.92e18, "1.92e18"), (2e-5, "2e-5")])
def test_numbers_are_written_short(number, text):
    assert finding.short(number) == text


def test_a_missing_dotted_key_is_a_key_error():
    assert finding.at(VALUES, "train.datasets.0.path") == "a"
    for key in ("train.nothing", "train.datasets.3", "train.datasets.first", "train.warmup_steps.more"):
        with pytest.raises(KeyError, match=key):
            finding.at(VALUES, key)

import pytest

from tunetrail import UserError, contradictions, records

ROWS = [{"instruction": f"a{number}", "input": "", "output": "b"} for number in range(3)]
PROMPT = {"key": 1, "prompt": "a", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}


@pytest.fixture
def made(composed, tmp_path, monkeypatch):
    """The composed values of overrides, with dotted keys changed afterwards, as in a file of the person's own."""
    monkeypatch.chdir(tmp_path)
    records.write(tmp_path / "rows.jsonl", ROWS)
    records.write(tmp_path / "prompts.jsonl", [PROMPT])

    def values(*words, **changes):
        whole = composed(*words)
        for key, value in changes.items():
            *sections, name = key.split("__")
            section = whole
            for part in sections:
                section = section[part]
            section[name] = value
        return whole

    return values


HUB = {"repo_id": "org/rows", "filename": "r.json", "revision": "a" * 40}
OWN = ("prepare=file", "prepare.path=rows.jsonl", "evaluate=ifeval", "evaluate.path=prompts.jsonl", "evaluate.hub=null")


@pytest.mark.parametrize(
    "words",
    [
        (),
        OWN,
        ("model=llama3_8b", *OWN),
        ("experiment=llama3_8b_alpaca_published",),
        ("evaluate.path=prompts.jsonl", "evaluate.task.task=ifeval"),
        (
            f"prepare.hub={{repo_id:org/rows,filename:r.json,revision:{'a' * 40}}}",
            "prepare.generate=null",
            "evaluate=ifeval",
        ),
    ],
)
def test_what_conf_composes_does_not_contradict_itself(made, words):
    assert contradictions.refuse(made(*words)) is None


@pytest.mark.parametrize(
    ("words", "changes", "says"),
    [
        # Of two sources of rows one would win in silence.
        ((), {"prepare__path": "rows.jsonl"}, "prepare.path=rows.jsonl would not be read"),
        ((), {"prepare__hub": HUB}, "prepare.generate=null takes the hub's"),
        ((), {"prepare__generate": None}, "Set prepare=file prepare.path=FILE"),
        (("prepare=alpaca_cleaned", "evaluate=ifeval"), {"prepare__path": "rows.jsonl"}, "Set prepare.hub=null"),
        (("prepare=alpaca_cleaned", "evaluate=ifeval"), {"prepare__path": "conf/rows.jsonl"}, "Set prepare.hub=null"),
        (OWN, {"evaluate__hub": HUB}, "Set evaluate.hub=null"),
        (OWN, {"prepare__path": "nowhere.jsonl"}, "nowhere.jsonl: no such file"),
        (OWN, {"evaluate__path": "nowhere.jsonl"}, "nowhere.jsonl: no such file"),
        ((), {"evaluate__hub": HUB}, "evaluate=ifeval for the hub's"),
        (OWN[:2], {}, "tunetrail run experiment=alpaca_tiny prepare.path=rows.jsonl evaluate.path=PROMPTS"),
        ((*OWN[:2], "model=llama3_8b"), {}, "Add evaluate=ifeval to take"),
        # A copy that differs from what it was made from.
        ((), {"fetch__generate": None}, "Set prepare.generate alone"),
        (OWN, {"fetch__instructions__path": "other.jsonl"}, "Set prepare.path alone"),
        (OWN, {"fetch__instructions__hub": HUB}, "Set prepare.hub alone"),
        (OWN, {"fetch__prompts__path": "other.jsonl"}, "Set evaluate.path alone"),
        (OWN, {"fetch__prompts__hub": HUB}, "Set evaluate.hub alone"),
        ((), {"contract__license": "mit"}, "Set prepare.license alone"),
        ((), {"contract__expected_rows": 5}, "Set prepare.expected_rows alone"),
        ((), {"contract__sequence_len": 5}, "Set train.sequence_len alone"),
        ((), {"contract__excess_length_strategy": "raise"}, "Set train.excess_length_strategy alone"),
        ((), {"base__template__without_input": "{instruction}"}, "Set template alone"),
        # A model of which two keys say different things.
        (("model=llama3_8b", *OWN), {"train__model_revision": "main"}, "Set base.revision_of_model alone"),
        (("model=llama3_8b", *OWN), {"train__revision_of_model": "main"}, "Set base.revision_of_model alone"),
        (("model=llama3_8b", *OWN), {"train__model_revision": None}, "Set train.model_revision="),
        (("model=llama3_8b", *OWN), {"base__base_model": ".", "train__base_model": "."}, "Add model=local"),
        ((), {"base__revision_of_model": "main"}, "Set it to null"),
        ((), {"base__path": "rows.jsonl"}, "is made from data/prepared/text.jsonl"),
        ((), {"base__make__train__base_model": "org/m"}, "starts as work/base/untrained"),
        # What the stage `evaluate` sets itself.
        ((), {"evaluate__model_args__revision": "main"}, "Set base.base_model alone"),
        ((), {"evaluate__model_args__peft": "adapter"}, "Set base.base_model alone"),
        ((), {"evaluate__task__dataset_kwargs": {"data_files": "x"}}, "Set evaluate.path alone"),
        ((), {"evaluate__task__doc_to_text": "{{prompt}}"}, "Set template alone"),
        ((), {"evaluate__gen_kwargs": {"max_gen_toks": 5}}, "Set evaluate.task.generation_kwargs alone"),
    ],
)
def test_two_keys_that_say_different_things_are_one_message_with_its_fix(made, words, changes, says):
    with pytest.raises(UserError) as error:
        contradictions.refuse(made(*words, **changes))
    assert says in str(error.value)


@pytest.mark.parametrize("section", ["train", "base__make__train"])
@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("datasets", [{"path": "other.jsonl"}], "prepare.path=other.jsonl"),
        ("datasets", [{"path": "./data/prepared/train.jsonl"}], "prepare.path="),
        ("datasets", [{"path": "data/prepared/train.jsonl"}, {"path": "/rows/other.json"}], "prepare.path=/rows/other.json"),
        ("datasets", [{"path": "data/prepared/train.jsonl", "data_files": ["other.jsonl"]}], "prepare.path=FILE"),
        ("datasets", [{"path": "json", "data_files": "other.jsonl"}], "prepare.path=other.jsonl"),
        ("datasets", [{"path": "org/rows"}], "prepare.hub.repo_id=org/rows"),
        ("test_datasets", [{"path": "other.jsonl"}], "prepare.path=other.jsonl"),
        ("pretraining_dataset", [{"path": "data/prepared/train.jsonl"}], "prepare.path=data/prepared/train.jsonl"),
        ("pretraining_dataset", "org/prose", "prepare.hub.repo_id=org/prose"),
    ],
)
def test_rows_that_no_stage_depends_on_are_refused(made, section, key, value, says):
    with pytest.raises(UserError) as error:
        contradictions.refuse(made(**{f"{section}__{key}": value}))
    assert says in str(error.value)
    assert str(error.value).startswith(f"{section.replace('__', '.')}.{key}.")


def test_what_prepare_leaves_may_be_trained_on(made):
    both = [{"path": "data/prepared/train.jsonl"}, {"path": "data/prepared/validation.jsonl"}]
    contradictions.refuse(made(train__datasets=both, train__test_datasets=None))
    contradictions.refuse(made(train__test_datasets=both[:1]))

import re
import subprocess

import pytest
from omegaconf import OmegaConf

from tests.conftest import ROOT
from tunetrail import UserError
from tunetrail.checkout import dvc
from tunetrail.config import compose, contradictions
from tunetrail.data import records

ROWS = [{"instruction": f"a{number}", "input": "", "output": "b"} for number in range(3)]
PROMPT = {"key": 1, "prompt": "a", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}


@pytest.fixture
def made(composed, tmp_path, monkeypatch):
    """Compose overrides and then change keys, as a user's own file may do."""
    monkeypatch.chdir(tmp_path)
    records.write(tmp_path / "rows.jsonl", ROWS)
    records.write(tmp_path / "prompts.jsonl", [PROMPT])

    def values(*words, **changes):
        config = composed(*words)
        for key, value in changes.items():
            *sections, name = key.split("__")
            section = config
            for part in sections:
                section = section[part]
            section[name] = value
        return config

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
def test_composed_experiments_do_not_contradict_themselves(made, words):
    assert contradictions.refuse(made(*words)) is None


@pytest.mark.parametrize(
    ("words", "changes", "says"),
    [
        # One of two sources of rows would be ignored silently.
        ((), {"prepare__path": "rows.jsonl"}, "prepare.path=rows.jsonl and prepare.generate name different data"),
        ((), {"prepare__hub": HUB}, "set prepare.hub=null, or set prepare.generate=null"),
        ((), {"prepare__generate": None}, "Set prepare=file prepare.path=FILE"),
        (("prepare=alpaca_cleaned", "evaluate=ifeval"), {"prepare__path": "rows.jsonl"}, "or set prepare.hub=null"),
        (("prepare=alpaca_cleaned", "evaluate=ifeval"), {"prepare__path": "conf/rows.jsonl"}, "or set prepare.hub=null"),
        (OWN, {"evaluate__hub": HUB}, "or set evaluate.hub=null"),
        (OWN, {"prepare__path": "nowhere.jsonl"}, "nowhere.jsonl: no such file"),
        (OWN, {"evaluate__path": "nowhere.jsonl"}, "nowhere.jsonl: no such file"),
        ((), {"evaluate__hub": HUB}, "set evaluate.hub=null, or set evaluate=ifeval"),
        (OWN[:2], {}, "tunetrail run experiment=alpaca_tiny prepare.path=rows.jsonl evaluate.path=PROMPTS"),
        ((*OWN[:2], "model=llama3_8b"), {}, "Add evaluate=ifeval to take"),
        # A copy that differs from its original.
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
        # Two keys that contradict each other about the model.
        (("model=llama3_8b", *OWN), {"train__model_revision": "main"}, "Set base.revision_of_model alone"),
        (("model=llama3_8b", *OWN), {"train__revision_of_model": "main"}, "Set base.revision_of_model alone"),
        (("model=llama3_8b", *OWN), {"train__model_revision": None}, "Set train.model_revision="),
        (("model=llama3_8b", *OWN), {"base__base_model": ".", "train__base_model": "."}, "Add model=local"),
        ((), {"base__revision_of_model": "main"}, "Set it to null"),
        ((), {"base__path": "rows.jsonl"}, "is made from data/prepared/text.jsonl"),
        ((), {"base__make__train__base_model": "org/m"}, "starts as work/base/untrained"),
        ((), {"base__make__train__reinit_weights": False}, "has no weights yet"),
        ((), {"base__make__train__reinit_weights": None}, "has no weights yet"),
        ((), {"base__make__train__adapter": "lora"}, "cannot be an adapter"),
        # What the stage `evaluate` sets itself.
        ((), {"evaluate__model_args__revision": "main"}, "Set base.base_model alone"),
        ((), {"evaluate__model_args__peft": "adapter"}, "Set base.base_model alone"),
        ((), {"evaluate__task__dataset_kwargs": {"data_files": "x"}}, "Set evaluate.path alone"),
        ((), {"evaluate__task__doc_to_text": "{{prompt}}"}, "Set template alone"),
        ((), {"evaluate__gen_kwargs": {"max_gen_toks": 5}}, "Set evaluate.task.generation_kwargs alone"),
    ],
)
def test_two_contradictory_keys_are_one_error_with_a_fix(made, words, changes, says):
    with pytest.raises(UserError) as error:
        contradictions.refuse(made(*words, **changes))
    assert says in str(error.value)


def test_the_copies_are_those_of_conf():
    values = OmegaConf.to_container(compose.compose(ROOT, []))
    for copy, original in contradictions.COPIES:
        assert contradictions.at(values, copy) == f"${{{original}}}"


@pytest.mark.parametrize("section", ["train", "base__make__train"])
@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("datasets", [{"path": "other.jsonl"}], "prepare.path=other.jsonl"),
        ("datasets", [{"path": "./data/prepared/train.jsonl"}], "prepare.path="),
        ("datasets", [{"path": "/rows/other.json"}, {"path": "data/prepared/train.jsonl"}], "prepare.path=/rows/other.json"),
        ("datasets", [{"path": "data/prepared/train.jsonl", "data_files": ["other.jsonl"]}], "prepare.path=FILE"),
        ("datasets", [{"path": "json", "data_files": "other.jsonl"}], "prepare.path=other.jsonl"),
        ("datasets", [{"path": "org/rows"}], "prepare.hub.repo_id=org/rows"),
        ("test_datasets", [{"path": "other.jsonl"}], "prepare.path=other.jsonl"),
        ("pretraining_dataset", [{"path": "data/prepared/train.jsonl"}], "none of the prepared rows are for this key"),
        ("pretraining_dataset", "org/prose", "prepare.hub.repo_id=org/prose"),
    ],
)
def test_rows_that_no_stage_depends_on_are_refused(made, section, key, value, says):
    with pytest.raises(UserError) as error:
        contradictions.refuse(made(**{f"{section}__{key}": value}))
    assert says in str(error.value)
    assert str(error.value).startswith(f"{section.replace('__', '.')}.{key}.")


PREPARED = {name: f"data/prepared/{name}.jsonl" for name in ("train", "validation", "text")}


@pytest.mark.parametrize("more", [(), ("train.output_dir=work/other",), ("train.test_datasets=null",)])
def test_prepared_rows_may_be_trained_on(made, more):
    contradictions.refuse(made(*more))
    contradictions.refuse(made(*more, *OWN, "model=llama3_8b"))


@pytest.mark.parametrize(
    ("section", "key", "file"),
    [
        ("train", "datasets", "validation"),
        ("train", "datasets", "text"),
        ("train", "test_datasets", "train"),
        ("base__make__train", "datasets", "train"),
        ("base__make__train", "datasets", "validation"),
        ("base__make__train", "test_datasets", "validation"),
        ("base__make__train", "test_datasets", "text"),
    ],
)
def test_validation_rows_and_rows_of_another_training_are_refused(made, section, key, file):
    right = {"train": "train", "base__make__train": "text"}[section]
    rows = [{"path": PREPARED[file]}] if key == "test_datasets" else [{"path": PREPARED[right]}, {"path": PREPARED[file]}]
    with pytest.raises(UserError, match=rf"\.{key}\.{len(rows) - 1}\.path={PREPARED[file]}: .* Leave it out"):
        contradictions.refuse(made(**{f"{section}__{key}": rows}))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("+train.datasets.0.shards=10",), "train.datasets.0.shards=10"),
        (("+train.datasets.0.shards=10", "+train.datasets.0.shards_idx=3"), "train.datasets.0.shards=10"),
        (("+train.datasets.0.preprocess_shards=4",), "train.datasets.0.preprocess_shards=4"),
        (("+train.test_datasets.0.shards=2",), "train.test_datasets.0.shards=2"),
        (("+train.dataset_exact_deduplication=true",), "train.dataset_exact_deduplication=True"),
        (("+train.dataset_shard_num=10", "+train.dataset_shard_idx=0"), "train.dataset_shard_num=10"),
        (("+base.make.train.datasets.0.shards=10",), "base.make.train.datasets.0.shards=10"),
        (("+base.make.train.dataset_shard_idx=1",), "base.make.train.dataset_shard_idx=1"),
        (("+train.datasets.0.split='train[:10%]'",), "train.datasets.0.split=train[:10%]"),
    ],
)
def test_training_on_a_part_of_the_rows_is_refused(made, words, says):
    with pytest.raises(UserError) as error:
        contradictions.refuse(made(*words))
    assert str(error.value).startswith(f"{says} takes a part of the rows")
    assert "prepare.take=N" in str(error.value)


def test_training_on_all_rows_passes(made):
    contradictions.refuse(made("+train.datasets.0.shards=null", "+train.datasets.0.split=train"))


@pytest.mark.parametrize("section", ["train", "base.make.train"])
def test_rows_that_an_earlier_training_tokenised_are_refused(made, section):
    values = made()
    config, says = contradictions.at(values, section), rf"{section}\.dataset_prepared_path=.* Leave it out"
    outside = ("last_run_prepared", None, "", "prepared", "/rows/prepared", "work/shared", "work/trained/rows")
    for path in (*outside, "work/train/../rows", "work/base/../rows"):
        config["dataset_prepared_path"] = path
        with pytest.raises(UserError, match=says):
            contradictions.refuse(values)
    del config["dataset_prepared_path"]
    with pytest.raises(UserError, match=says):
        contradictions.refuse(values)


def test_tokenised_rows_may_be_in_a_folder_that_is_emptied(made):
    words = ("train.dataset_prepared_path=work/train/rows", "base.make.train.dataset_prepared_path=work/base/trained/rows")
    contradictions.refuse(made(*words))


@pytest.mark.parametrize("section", ["train", "base.make.train"])
def test_an_adapter_that_no_stage_depends_on_is_refused(made, section):
    with pytest.raises(UserError, match=rf"{section}\.lora_model_dir=adapter: .*model=local base\.base_model=FOLDER"):
        contradictions.refuse(made("method=lora", f"+{section}.lora_model_dir=adapter"))


def test_an_output_of_a_stage_is_refused_as_an_input_with_the_command_that_copies_it(made, tmp_path):
    assert all(out.startswith(contradictions.OUTPUTS) for out in dvc.outputs(ROOT))
    (tmp_path / "elsewhere").mkdir()
    values = made(*OWN)
    for folder in ("data/raw/instructions", "data/prepared", "outputs/contract", "eval_results/base", "report"):
        (tmp_path / folder).mkdir(parents=True)
        records.write(tmp_path / folder / "my rows.jsonl", ROWS)
        link = tmp_path / "link.jsonl"
        absolute = str(tmp_path / folder / "my rows.jsonl")
        link.unlink(missing_ok=True)
        link.symlink_to(absolute)
        for path in (f"{folder}/my rows.jsonl", f"./{folder}/my rows.jsonl", absolute, "link.jsonl"):
            for key in ("prepare.path", "evaluate.path"):
                section, before = values[key.partition(".")[0]], values[key.partition(".")[0]]["path"]
                section["path"] = path
                with pytest.raises(UserError) as error:
                    contradictions.refuse(values)
                section["path"] = before
                assert str(error.value).startswith(f"{key}={path}: ")
                copied = re.search(r"first: (cp .*), and give (\S+)=(.*)", str(error.value))
                cwd = tmp_path / "elsewhere" if path == absolute else tmp_path
                subprocess.run(copied[1], shell=True, check=True, cwd=cwd)
                if path == "link.jsonl" and folder == "report":
                    contradictions.refuse(made(*OWN, f"{copied[2]}='{copied[3]}'"))


def test_a_model_that_a_stage_makes_is_refused_as_a_base_with_the_command_that_copies_it(made):
    words = ("model=local", *OWN)
    contradictions.refuse(made(*words, "base.base_model=work/mine"))
    with pytest.raises(
        UserError, match=r"base\.base_model=outputs/model: .*cp -rL outputs/model copied_model, and give base"
    ):
        contradictions.refuse(made(*words, "base.base_model=outputs/model"))

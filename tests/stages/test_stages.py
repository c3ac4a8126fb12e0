"""Each stage with the tool's call captured, not run: its exact arguments and files."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import yaml

from tests.conftest import ROOT
from tunetrail import UserError, launch, stages
from tunetrail.config import params
from tunetrail.data import hub, records, sources, world
from tunetrail.stages import base, contract, evaluate, fetch, prepare, train

pytestmark = pytest.mark.stage
PROMPT = {"key": 1, "prompt": "a", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}


@pytest.fixture
def tools(monkeypatch):
    """Capture the commands of stages, in order. `tools.leaves` writes the output of a tool."""

    class Tools(list):
        def leaves(self):
            pass

        def __call__(self, command, log, label, offline):
            self.append((command, label))
            self.offline = offline
            self.leaves()

    called = Tools()
    monkeypatch.setattr(launch, "run_tool", called)
    return called


@pytest.fixture
def checkout(tmp_path, monkeypatch, composed):
    """Write the params.yaml that overrides compose into an empty folder, and return the folder."""

    def write(*overrides):
        params.write_yaml(tmp_path / "params.yaml", composed(*overrides))
        return tmp_path

    monkeypatch.chdir(tmp_path)
    return write


OWN_PROMPTS = ("evaluate=ifeval", "evaluate.path=prompts.jsonl", "evaluate.hub=null")


def write_model(folder):
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "tokenizer.json", "generation_config.json"):
        (Path(folder) / name).write_text(name)
    safetensors.numpy.save_file({"weight": np.ones((3, 4))}, Path(folder, "model.safetensors"))


def write_base(folder, base_model, revision=None, **more):
    """Write the outputs of the stage `base` into `folder`."""
    (folder / "outputs/base").mkdir(parents=True, exist_ok=True)
    described = {"base_model": base_model, "revision": revision} | more
    (folder / "outputs/base/base.json").write_text(json.dumps(described))


def write_rows(folder):
    """Write the outputs of the stage `prepare` into `folder`."""
    for name in ("train", "validation"):
        records.write(folder / f"data/prepared/{name}.jsonl", [{"instruction": "a", "input": "", "output": name}])


def write_training(folder="work/train"):
    """Write the outputs of Axolotl."""
    write_model(folder)
    Path(folder, "history.jsonl").write_text('{"step": 1}\n')


def count_tokens():
    """Run the stages before `contract`, and `contract` with a tokenizer of 300 tokens; return contract.json."""
    from transformers import LlamaConfig

    from tunetrail.training import tiny

    fetch.main()
    prepare.main()
    tiny.save_tokenizer(["some text of a world"], 300, Path("model"))
    LlamaConfig().save_pretrained("model")
    write_base(Path(), "model")
    contract.main()
    return json.loads(Path("outputs/contract/contract.json").read_text())


def test_fetch_makes_the_demos_world_and_prepare_splits_it(checkout):
    checkout("prepare.generate.rows=50", "prepare.generate.documents=20", "prepare.validation_rows=10")
    fetch.main()
    prepare.main()
    raw = {str(file.relative_to("data/raw")): len(records.read(file)) for file in Path("data/raw").glob("*/*")}
    assert raw == {"instructions/world.jsonl": 50, "prompts/world.jsonl": 160, "text/world.jsonl": 20}
    read = sources.read(Path("data/raw"))
    assert {kind: (origin["generator"], origin["rows"]) for kind, origin in read.items()} == {
        kind: (world.SOURCE, rows) for kind, rows in (("instructions", 50), ("text", 20), ("prompts", 160))
    }
    counts = {file.name: len(records.read(file)) for file in Path("data/prepared").iterdir()}
    assert counts == {"train.jsonl": 40, "validation.jsonl": 10, "text.jsonl": 20}


def test_a_file_is_copied_unchanged_and_no_row_is_lost_or_in_both_parts(checkout):
    rows = [{"instruction": f"i{n}", "input": "", "output": f"o{n}"} for n in range(30)]
    Path("rows.json").write_text(json.dumps(rows, indent=1))
    records.write(Path("prompts.jsonl"), [PROMPT])
    checkout("prepare=file", "prepare.path=rows.json", "prepare.validation_rows=5", *OWN_PROMPTS)
    fetch.main()
    prepare.main()
    assert Path("data/raw/instructions/rows.json").read_bytes() == Path("rows.json").read_bytes()
    assert [file.name for file in Path("data/raw").rglob("*.jsonl")] == ["prompts.jsonl"]
    read = sources.read(Path("data/raw"))
    paths = {kind: origin["path"] for kind, origin in read.items()}
    assert paths == {"instructions": "rows.json", "prompts": "prompts.jsonl"}
    assert read["instructions"]["bytes"] == Path("rows.json").stat().st_size
    trained, held_out = (records.read(Path(f"data/prepared/{name}.jsonl")) for name in ("train", "validation"))
    assert len(held_out) == 5
    assert sorted(row["output"] for row in trained + held_out) == sorted(row["output"] for row in rows)
    assert [row["text"] for row in records.read(Path("data/prepared/text.jsonl"))] == [row["output"] for row in trained]


def test_a_hub_dataset_is_fetched_with_the_hubs_own_arguments(checkout, monkeypatch, tmp_path):
    """The client itself is tested in test_hub.py."""
    requests = []

    def answer(**arguments):
        requests.append(arguments)
        (tmp_path / "cache").mkdir(exist_ok=True)
        (tmp_path / "cache" / arguments["filename"]).write_text("[]")
        return tmp_path / "cache" / arguments["filename"]

    monkeypatch.setattr(hub, "fetch", answer)
    checkout("prepare=alpaca_cleaned", "evaluate=ifeval")
    fetch.main()
    assert [(request["repo_id"], request["repo_type"], len(request["revision"])) for request in requests] == [
        ("yahma/alpaca-cleaned", "dataset", 40),
        ("google/IFEval", "dataset", 40),
    ]
    assert Path("data/raw/instructions/alpaca_data_cleaned.json").read_text() == "[]"
    read = sources.read(Path("data/raw"))["instructions"]
    assert (read["hub"]["repo_id"], read["md5"]) == ("yahma/alpaca-cleaned", hashlib.md5(b"[]").hexdigest())


def test_base_passes_its_config_to_axolotl_unchanged_and_keeps_the_model(checkout, tools, composed):
    checkout("prepare.generate.rows=120", "prepare.generate.documents=20")
    fetch.main()
    prepare.main()
    tools.leaves = lambda: write_model("work/base/trained")
    base.main()
    ((command, label),) = tools
    assert (command[-2:], label) == (["axolotl.cli.train", "work/base/axolotl.yaml"], "base")
    assert yaml.safe_load(Path("work/base/axolotl.yaml").read_text()) == composed()["base"]["make"]["train"]
    described = json.loads(Path("outputs/base/base.json").read_text())
    assert described["base_model"] == "outputs/base/model"
    assert len(described["sha256"]) == 64
    assert described["parameters"] == 12
    assert Path("outputs/base/model/model.safetensors").is_file()


def test_base_does_not_copy_existing_weights(checkout, tools):
    write_model("given")
    checkout("model=local", "base.base_model=given")
    base.main()
    assert not tools
    assert [file.name for file in Path("outputs/base").iterdir()] == ["base.json"]
    assert len(json.loads(Path("outputs/base/base.json").read_text())["sha256"]) == 64


def test_train_passes_its_section_to_axolotl_unchanged(checkout, tools, composed):
    write_rows(checkout())
    write_base(Path(), "outputs/base/model")

    def leaves():
        write_training()
        Path("work/train/checkpoint-1").mkdir()

    tools.leaves = leaves
    train.main()
    ((command, label),) = tools
    assert command[1:] == [
        "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", "2",
        "-m", "axolotl.cli.train", "work/train/axolotl.yaml",
    ]  # fmt: skip
    assert label == "train"
    assert yaml.safe_load(Path("work/train/axolotl.yaml").read_text()) == composed()["train"]
    assert Path("outputs/train/history.jsonl").read_text() == '{"step": 1}\n'
    assert "checkpoint-1" not in {file.name for file in Path("outputs/model").iterdir()}


def test_training_removes_old_checkpoints_unless_it_resumes_from_one(checkout, tools):
    tools.leaves = write_training
    checkpoint = Path("work/train/checkpoint-9")
    for overrides, resumes in (((), False), (("+train.resume_from_checkpoint=work/train/checkpoint-9",), True)):
        write_rows(checkout(*overrides))
        write_base(Path(), "outputs/base/model")
        checkpoint.mkdir(parents=True)
        train.main()
        assert checkpoint.is_dir() == resumes


def test_trainings_on_the_same_rows_share_the_tokenised_rows(checkout, tools):
    folders = []

    def leaves():
        write_training()
        section = yaml.safe_load(Path("work/train/axolotl.yaml").read_text())
        folders.append(Path(section["dataset_prepared_path"]).resolve(strict=True))
        (folders[-1] / f"made-{len(folders)}").touch()

    tools.leaves = leaves
    for overrides, digest in (((), "a"), (("train.learning_rate=1.0",), "a"), ((), "b"), (("train.sequence_len=64",), "b")):
        write_rows(checkout(*overrides))
        write_base(Path(), "outputs/base/model", sha256=digest)
        train.main()
    assert folders[0] == folders[1]
    assert len(set(folders)) == 3
    assert sorted(file.name for file in folders[0].glob("made-*")) == ["made-1", "made-2"]
    assert Path("work/shared/tokens").resolve() == folders[0].parent


@pytest.mark.parametrize(
    ("which", "adapter", "model_args", "offline"),
    [
        ("base", False, {"pretrained": "hub/id", "revision": "abc"}, False),
        ("tuned", False, {"pretrained": "outputs/model"}, True),
        ("tuned", True, {"pretrained": "hub/id", "revision": "abc", "peft": "outputs/model"}, False),
    ],
)
def test_evaluate_passes_lm_eval_a_run_config_and_a_task(checkout, tools, which, adapter, model_args, offline):
    records.write(checkout("evaluate.limit=3") / "data/raw/prompts/world.jsonl", [PROMPT])
    write_base(Path(), "hub/id", "abc")
    Path("outputs/model").mkdir()
    Path("outputs/model", "adapter_config.json" if adapter else "config.json").write_text("{}")
    evaluate.main(which)
    ((command, label),) = tools
    work = Path(f"work/evaluate_{which}")
    assert command[1:4] == ["-m", "accelerate.commands.launch", "--cpu"]
    assert command[-5:] == ["-m", "lm_eval", "run", "--config", f"{work}/lm_eval.yaml"]
    assert label == f"evaluate_{which}"
    assert tools.offline == offline
    run = yaml.safe_load((work / "lm_eval.yaml").read_text())
    assert run["model_args"] == {"dtype": "float32", "add_bos_token": None} | model_args
    assert (run["tasks"], run["output_path"], run["limit"]) == (["ifeval_demo"], f"eval_results/{which}", 3)
    assert not {"path", "hub", "template", "task"} & set(run)
    from lm_eval.utils import load_yaml_config

    task = load_yaml_config(str(work / "task" / "ifeval_demo.yaml"))
    assert task["process_results"].__name__ == "process_results"
    assert task["doc_to_text"].endswith('"\\n\\n### Response:\\n" }}')
    assert Path(task["dataset_kwargs"]["data_files"]["train"]) == Path("data/raw/prompts/world.jsonl").resolve()


def test_base_resolves_the_commit_of_a_hub_model(checkout, monkeypatch):
    monkeypatch.setattr(hub, "fetch", lambda repo_id, filename, revision: Path("/cache/snapshots") / ("f" * 40) / filename)
    checkout("model=smollm2_135m")
    base.main()
    described = json.loads(Path("outputs/base/base.json").read_text())
    assert (described["base_model"], described["revision"]) == ("HuggingFaceTB/SmolLM2-135M", "f" * 40)


def test_contract_counts_tokens_with_the_bases_tokenizer(checkout):
    checkout("prepare.generate.rows=60", "prepare.generate.documents=20", "prepare.validation_rows=10")
    card = count_tokens()
    assert [card["rows"][name] for name in ("raw", "train", "train_validation_overlap")] == [60, 50, 0]
    assert card["contamination"]["prompts"] == 160
    assert card["source"] == sources.read(Path("data/raw"))["instructions"]
    answers = sum(len(row["output"].encode()) + 1 for row in records.read(Path("data/prepared/train.jsonl")))
    assert 0.5 * answers < card["tokens"]["supervised"] <= answers  # bytes, fewer where the tokenizer joins them, and EOS


def test_contract_counts_rows_under_a_key_and_empty_ones(checkout):
    rows = [{"instruction": f"i{n}", "output": f"o{n}", "system": "Be brief."} for n in range(8)]
    rows += [rows[0], {"instruction": "a", "input": None, "output": None}]
    Path("rows.json").write_text(json.dumps({"data": rows}))
    records.write(Path("prompts.jsonl"), [PROMPT])
    overrides = ["prepare.path=rows.json", "prepare.field=data", "prepare.empty=drop", "prepare.validation_rows=2"]
    checkout("prepare=file", *overrides, *OWN_PROMPTS)
    card = count_tokens()
    assert {name: card["rows"][name] for name in ("raw", "empty", "duplicate", "train", "validation")} == {
        "raw": 10,
        "empty": 1,
        "duplicate": 1,
        "train": 7,
        "validation": 2,
    }
    assert card["left_out"] == {"system": 9}


def test_a_user_error_ends_a_stage_with_its_message_and_code_2(capsys):
    def main():
        raise UserError("rows.jsonl: no such file")

    with pytest.raises(SystemExit) as ended:
        stages.run(main)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: rows.jsonl: no such file\n"


def test_the_traceback_of_a_stage_shows_no_password(capsys):
    def main():
        raise OSError("postgresql://me:hunter2@host/db: refused")

    with pytest.raises(SystemExit) as ended:
        stages.run(main)
    assert ended.value.code == 1
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert "host/db: refused" in printed
    assert "hunter2" not in printed


def test_the_ifeval_task_is_lm_evals_own_except_for_the_source_of_the_prompts():
    from lm_eval import tasks
    from lm_eval.utils import load_yaml_config

    theirs = load_yaml_config(str(Path(tasks.__file__).parent / "ifeval" / "ifeval.yaml"), mode="simple")
    ours = load_yaml_config(str(ROOT / "src" / "tunetrail" / "evaluation" / "ifeval" / "ifeval.yaml"), mode="simple")
    for key in ("output_type", "test_split", "num_fewshot", "doc_to_target", "metadata"):
        assert ours[key] == theirs[key]
    metrics = [[metric["metric"] for metric in task["metric_list"]] for task in (ours, theirs)]
    assert metrics[0] == [*metrics[1], "tokens", "ended"]

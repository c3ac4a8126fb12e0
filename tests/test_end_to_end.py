"""The shrunken demo through `mlflow run`, really trained, in clones of their own; and the real rows, where they are here.

The tier `slow` adds a chain of the real rows, and a run that is reproduced.
"""

import json
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
import yaml
from mlflow import MlflowClient
from ruamel.yaml import YAML
from safetensors.numpy import load_file

from tests.checkouts import SHRUNKEN, clone, left_running, run, start
from tests.conftest import SHARED
from tunetrail.checkout import dvc
from tunetrail.config import check
from tunetrail.config.params import write as write_params
from tunetrail.data import records
from tunetrail.evaluation import results
from tunetrail.plan import measured
from tunetrail.training import checkpoint, history

pytestmark = pytest.mark.end_to_end

REAL = [
    "experiment=alpaca_tiny",
    "method=lora",
    f"prepare.path={SHARED / 'alpaca' / 'alpaca_en_demo.jsonl'}",
    f"evaluate.path={SHARED / 'ifeval' / 'input_data.jsonl'}",
    "base.make.train.num_epochs=1",
    "train.num_epochs=1",
    "evaluate.limit=24",
    "evaluate.task.generation_kwargs.max_gen_toks=40",
    "accelerate.num_cpu_threads_per_process=1",
    "plan.allow=[OUT_OF_DISK]",
]


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The folder of a run of the real rows that has ended well, and what it printed."""
    for name in ("alpaca/alpaca_en_demo.jsonl", "ifeval/input_data.jsonl", "nltk_data"):
        if not (SHARED / name).exists():
            pytest.skip(f"no {SHARED / name}: point TUNETRAIL_TEST_DATA at a folder that has {name}")
    folder = clone(tmp_path_factory.mktemp("real"))
    done = run(folder, sys.executable, "-m", "tunetrail", "run", *REAL)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


@pytest.fixture
def demo(trained):
    """The demo's folder once its run has finished, and what it printed."""
    return trained.folder, trained.screen


@pytest.fixture
def tracked(demo):
    """The MLflow run of the demo, which is the first in its store, and a client of the store."""
    folder, _ = demo
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tunetrail").experiment_id
    return client.search_runs([experiment], order_by=["attributes.start_time"])[0], client


def test_the_demo_ends_with_the_table_the_figures_and_how_to_open_the_run(demo, tracked):
    folder, screen = demo
    end = screen[screen.index("ifeval_demo: 24 prompts") :]
    for label in ("Prompt Strict", "Prompt Loose", "Inst Strict", "Inst Loose"):
        assert label in end
    assert f"{folder}/report/ifeval.png" in end
    assert tracked[0].info.run_id in end
    assert "make ui" in end
    assert "\r" not in screen
    assert "Traceback" not in screen


def test_every_promised_file_is_left_and_no_other_json_among_the_results(demo):
    folder, _ = demo
    for model in ("base", "tuned"):
        names = [file.name for file in (folder / "eval_results" / model).rglob("*") if file.is_file()]
        assert sorted(name.split("_2")[0] for name in names) == ["results", "samples_ifeval_demo"]
    kept = {file.name for file in (folder / "outputs" / "model").iterdir()}
    assert {"model.safetensors", "tokenizer.json", "generation_config.json", "config.json"} <= kept
    steps, _ = history.read(folder / "outputs" / "train" / "history.jsonl")
    assert steps[-1]["step"] > 10
    assert any("validation/loss" in step for step in steps)
    figures = [f"{name}.{kind}" for name in ("ifeval", "types", "loss", "lengths") for kind in ("png", "svg")]
    for name in ("metrics.json", "samples.md", "data_card.md", "report.html", *figures):
        assert (folder / "report" / name).stat().st_size > 100
    raw = {str(file.relative_to(folder / "data/raw")) for file in (folder / "data" / "raw").rglob("*.*")}
    assert raw == {"instructions/world.jsonl", "prompts/world.jsonl", "text/world.jsonl", "sources.json"}


def test_the_licence_is_said_before_training_starts(demo):
    _, screen = demo
    assert screen.index("licences: data apache-2.0") < screen.index("Running stage 'train'")


@pytest.mark.parametrize("name", ["demo", pytest.param("real", marks=pytest.mark.slow)])
def test_what_was_planned_is_what_was_trained(request, name):
    """Axolotl's own count of steps, and the data card's of tokens, which the stage `contract` makes with transformers."""
    folder, _ = request.getfixturevalue(name)
    planned = json.loads((folder / "work" / "plan.json").read_text())
    trained, _ = history.read(folder / "outputs" / "train" / "history.jsonl")
    assert planned["steps"]["total"] == trained[-1]["step"]
    card = json.loads((folder / "outputs" / "contract" / "contract.json").read_text())
    assert planned["data"]["longest"] == card["tokens"]["longest"]
    assert planned["data"]["train"] == card["rows"]["train"]
    if not planned["data"]["dropped"]:
        assert planned["data"]["tokens"] == card["tokens"]["total"]
        assert planned["data"]["supervised"] == card["tokens"]["supervised"]
    assert planned["data"]["dropped"] == card["tokens"]["over"]
    assert (folder / measured.FILE).is_file()


def test_lm_eval_says_of_each_answer_how_long_it_is_and_whether_it_ended(demo):
    """Counted again from the text: a tokenizer makes of it the tokens that were generated, or fewer."""
    from transformers import AutoTokenizer

    folder, _ = demo
    tokenizer = AutoTokenizer.from_pretrained(folder / "outputs" / "model")
    for model in ("base", "tuned"):
        samples = results.read(folder / "eval_results" / model, 100, 0).samples
        for sample in samples:
            again = len(tokenizer(results.answer(sample), add_special_tokens=False)["input_ids"])
            assert again <= sample["tokens"] <= 60
            assert sample["ended"] or sample["tokens"] == 60
        assert any(len(tokenizer.tokenize(results.answer(sample))) == sample["tokens"] for sample in samples)
    metrics = json.loads((folder / "report" / "metrics.json").read_text())
    assert metrics["health"]["tuned"]["mean_tokens"] == pytest.approx(sum(s["tokens"] for s in samples) / len(samples))


def test_the_raw_data_are_shared_by_push_and_brought_back_by_checkout_and_pull(demo, tmp_path):
    folder, _ = demo
    raw = folder / "data" / "raw"
    before = {file.name: file.read_bytes() for file in raw.rglob("*.jsonl")}
    shutil.rmtree(raw)
    assert run(folder, "dvc", "checkout", "data/raw").returncode == 0
    assert {file.name: file.read_bytes() for file in raw.rglob("*.jsonl")} == before
    assert run(folder, "dvc", "remote", "add", "--local", "--default", "shared", str(tmp_path / "remote")).returncode == 0
    assert run(folder, "dvc", "push", "data/raw").returncode == 0
    run(folder, "dvc", "config", "--local", "cache.dir", str(tmp_path / "empty"))  # as on another machine
    shutil.rmtree(raw)
    assert run(folder, "dvc", "pull", "data/raw").returncode == 0
    assert {file.name: file.read_bytes() for file in raw.rglob("*.jsonl")} == before
    (folder / ".dvc" / "config.local").unlink()


def test_the_loss_curve_moved_while_training_went_on(trained):
    assert any(status == "RUNNING" and points > 0 for status, points in trained.seen)
    assert len({points for status, points in trained.seen if status == "RUNNING"}) > 1


def test_the_mlflow_run_tells_the_whole_story(demo, tracked):
    folder, _ = demo
    recorded, client = tracked
    assert recorded.info.status == "FINISHED"
    assert recorded.info.run_name == "demo"
    values = yaml.safe_load((folder / "params.yaml").read_text())
    assert (
        recorded.data.params.items()
        >= {k: str(v)[:500] for k, v in check.flatten(values).items() if len(str(v)) < 500}.items()
    )
    metrics = json.loads((folder / "report" / "metrics.json").read_text())
    for model in ("base", "tuned"):
        for name, score in metrics["ifeval"][model].items():
            assert recorded.data.metrics[f"ifeval/{model}/{name}"] == pytest.approx(score["value"])
    assert "ifeval/delta/prompt_strict" in recorded.data.metrics
    assert {"time/train_s", "time/base_s", "time/evaluate_tuned_s", "train/supervised_tokens_per_second"} <= set(
        recorded.data.metrics
    )
    steps, _ = history.read(folder / "outputs" / "train" / "history.jsonl")
    curve = client.get_metric_history(recorded.info.run_id, "train/loss")
    assert [point.step for point in curve] == [step["step"] for step in steps if "train/loss" in step]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True).stdout.strip()
    assert recorded.data.tags.items() >= {"git.commit": commit, "git.dirty": "false", "data.rows": "716"}.items()
    needed = (
        "data.md5",
        "model.md5",
        "base.sha256",
        "template.digest",
        "evaluation.digest",
        "versions.axolotl",
        "hardware.cpu",
    )
    assert all(recorded.data.tags[tag] for tag in needed)
    kept = {file.path for file in client.list_artifacts(recorded.info.run_id)}
    assert kept >= {"params.yaml", "dvc.lock", "dvc.yaml", "history.jsonl", "report", "plan.json"}
    reported = {file.path for file in client.list_artifacts(recorded.info.run_id, "report")}
    assert {"report/ifeval.png", "report/types.png", "report/lengths.png", "report/data_card.md"} <= reported
    assert {"ifeval_stopped/tuned/inst_loose", "health/base/looping"} <= set(recorded.data.metrics)
    assert int(recorded.data.tags["data.supervised_tokens"]) > 0
    assert recorded.data.tags["data.license"] == "apache-2.0"
    assert recorded.inputs.dataset_inputs[0].dataset.digest == recorded.data.tags["data.md5"]


def changed(folder, *, params=None, append=None):
    """The stages that DVC would run after a change, which is then taken back."""
    file = folder / (append or "params.yaml")
    before = file.read_text()
    if params:
        values = yaml.safe_load(before)
        for section, keys in params.items():
            values[section] |= keys
        write_params(values, folder)
    elif append:
        file.write_text(before + "\n# changed\n")
    plan = run(folder, "dvc", "repro", "--dry").stdout
    file.write_text(before)
    return {line.split("'")[1] for line in plan.splitlines() if line.startswith("Running stage")}


def test_dvc_finds_all_up_to_date_and_runs_no_more_than_a_change_needs(demo):
    folder, _ = demo
    assert "up to date" in run(folder, "dvc", "status").stdout
    assert changed(folder) == set()
    assert changed(folder, append="src/tunetrail/report/plots.py") == {"report"}
    assert changed(folder, params={"evaluate": {"batch_size": 7}}) == {"evaluate_base", "evaluate_tuned", "report"}


def test_a_licence_and_a_stop_run_no_more_than_the_report(demo):
    folder, _ = demo
    licence = {"prepare": {"license": "mit", "expected_rows": 5}, "base": {"license": "mit"}, "contract": {"license": "mit"}}
    assert changed(folder, params=licence) == {"report"}
    assert changed(folder, params={"report": {"stop": "###"}}) == {"report"}


def test_a_second_run_trains_nothing_and_its_record_is_as_complete(demo, tracked):
    folder, _ = demo
    first, client = tracked
    again = run(folder, sys.executable, "-m", "tunetrail", "run", "--quiet", *SHRUNKEN)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("\nifeval_demo: 24 prompts")
    assert again.stderr == ""
    log = (folder / "work" / "run.log").read_text().rpartition(" tunetrail run\n")[2]
    assert "Running stage" not in log
    assert "Stage 'train' didn't change, skipping" in log
    second = client.search_runs([first.info.experiment_id])[0]
    assert second.info.run_id != first.info.run_id
    assert second.data.tags["train.cached"] == "true"
    assert second.data.tags["train.trained_in"] == first.info.run_id
    curves = [client.get_metric_history(entry.info.run_id, "train/loss") for entry in (first, second)]
    assert [(p.step, p.value, p.timestamp) for p in curves[0]] == [(p.step, p.value, p.timestamp) for p in curves[1]]
    assert second.data.metrics["ifeval/tuned/inst_loose"] == first.data.metrics["ifeval/tuned/inst_loose"]


@pytest.mark.slow
def test_a_run_is_had_again_bit_for_bit(demo, tracked):
    """Every stage but fetch runs anew, in a worktree whose tokens and models are its own."""
    folder, _ = demo
    first, client = tracked
    before = checkpoint.digest(folder / "outputs" / "model"), (folder / "params.yaml").read_text()
    again = run(folder, sys.executable, "-m", "tunetrail", "reproduce", first.info.run_id[:8])
    assert again.returncode == 0, again.stdout + again.stderr
    assert {f"Running stage '{name}'" in again.stdout for name in ("base", "evaluate_base", "train", "evaluate_tuned")} == {
        True
    }
    assert "agrees with" in again.stdout
    assert "differs" not in again.stdout
    second = client.search_runs([first.info.experiment_id])[0]
    assert second.info.status == "FINISHED"
    assert second.data.tags.items() >= {"reproduces": first.info.run_id, "agrees": "bit for bit"}.items()
    assert second.data.tags["overrides"] == first.data.tags["overrides"]
    assert second.data.tags["model.md5"] == first.data.tags["model.md5"]
    assert "time/base_s" in second.data.metrics
    assert (checkpoint.digest(folder / "outputs" / "model"), (folder / "params.yaml").read_text()) == before
    assert not list((folder / "runs").glob("reproduce-*/*"))


@pytest.mark.slow  # tests/runs/test_restore.py has a small project
def test_a_run_that_is_a_dvc_experiment_is_restored_after_another(demo, tracked):
    folder, _ = demo
    first, _ = tracked
    before = checkpoint.digest(folder / "outputs" / "model"), (folder / "report" / "report.html").read_text()
    assert first.data.tags["dvc.experiment"] in run(folder, "dvc", "exp", "list", "--all-commits").stdout
    other = run(folder, sys.executable, "-m", "tunetrail", "run", *SHRUNKEN, "report.samples=3")
    assert other.returncode == 0, other.stderr
    assert (folder / "report" / "report.html").read_text() != before[1]
    back = run(folder, sys.executable, "-m", "tunetrail", "restore", first.info.run_id)
    assert back.returncode == 0, back.stderr
    assert (checkpoint.digest(folder / "outputs" / "model"), (folder / "report" / "report.html").read_text()) == before
    assert "up to date" in run(folder, "dvc", "status").stdout


@pytest.mark.parametrize(
    ("code", "optimizer"),
    [
        ("raise SystemExit('came_pytorch is broken')\n", "adamw_torch"),
        pytest.param("", "came_pytorch", marks=pytest.mark.slow),  # Axolotl fails: that package is not here
    ],
)
def test_a_stage_that_fails_loses_nothing_and_its_run_is_failed(demo, tracked, code, optimizer):
    folder, _ = demo
    _, client = tracked
    before = checkpoint.digest(folder / "outputs" / "model"), (folder / "report" / "metrics.json").read_text()
    stage = folder / "src" / "tunetrail" / "stages" / "train.py"
    text = stage.read_text()
    stage.write_text(code + text)
    try:
        words = ["--quiet", *SHRUNKEN, f"train.optimizer={optimizer}"]
        failed = run(folder, sys.executable, "-m", "tunetrail", "run", *words)
    finally:
        stage.write_text(text)
    assert failed.returncode == 2
    assert "came_pytorch" in failed.stderr
    message, log = failed.stderr.rstrip().splitlines()[-2:]
    assert message.startswith("error: a stage failed")
    assert log == f"The run's output: {folder / 'work' / 'run.log'}"
    assert failed.stdout == ""
    newest = client.search_runs([client.get_experiment_by_name("tunetrail").experiment_id])[0]
    assert newest.info.status == "FAILED"
    assert newest.data.params["train.optimizer"] == optimizer
    assert (checkpoint.digest(folder / "outputs" / "model"), (folder / "report" / "metrics.json").read_text()) == before


def test_a_run_that_is_stopped_is_killed_loses_nothing_and_leaves_nobody_running(demo, tracked):
    folder, _ = demo
    _, client = tracked
    before = checkpoint.digest(folder / "outputs" / "model"), (folder / "data" / "prepared" / "train.jsonl").read_text()
    process = start(folder, sys.executable, "-m", "tunetrail", "run", *SHRUNKEN, "train.learning_rate=1e-4")
    deadline = time.monotonic() + 120
    while "train: python" not in (folder / "screen.txt").read_text() and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    newest = client.search_runs([client.get_experiment_by_name("tunetrail").experiment_id])[0]
    assert newest.info.status == "KILLED"
    assert newest.data.params["train.learning_rate"] == "0.0001"
    after = checkpoint.digest(folder / "outputs" / "model"), (folder / "data" / "prepared" / "train.jsonl").read_text()
    assert after == before
    assert left_running(folder) == []


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["tunetrail run", "checkout.repro", "tunetrail.stages.train", "axolotl.cli.train"])
def test_a_training_that_is_killed_goes_on_and_ends_as_if_it_had_not_been(demo, tracked, killed):
    folder, _ = demo
    first, client = tracked
    rows, _ = history.read(folder / "outputs" / "train" / "history.jsonl")
    losses = [(row["step"], row["train/loss"]) for row in rows if "train/loss" in row]
    model = checkpoint.digest(folder / "outputs" / "model")
    lock = YAML()  # YAML 1.2, as DVC writes it
    stages = lock.load(folder / "dvc.lock")
    del stages["stages"]["train"]
    lock.dump(stages, folder / "dvc.lock")
    shutil.rmtree(folder / ".dvc" / "cache" / "runs")
    shutil.rmtree(folder / "work" / "train")
    words = [sys.executable, "-m", "tunetrail", "run", *SHRUNKEN]
    process = start(folder, *words)
    deadline = time.monotonic() + 120
    while not list(folder.glob("work/train/checkpoint-*/manifest.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    for each in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        if killed in " ".join(each.cmdline()):
            each.kill()
            break
    assert process.wait(timeout=60) != 0
    again = run(folder, *words)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "train: goes on from step" in again.stdout
    assert "continued: attempt 2" in again.stdout
    newest = client.search_runs([first.info.experiment_id])[0]
    assert (newest.info.status, newest.data.tags["tries"], newest.data.tags["train.resumed"]) == ("FINISHED", "2", "exact")
    points = client.get_metric_history(newest.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in points] == losses
    assert checkpoint.digest(folder / "outputs" / "model") == model


@pytest.mark.slow
def test_the_real_rows_and_prompts_go_through_the_whole_chain(real):
    folder, screen = real
    assert "ifeval: 24 prompts" in screen
    prepared = folder / "data" / "prepared"
    assert len(records.read(prepared / "train.jsonl")) + len(records.read(prepared / "validation.jsonl")) == 999
    assert not (prepared / "ifeval.jsonl").exists()
    tuned = results.read(folder / "eval_results" / "tuned", 100, 0)
    assert tuned.task == "ifeval"
    shown = tuned.samples[0]["arguments"]["gen_args_0"]["arg_0"]
    assert shown.startswith("Below is an instruction")
    assert shown.endswith("\n\n### Response:\n")
    raw = folder / "data" / "raw" / "instructions" / "alpaca_en_demo.jsonl"
    assert raw.read_bytes() == (SHARED / "alpaca" / "alpaca_en_demo.jsonl").read_bytes()
    assert dvc.md5(folder, dvc.locked_stages(folder), "fetch", str(SHARED / "alpaca" / "alpaca_en_demo.jsonl"))


@pytest.mark.slow
def test_an_adapter_is_trained_kept_and_scored_on_its_base(real):
    """The chain of the real rows trains with method=lora."""
    folder, _ = real
    kept = {file.name for file in (folder / "outputs" / "model").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= kept
    assert "model.safetensors" not in kept
    evaluation = json.loads(next((folder / "eval_results" / "tuned").glob("*/results_*.json")).read_text())
    assert evaluation["config"]["model_args"]["peft"] == "outputs/model"
    assert evaluation["config"]["model_args"]["pretrained"] == "outputs/base/model"
    base, tuned = (results.read(folder / "eval_results" / model, 100, 0) for model in ("base", "tuned"))
    assert base.digest == tuned.digest
    weights = load_file(folder / "outputs" / "model" / "adapter_model.safetensors")
    learned = [weight for name, weight in weights.items() if "lora_B" in name]  # zeros until they are trained
    assert learned
    assert all(weight.any() for weight in learned)

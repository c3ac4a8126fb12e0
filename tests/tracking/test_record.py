import json
import os
import platform
import re

import pytest

from tests.stage_outputs import left_by_a_run
from tunetrail import machine
from tunetrail.report import metrics, page
from tunetrail.tracking import record


class RunDouble:
    """Stand in for `mlflow_run.Run` and record the calls; the real class is tested against a real store."""

    def __init__(self):
        self.id = "run"
        self.calls = {}

    def __getattr__(self, method):
        return lambda *args, **kwargs: self.calls.setdefault(method, []).append((*args, *kwargs.values()))


def test_scores_of_both_models_and_their_difference_have_short_stable_names(tmp_path):
    left_by_a_run(tmp_path)
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    names = ("prompt_strict", "prompt_loose", "inst_strict", "inst_loose")
    health = ("ended", "empty", "says_nothing", "looping", "unusable", "runs_on", "mean_tokens", "mean_words")
    scores = record.scores(metrics)
    models = ("base", "tuned", "delta")
    assert set(scores) == {
        *(f"{kind}/{model}/{name}" for kind in ("ifeval", "ifeval_stopped") for model in models for name in names),
        *(f"health/{model}/{name}" for model in ("base", "tuned") for name in health),
    }
    base, tuned, delta = (scores[f"ifeval/{model}/prompt_strict"] for model in models)
    assert delta == pytest.approx(tuned - base)


def test_an_incomplete_line_of_a_killed_stage_is_ignored(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "seconds.jsonl").write_text('{"stage": "base", "seconds": 1.5}\n{"stage": "tra{"stage": "x"}\n{"st')
    assert record.seconds(tmp_path) == {"time/base_s": 1.5}


def test_the_outputs_of_the_stages_are_uploaded_with_whether_the_model_came_from_the_cache(tmp_path, composed, monkeypatch):
    left_by_a_run(tmp_path)
    monkeypatch.setattr(record, "trained_in", lambda run, md5: "earlier")
    live, cached = RunDouble(), RunDouble()
    record.upload(live, tmp_path, composed())
    (tmp_path / "work" / "seconds.jsonl").write_text('{"stage": "report", "seconds": 1.0}\n')
    record.upload(cached, tmp_path, composed())
    for run in (live, cached):  # the run itself sends each point once
        assert [len(rows) for (rows,) in run.calls["steps"]] == [3]
    tags = {key: value for (logged,) in cached.calls["tags"] for key, value in logged.items()}
    assert tags["train.trained_in"] == "earlier"
    assert not any("train.cached" in logged for (logged,) in live.calls["tags"])
    assert (tags["model.md5"], tags["data.md5"], tags["data.rows"]) == ("model", "of the rows", 1)
    assert tags["evaluation.digest"] == json.loads((tmp_path / "report" / "metrics.json").read_text())["evaluation_digest"]
    assert tags["data.license"] == "apache-2.0"
    counts = ("empty", "duplicate", "repeated_question", "train_validation_overlap", "tokens", "supervised_tokens")
    counts += ("over_share", "contaminated_prompts", "contaminated_prompts_exact")
    assert {f"data.{name}" for name in counts} <= set(tags)
    assert (tags["data.duplicate"], tags["data.tokens"], tags["data.over_share"]) == ("1", "12", "0")
    assert not [name for (logged,) in cached.calls["metrics"] for name in logged if name.startswith("data/")]
    assert tags["base.sha256"] == "of the base"
    assert live.calls["metrics"][0][0]["time/train_s"] == 5.0
    assert (tags["versions.axolotl"], tags["versions.lm-eval"]) == ("0.1", "0.4.11")


def test_the_recorded_source_is_the_one_that_was_read_and_not_the_composed_one(tmp_path, composed):
    left_by_a_run(tmp_path)
    run = RunDouble()
    record.upload(run, tmp_path, composed())
    tags = {key: value for (logged,) in run.calls["tags"] for key, value in logged.items()}
    assert tags["data.source"] == "my/rows.jsonl"
    ((name, md5, source, _),) = run.calls["dataset"]
    assert (name, md5, source) == ("rows", "of the rows", "my/rows.jsonl")


def test_the_description_has_the_alerts_the_score_table_the_base_and_the_data(tmp_path, composed):
    left_by_a_run(tmp_path)
    run = RunDouble()
    record.upload(run, tmp_path, composed("method=lora"))
    text = {key: value for (logged,) in run.calls["tags"] for key, value in logged.items()}["mlflow.note.content"]
    assert text.startswith("**Of the answers of base 33.3% never end")
    row = r"^\| Prompt Strict \| 0\.0 \[.*\] \| 66\.7 \[.*\] \| \+66\.7 \[.*\] p = 0\.500 \|$"
    assert re.search(row, text, re.MULTILINE)
    assert "`outputs/base/model` was trained on 1 rows of `my/rows.jsonl`" in text
    assert "method lora, rank 16, alpha 32; " in text


def about(run):
    """Return the content of work/run.json."""
    return {
        "id": run,
        "name": "demo",
        "started": "2026-01-01 10:00+00:00",
        "commit": "c0ffee",
        "dirty": False,
        "machine": "host, 2 x cpu",
        "training": {"method": "full: every weight"},
        "overrides": "seed=7",
        "experiment": "demo",
        "differs": [[["seed", "train.seed"], "7", "42"]],
    }


def test_a_cached_report_gets_the_head_of_the_current_run_and_names_the_run_that_made_it(tmp_path, composed, monkeypatch):
    left_by_a_run(tmp_path)

    def recorded(run_id):
        """Upload a run; return the recorded calls and the page that it shows."""
        run = RunDouble()
        monkeypatch.setenv(metrics.RUN, run_id)
        (tmp_path / "work" / "run.json").write_text(json.dumps(about(run_id)))
        return run, record.upload(run, tmp_path, composed())

    file, headed = tmp_path / "report" / "report.html", tmp_path / "work" / "report.html"
    file.write_text(made_earlier := f"<h1>demo</h1>\n{page.head(about('earlier'))}<p>scores</p>")
    later, shown = recorded("later")
    assert shown == headed
    ((name, text),) = later.calls["text"]
    assert name == "report/report.html"
    assert headed.read_text() == text
    assert file.read_text() == made_earlier
    assert text.count("<!-- run -->") == 1
    assert "<tr><th>Run</th><td>later (demo)</td></tr>" in text
    assert "The results below are those of run earlier with the same parameters, data and code" in text
    assert text.startswith("<h1>demo</h1>\n")
    assert text.endswith("<p>scores</p>")
    made, shown = recorded("earlier")
    assert shown == file
    assert not headed.exists()
    assert "text" not in made.calls
    file.write_text(f"<h1>demo</h1>\n{page.head(None)}<p>scores</p>")  # written by the stage alone, before this run
    alone, shown = recorded("later")
    ((_, text),) = alone.calls["text"]
    assert "later (demo)" in text
    assert "made by run" not in text
    monkeypatch.delenv(metrics.RUN)  # as after a run that was killed
    without = RunDouble()
    assert record.upload(without, tmp_path, composed()) == file
    assert "text" not in without.calls


def test_the_logs_of_the_tools_that_ran_are_uploaded_and_those_of_an_earlier_run_are_not(tmp_path):
    names = ("train/axolotl.log", "train/axolotl.yaml", "evaluate_base/lm_eval.log", "old/axolotl.log", "top.log")
    for name in names:
        (tmp_path / "work" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "work" / name).touch()
        os.utime(tmp_path / "work" / name, (100, 50 if name.startswith("old") else 100))
    run = RunDouble()
    record.upload_logs(run, tmp_path, 99.5)
    work = tmp_path / "work"
    assert run.calls["artifacts"] == [
        (work / "evaluate_base", "lm_eval.log", "logs/evaluate_base"),
        (work / "train", "axolotl.log", "logs/train"),
    ]
    record.upload_logs(run, tmp_path / "none", 0.0)
    assert len(run.calls["artifacts"]) == 2


def locked(root):
    return {name: text for name, text in record.environment(root, {}).items() if not name.startswith("versions.")}


def test_the_machine_is_recorded_with_its_python(tmp_path):
    hardware = {"cpu": "2 x cpu", "gpu": "card"}
    python = {"versions.python": platform.python_version()}
    assert record.environment(tmp_path, hardware) == {"hardware.cpu": "2 x cpu", "hardware.gpu": "card"} | python


def test_the_environment_is_the_lock_file_of_this_torch_by_its_digest(tmp_path, monkeypatch):
    assert locked(tmp_path) == {}
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "default.txt").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # the example of FIPS 180-2, appendix B.1
    assert locked(tmp_path) == {"lock.sha256": digest}
    monkeypatch.setattr(machine, "torch_build", lambda: machine.Build("rocm", ""))  # installed from another file
    assert locked(tmp_path) == {}
    (tmp_path / "requirements" / "rocm.txt").write_bytes(b"abc")
    assert locked(tmp_path) == {"lock.sha256": digest}

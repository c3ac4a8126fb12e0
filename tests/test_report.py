"""The report stage on what the other stages leave, in the tools' real shapes."""

import json
import re
from html.parser import HTMLParser

import pytest
import yaml

from tests.test_results import evaluation
from tunetrail import history, params, results
from tunetrail.stages import report

pytestmark = pytest.mark.stage


def left_by_a_run(folder):
    """The files below `folder` that a run of three prompts leaves."""
    evaluation(folder / "eval_results" / "base", [[False], [False, True], [False]])
    evaluation(folder / "eval_results" / "tuned", [[True], [True, True], [False]])
    steps = folder / "outputs" / "train" / "history.jsonl"
    history.append(steps, 0, 1.0, {"eval_loss": 3})
    history.append(steps, 1, 2.0, {"loss": 2, "learning_rate": 1e-3})
    history.append(steps, 2, 3.0, {"loss": 1, "learning_rate": 5e-4})
    (folder / "outputs" / "train" / "versions.json").write_text('{"axolotl": "0.1"}')
    (folder / "outputs" / "base").mkdir()
    base = {"base_model": "outputs/base/model", "revision": None, "sha256": "of the base"}
    (folder / "outputs" / "base" / "base.json").write_text(json.dumps(base))
    (folder / "data" / "prepared").mkdir(parents=True)
    (folder / "data" / "prepared" / "train.jsonl").write_text("{}\n{}\n")
    (folder / "work").mkdir()
    (folder / "work" / "seconds.jsonl").write_text('{"stage": "train", "seconds": 5.0}\n')
    lock = {
        "prepare": {"deps": [{"path": "src/tunetrail/world.py", "md5": "data"}]},
        "train": {"outs": [{"path": "outputs/model", "md5": "model"}]},
    }
    (folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": lock}))
    sections = {
        "report": {"samples": 2, "resamples": 50, "seed": 0},
        "prepare": {},
        "train": {},
        "evaluate": {"limit": None},
    }
    params.write_yaml(folder / "params.yaml", sections)
    (folder / "report").mkdir()
    found = [results.read(folder / "eval_results" / model, 50, 0) for model in ("base", "tuned")]
    (folder / "report" / "metrics.json").write_text(json.dumps(results.compare(*found)))


@pytest.fixture
def reported(tmp_path, monkeypatch):
    left_by_a_run(tmp_path)
    samples = next((tmp_path / "eval_results" / "tuned").glob("*/samples_*"))
    samples.write_text(samples.read_text().replace("answer\u2028 0", "<script>alert(1)</script> | two\\nlines"))
    monkeypatch.chdir(tmp_path)
    report.main()
    return tmp_path / "report"


def test_metrics_hold_both_models_their_difference_and_n(reported):
    metrics = json.loads((reported / "metrics.json").read_text())
    assert (metrics["prompts"], metrics["instructions"]) == (3, 4)
    assert metrics["ifeval"]["base"]["prompt_strict"]["value"] == 0
    assert metrics["ifeval"]["delta"]["prompt_strict"] == pytest.approx(2 / 3)
    tuned = metrics["ifeval"]["tuned"]["inst_strict"]
    assert tuned["low"] <= tuned["value"] == 0.75 <= tuned["high"]
    assert metrics["train"] == {"steps": 2, "loss": 1.0, "validation_loss": 3.0}


def test_every_promised_file_is_there(reported):
    names = {"metrics.json", "ifeval.png", "ifeval.svg", "loss.png", "loss.svg", "samples.md", "report.html"}
    assert {file.name for file in reported.iterdir()} == names


def test_samples_stand_side_by_side_and_an_answer_cannot_break_the_table(reported):
    lines = (reported / "samples.md").read_text().split("\n")
    assert "## 1. prompt 0" in lines
    assert "| base ✗ | tuned ✓ |" in lines
    assert "| answer\u2028 0 | " + r"&lt;script&gt;alert(1)&lt;/script&gt; \| two<br>lines |" in lines
    assert not any("prompt 2" in line for line in lines)


def test_the_page_is_self_contained_and_runs_nothing_that_a_model_wrote(reported):
    text = (reported / "report.html").read_text()
    tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append((tag, dict(attributes)))
    parser.feed(text)
    assert [tag for tag, _ in tags].count("svg") == 2
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in tags}
    assert not any(
        re.match("https?:", a.get("href") or a.get("src") or "") for tag, a in tags if tag in ("a", "image", "use")
    )
    assert "&lt;script&gt;alert(1)" in text

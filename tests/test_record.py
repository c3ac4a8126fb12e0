import json

import pytest

from tests.test_report import left_by_a_run
from tunetrail import record


class Kept:
    """Stands where `tracking.Run` does and keeps what it is told; the real one is tested against a real store."""

    def __init__(self, logged=0):
        self.logged, self.id, self.said = logged, "run", {}

    def __getattr__(self, word):
        return lambda *given: self.said.setdefault(word, []).append(given)


def test_scores_of_both_models_and_their_difference_have_short_stable_names(tmp_path):
    left_by_a_run(tmp_path)
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    names = ("prompt_strict", "prompt_loose", "inst_strict", "inst_loose")
    health = ("ended", "empty", "looping", "runs_on", "mean_tokens", "mean_words")
    data = ("rows", "empty", "duplicate", "repeated_question", "train_validation_overlap", "tokens", "supervised_tokens")
    data += ("over_share", "contaminated_prompts", "contaminated_prompts_exact")
    scores = record.scores(metrics)
    models = ("base", "tuned", "delta")
    assert set(scores) == {
        *(f"{kind}/{model}/{name}" for kind in ("ifeval", "ifeval_stopped") for model in models for name in names),
        *(f"health/{model}/{name}" for model in ("base", "tuned") for name in health),
        *(f"data/{name}" for name in data),
    }
    base, tuned, delta = (scores[f"ifeval/{model}/prompt_strict"] for model in models)
    assert delta == pytest.approx(tuned - base)


def test_only_the_lines_that_the_live_view_has_not_are_uploaded(tmp_path, composed, monkeypatch):
    left_by_a_run(tmp_path)
    monkeypatch.setattr(record, "trained_in", lambda run, md5: "earlier")
    live, cached = Kept(logged=2), Kept()
    record.upload(live, tmp_path, composed())
    (tmp_path / "work" / "seconds.jsonl").write_text('{"stage": "report", "seconds": 1.0}\n')
    record.upload(cached, tmp_path, composed())
    assert [len(rows) for (rows,) in live.said["steps"]] == [1]
    assert [len(rows) for (rows,) in cached.said["steps"]] == [3]
    tags = {key: value for (given,) in cached.said["tags"] for key, value in given.items()}
    assert tags["train.trained_in"] == "earlier"
    assert not any("train.cached" in given for (given,) in live.said["tags"])
    assert (tags["model.md5"], tags["data.md5"], tags["data.rows"]) == ("model", "of the rows", 1)
    assert tags["evaluation.digest"] == json.loads((tmp_path / "report" / "metrics.json").read_text())["evaluation_digest"]
    assert tags["data.license"] == "apache-2.0"
    assert tags["base.sha256"] == "of the base"
    assert live.said["metrics"][0][0]["time/train_s"] == 5.0
    assert (tags["versions.axolotl"], tags["versions.lm-eval"]) == ("0.1", "0.4.11")


def test_a_hub_dataset_is_named_with_its_revision(tmp_path, composed):
    left_by_a_run(tmp_path)
    kept = Kept()
    record.upload(kept, tmp_path, composed("prepare=alpaca_cleaned"))
    ((name, _, source, _),) = kept.said["dataset"]
    assert name == "alpaca_data_cleaned"
    assert source == ("hf://datasets/yahma/alpaca-cleaned@12567cabf869d7c92e573c7c783905fc160e9639/alpaca_data_cleaned.json")

import json

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
    scores = record.scores(metrics)
    assert set(scores) == {f"ifeval/{model}/{name}" for model in ("base", "tuned", "delta") for name in names}
    assert scores["ifeval/delta/prompt_strict"] == scores["ifeval/tuned/prompt_strict"] - scores["ifeval/base/prompt_strict"]


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
    assert (tags["model.md5"], tags["data.md5"], tags["data.rows"]) == ("model", "data", 2)
    assert tags["base.sha256"] == "of the base"
    assert live.said["metrics"][0][0]["time/train_s"] == 5.0
    assert (tags["versions.axolotl"], tags["versions.lm-eval"]) == ("0.1", "0.4.11")


def test_another_evaluation_or_other_prompts_have_another_digest(tmp_path, composed):
    left_by_a_run(tmp_path)
    values, changed = composed(), composed("evaluate.batch_size=1")
    stages = {"evaluate_base": {"deps": [{"path": values["evaluate"]["path"], "md5": "prompts"}]}}
    digest = record.lineage(tmp_path, values, stages)["evaluation.digest"]
    assert digest != record.lineage(tmp_path, changed, stages)["evaluation.digest"]
    assert digest != record.lineage(tmp_path, values, {})["evaluation.digest"]
    assert digest == record.lineage(tmp_path, composed(), stages)["evaluation.digest"]

"""Whether a run may start, with the tools' answers and the prediction replaced."""

import pytest

from tests.planned import facts
from tunetrail import UserError
from tunetrail.plan import gate
from tunetrail.plan.estimate.known import NotKnown

RECIPE = ("experiment=llama3_8b_alpaca", "plan.device=mi300x", "plan.num_gpus=8")


@pytest.fixture
def predicted(monkeypatch, tmp_path):
    """Let the tools accept everything but what a test replaces, and predict the facts with these changes."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(gate.acceptance, "ask", lambda *_: dict)
    monkeypatch.setattr(gate.instructions, "ask", lambda *_: str)
    monkeypatch.setattr(gate.inputs, "check", lambda values: None)

    def predict(**changes):
        monkeypatch.setattr(gate.prediction, "predict", lambda values, *_: facts(values, **changes))

    predict()
    return predict


def test_a_run_without_errors_is_printed_and_may_start(composed, tmp_path, capsys, predicted):
    plan = gate.check_run(composed(*RECIPE), tmp_path)
    printed = capsys.readouterr().out
    assert printed.startswith("model ")
    assert "warning NON_COMMERCIAL" in printed
    assert [finding.code for finding in plan.findings] == ["NON_COMMERCIAL"]
    assert plan.to_dict()["findings"] == [vars(finding) for finding in plan.findings]
    assert plan.to_dict()["device"]["from"] == plan.facts.device.origin


def test_a_refused_run_is_printed_first_and_an_allowed_error_refuses_nothing(composed, tmp_path, capsys, predicted):
    predicted(steps={"total": 27}, schedule={"warmup": 100})
    with pytest.raises(
        UserError, match=r"the plan has errors, so the run was not started: WARMUP_NEVER_ENDS\. .*'plan\.allow=\[WARM"
    ):
        gate.check_run(composed(*RECIPE), tmp_path)
    assert "error WARMUP_NEVER_ENDS" in capsys.readouterr().out
    plan = gate.check_run(composed(*RECIPE, "plan.allow=[WARMUP_NEVER_ENDS]"), tmp_path)
    assert "allowed WARMUP_NEVER_ENDS" in capsys.readouterr().out
    assert (plan.errors, plan.allowed) == ([], ["WARMUP_NEVER_ENDS"])


def test_a_tools_refusal_is_listed_with_the_other_errors_and_cannot_be_allowed(composed, tmp_path, monkeypatch, predicted):
    predicted(steps={"total": 27}, schedule={"warmup": 100})
    monkeypatch.setattr(gate.instructions, "ask", lambda *_: lambda: "row 2: no such id")
    plan = gate.plan(composed(*RECIPE), tmp_path)
    assert [finding.code for finding in plan.findings][:2] == ["CHECKERS_REFUSE", "WARMUP_NEVER_ENDS"]
    assert plan.findings[-1].level == "WARNING"
    with pytest.raises(UserError, match=r"CHECKERS_REFUSE,WARMUP_NEVER_ENDS") as refused:
        gate.check_run(composed(*RECIPE), tmp_path)
    assert "plan.allow" not in str(refused.value)


def test_a_job_is_refused_without_a_printed_plan(composed, tmp_path, capsys, predicted):
    gate.check_job(composed(*RECIPE), tmp_path)
    predicted(steps={"total": 27}, schedule={"warmup": 100})
    with pytest.raises(UserError, match=r"^its plan has errors: WARMUP_NEVER_ENDS"):
        gate.check_job(composed(*RECIPE), tmp_path)
    assert capsys.readouterr().out == ""


def test_a_run_that_cannot_be_predicted_starts_without_a_plan_unless_a_tool_refuses_it(
    composed, tmp_path, monkeypatch, capsys, predicted
):
    def predict(*_):
        raise NotKnown("org/other is not in the hub's cache")

    monkeypatch.setattr(gate.prediction, "predict", predict)
    plan = gate.check_run(composed(*RECIPE), tmp_path)
    assert capsys.readouterr().out == "no plan: org/other is not in the hub's cache\n"
    assert (plan.facts, plan.findings, plan.to_dict()) == (None, [], {"findings": []})
    monkeypatch.setattr(gate.instructions, "ask", lambda *_: lambda: "row 2: no such id")
    with pytest.raises(UserError, match=r"the plan has errors, so the run was not started: CHECKERS_REFUSE"):
        gate.check_run(composed(*RECIPE), tmp_path)


def test_a_run_on_data_neither_here_nor_on_record_cannot_be_predicted(composed, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(gate.acceptance, "ask", lambda *_: dict)
    words = ("experiment=smollm2_135m_alpaca_lora", "prepare.hub.repo_id=org/other", "plan.device=h100")
    plan = gate.plan(composed(*words), tmp_path)
    assert plan.unknown.startswith("org/other is not in the hub's cache")
    assert (plan.facts, plan.findings) == (None, [])

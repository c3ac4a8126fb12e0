"""Rules that warn; each bound is tested on both sides, and each fix is applied and judged again."""

import pytest

from tests.planned import assert_one_finding_per_rule, facts, fixed, judged
from tunetrail.plan.rules import risks
from tunetrail.plan.rules.finding import WARNING
from tunetrail.units import GIB

CORRECTED = "experiment=llama3_8b_alpaca"
PUBLISHED = "experiment=llama3_8b_alpaca_published"
TINY = {"parameters": 821_000}


def test_every_finding_has_the_code_of_its_rule_and_is_a_warning(composed):
    values = composed(
        PUBLISHED,
        "base.revision_of_model=main",
        "+train.trust_remote_code=true",
        "train.learning_rate=1e-1",
        "plan.num_gpus=4",
    )
    planned = facts(
        values,
        steps={"total": 27, "rows_per_step": 5400.0},
        data={"dropped": 30_000},
        disk={"checkpoints": 3},
        flops={"validation": 1.92e18},
    )
    findings = [rule(values, planned) for rule in risks.RULES]
    assert_one_finding_per_rule(risks.RULES, WARNING, findings)


# Checkpoints.


@pytest.mark.parametrize(("number", "warned"), [(0, False), (1, False), (2, True), (5, True)])
def test_more_than_one_checkpoint_is_reported(composed, known, number, warned):
    finding = judged(risks.checkpoints_kept, composed, PUBLISHED, disk={"checkpoints": number, "checkpoint": 33 * GIB})
    assert bool(finding) == warned
    if warned:
        assert finding.what == f"{number} checkpoints of 33.0 GiB are kept, and no train.save_total_limit"
        assert fixed(composed, known, finding, PUBLISHED)["train"]["save_total_limit"] == 1


def test_a_limit_of_checkpoints_that_the_user_set_is_not_reported(composed):
    assert judged(risks.checkpoints_kept, composed, CORRECTED, disk={"checkpoints": 2}) is None


# Origins of models and data.


@pytest.mark.parametrize(
    ("words", "warned"),
    [
        ((CORRECTED,), False),
        ((CORRECTED, "base.revision_of_model=main"), True),
        ((CORRECTED, "base.revision_of_model=null"), True),
        ((CORRECTED, "base.revision_of_model=8cde5ca"), True),
        ((CORRECTED, f"base.revision_of_model={'8cde5ca8' * 5}-dirty"), True),
        (("model=local", "base.base_model=my-model"), False),
        ((), False),  # the demo makes its own
    ],
)
def test_a_model_of_the_hub_is_pinned_by_a_whole_commit(composed, known, words, warned):
    finding = judged(risks.unpinned, composed, *words)
    assert bool(finding) == warned
    if warned:
        assert "meta-llama/Meta-Llama-3-8B" in finding.what
        assert fixed(composed, known, finding, *words)["train"]["model_revision"] == "COMMIT"


@pytest.mark.parametrize(
    ("license", "warned"),
    [
        *(("cc-by-nc-4.0", True), ("cc-by-nc-sa-4.0", True), ("CC-BY-NC-ND-3.0", True), ("intel-research", True)),
        *(("fair-noncommercial-research-license", True), ("apache-2.0", False), ("cc-by-4.0", False), ("llama3", False)),
        *(("ncsa", False), (None, False)),
    ],
)
def test_a_licence_that_forbids_commercial_use_is_reported(composed, license, warned):
    assert bool(judged(risks.non_commercial, composed, data={"license": license})) == warned
    values = composed() | {"base": composed()["base"] | {"license": license}}
    assert bool(risks.non_commercial(values, facts(values))) == warned


def test_the_licence_warning_is_fixed_by_other_data_and_another_base(composed, known):
    words = (CORRECTED, "base.license=cc-by-nc-4.0")
    finding = judged(risks.non_commercial, composed, *words)
    assert finding.what == "the data's licence is cc-by-nc-4.0 and the base model's licence is cc-by-nc-4.0"
    values = fixed(composed, known, finding, *words)
    assert risks.non_commercial(values, facts(values)) is None
    assert (values["prepare"]["hub"], values["base"]["base_model"]) == (None, "ORG/NAME")


@pytest.mark.parametrize(
    "key", ["train.trust_remote_code", "evaluate.trust_remote_code", "evaluate.model_args.trust_remote_code"]
)
def test_trusting_a_models_remote_code_is_reported_in_every_section(composed, known, key):
    assert judged(risks.remote_code, composed, f"+{key}=false") is None
    finding = judged(risks.remote_code, composed, f"+{key}=true")
    assert finding.what == f"{key}: on"
    values = fixed(composed, known, finding, f"+{key}=true")
    assert risks.remote_code(values, facts(values)) is None


# Telemetry.


def test_telemetry_that_is_turned_on_is_reported_by_tool():
    finding = risks.telemetry_on({"MLFLOW_DISABLE_TELEMETRY": "false"})
    assert (finding.code, finding.level) == ("TELEMETRY_ON", WARNING)
    assert finding.what == "the environment turns on the telemetry of MLflow"
    assert finding.fix == "unset MLFLOW_DISABLE_TELEMETRY"
    assert risks.telemetry_on({}) is None


# The plan's devices.


def test_a_plan_for_other_gpus_than_the_run_takes_is_reported(composed, known):
    words = ("experiment=llama3_8b_alpaca_lora", "plan.num_gpus=8")
    values = composed(*words)
    finding = risks.planned_otherwise(values, facts(values))
    assert finding.what == "the plan is for 8 x mi300x and the run would use one GPU"
    after = fixed(composed, known, finding, *words)
    assert (after["accelerate"]["num_processes"], after["accelerate"]["multi_gpu"]) == (8, True)
    assert risks.planned_otherwise(after, facts(after)) is None


def test_a_gpu_planned_for_a_run_on_the_cpu_is_reported(composed):
    values = composed()
    finding = risks.planned_otherwise(values, facts(values))
    assert finding.what.endswith("the run would use this machine's CPU")
    assert finding.fix == "hardware=rocm"
    here = {"name": "cpu", "count": 1, "maker": ""}
    assert risks.planned_otherwise(values, facts(values, device=here)) is None
    values = composed("hardware=cuda")
    assert risks.planned_otherwise(values, facts(values, device=here)).fix == "hardware=cpu"
    values = composed("plan.num_gpus=2")
    fix = risks.planned_otherwise(values, facts(values)).fix
    assert fix == "hardware=rocm accelerate.num_processes=2 ++accelerate.multi_gpu=true"

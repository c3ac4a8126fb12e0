"""Rules that warn; each bound is tried on both sides, and each fix typed and looked at again."""

import pytest

from tests.planned import each_of_its_own, facts, fixed, said
from tunetrail.plan.rules import risks
from tunetrail.plan.rules.finding import WARNING
from tunetrail.units import GIB

PUT_RIGHT = "experiment=llama3_8b_alpaca"
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
    found = facts(
        values,
        steps={"total": 27, "rows_per_step": 5400.0},
        data={"dropped": 30_000},
        disk={"checkpoints": 3},
        flops={"validation": 1.92e18},
    )
    all_said = [rule(values, found) for rule in risks.RULES]
    each_of_its_own(risks.RULES, WARNING, all_said)


# Checkpoints.


@pytest.mark.parametrize(("number", "warned"), [(0, False), (1, False), (2, True), (5, True)])
def test_one_checkpoint_is_kept_without_a_word(composed, known, number, warned):
    found = said(risks.checkpoints_kept, composed, PUBLISHED, disk={"checkpoints": number, "checkpoint": 33 * GIB})
    assert bool(found) == warned
    if warned:
        assert found.what == f"{number} checkpoints of 33.0 GiB are kept, and no train.save_total_limit"
        assert fixed(composed, known, found, PUBLISHED)["train"]["save_total_limit"] == 1


def test_a_limit_is_what_the_person_wants(composed):
    assert said(risks.checkpoints_kept, composed, PUT_RIGHT, disk={"checkpoints": 2}) is None


# Where things come from.


@pytest.mark.parametrize(
    ("words", "warned"),
    [
        ((PUT_RIGHT,), False),
        ((PUT_RIGHT, "base.revision_of_model=main"), True),
        ((PUT_RIGHT, "base.revision_of_model=null"), True),
        ((PUT_RIGHT, "base.revision_of_model=8cde5ca"), True),
        ((PUT_RIGHT, f"base.revision_of_model={'8cde5ca8' * 5}-dirty"), True),
        (("model=local", "base.base_model=my-model"), False),
        ((), False),  # the demo makes its own
    ],
)
def test_a_model_of_the_hub_is_pinned_by_a_whole_commit(composed, known, words, warned):
    found = said(risks.unpinned, composed, *words)
    assert bool(found) == warned
    if warned:
        assert "meta-llama/Meta-Llama-3-8B" in found.what
        assert fixed(composed, known, found, *words)["train"]["model_revision"] == "COMMIT"


@pytest.mark.parametrize(
    ("license", "warned"),
    [
        *(("cc-by-nc-4.0", True), ("cc-by-nc-sa-4.0", True), ("CC-BY-NC-ND-3.0", True), ("intel-research", True)),
        *(("fair-noncommercial-research-license", True), ("apache-2.0", False), ("cc-by-4.0", False), ("llama3", False)),
        *(("ncsa", False), (None, False)),
    ],
)
def test_a_licence_that_forbids_commercial_use_is_said(composed, license, warned):
    assert bool(said(risks.non_commercial, composed, data={"license": license})) == warned
    values = composed() | {"base": composed()["base"] | {"license": license}}
    assert bool(risks.non_commercial(values, facts(values))) == warned


def test_other_data_and_another_base_mend_it(composed, known):
    words = (PUT_RIGHT, "base.license=cc-by-nc-4.0")
    found = said(risks.non_commercial, composed, *words)
    assert found.what == "the data's licence is cc-by-nc-4.0 and the base model's licence is cc-by-nc-4.0"
    values = fixed(composed, known, found, *words)
    assert risks.non_commercial(values, facts(values)) is None
    assert (values["prepare"]["hub"], values["base"]["base_model"]) == (None, "ORG/NAME")


@pytest.mark.parametrize(
    "key", ["train.trust_remote_code", "evaluate.trust_remote_code", "evaluate.model_args.trust_remote_code"]
)
def test_code_that_comes_with_a_model_is_said_wherever_it_is_let_in(composed, known, key):
    assert said(risks.remote_code, composed, f"+{key}=false") is None
    found = said(risks.remote_code, composed, f"+{key}=true")
    assert found.what == f"{key}: on"
    values = fixed(composed, known, found, f"+{key}=true")
    assert risks.remote_code(values, facts(values)) is None


# Telemetry.


def test_telemetry_that_is_turned_on_is_said_by_tool():
    found = risks.telemetry_on({"MLFLOW_DISABLE_TELEMETRY": "false"})
    assert (found.code, found.level) == ("TELEMETRY_ON", WARNING)
    assert found.what == "telemetry of MLflow is on by the environment"
    assert found.fix == "unset MLFLOW_DISABLE_TELEMETRY"
    assert risks.telemetry_on({}) is None


# The plan's devices.


def test_a_plan_for_other_gpus_than_the_run_takes_is_said(composed, known):
    words = ("experiment=llama3_8b_alpaca_lora", "plan.num_gpus=8")
    values = composed(*words)
    spoken = risks.planned_otherwise(values, facts(values))
    assert spoken.what == "the plan is for 8 x mi300x and the run would take one GPU"
    after = fixed(composed, known, spoken, *words)
    assert (after["accelerate"]["num_processes"], after["accelerate"]["multi_gpu"]) == (8, True)
    assert risks.planned_otherwise(after, facts(after)) is None


def test_a_gpu_planned_for_a_run_on_the_cpu_is_said(composed):
    values = composed()
    spoken = risks.planned_otherwise(values, facts(values))
    assert spoken.what.endswith("the run would take this machine's CPU")
    assert spoken.fix == "hardware=rocm"
    here = {"name": "cpu", "count": 1, "maker": ""}
    assert risks.planned_otherwise(values, facts(values, device=here)) is None
    values = composed("hardware=cuda")
    assert risks.planned_otherwise(values, facts(values, device=here)).fix == "hardware=cpu"
    values = composed("plan.num_gpus=2")
    fix = risks.planned_otherwise(values, facts(values)).fix
    assert fix == "hardware=rocm accelerate.num_processes=2 ++accelerate.multi_gpu=true"

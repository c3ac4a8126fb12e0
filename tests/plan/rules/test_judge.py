import shlex

import pytest

from tests.planned import facts, fixed
from tunetrail import UserError
from tunetrail.config import check, overrides
from tunetrail.plan import fixes, table
from tunetrail.plan.rules import judge
from tunetrail.plan.rules.finding import ERROR, WARNING, Finding
from tunetrail.units import GIB

CORRECTED = "experiment=llama3_8b_alpaca"
PUBLISHED = "experiment=llama3_8b_alpaca_published"
# The published recipe on eight GPUs, as in docs/recipe-notes.md.
AS_PUBLISHED = {
    "steps": {"total": 27, "rows_per_step": 5400.0},
    "schedule": {"warmup": 100, "peak": 5.2e-6, "asked": 2e-5},
    "flops": {"training": 1.29e18, "validation": 2.24e18, "recomputed": 0.43e18},
    "disk": {"checkpoints": 3},
}
ERRORS = (
    *("NO_STEPS", "ANSWERS_TOO_LONG"),
    *("UNKNOWN_KEY", "WARMUP_NEVER_ENDS", "OUT_OF_MEMORY", "OUT_OF_DISK", "SEQUENCE_TOO_LONG", "NO_BF16"),
    *("ADAPTER_KEYS_UNUSED", "TEMPLATE_DIFFERS", "BOS_DIFFERS", "ROWS_OVERLAP", "EOS_MASKED", "NOTHING_SUPERVISED"),
    *("CONTAMINATED", "AXOLOTL_REFUSES", "CHECKERS_REFUSE", "KEYS_UNUSED", "NO_CHECKPOINT"),
)
WARNINGS = (
    *("EVALUATION_COSTLY", "FEW_STEPS", "BATCH_FAR", "ROWS_CUT", "CHECKPOINTS_KEPT", "UNPINNED", "NON_COMMERCIAL"),
    *("REMOTE_CODE", "LEARNING_RATE_FAR", "TELEMETRY_ON", "PLANNED_OTHERWISE", "NOT_VALIDATED"),
    *("KEY_OVERRIDDEN", "SENT_ELSEWHERE", "MORE_HELD_OUT", "RESUMES", "FILE_UNRECORDED"),
)


def error(code):
    return Finding(code, ERROR, "", "", "")


def test_there_is_a_rule_for_each_code():
    assert set(judge.CODES) == {*ERRORS, *WARNINGS}
    assert len(judge.CODES) == 36


def test_the_published_recipe_is_refused_first_for_its_warm_up_and_all_other_findings_are_reported(composed):
    values = composed(PUBLISHED)
    findings = judge.judge(values, facts(values, **AS_PUBLISHED), {})
    assert [finding.code for finding in findings] == [
        *("WARMUP_NEVER_ENDS", "BOS_DIFFERS"),
        *("EVALUATION_COSTLY", "FEW_STEPS", "BATCH_FAR", "CHECKPOINTS_KEPT", "NON_COMMERCIAL"),
    ]
    assert [finding.code for finding in judge.refused(findings, [])] == ["WARMUP_NEVER_ENDS", "BOS_DIFFERS"]


def test_the_corrected_recipe_has_no_error_and_only_the_warning_about_its_licence(composed):
    values = composed(CORRECTED)
    findings = judge.judge(values, facts(values, disk={"checkpoints": 2}), {})
    assert [finding.code for finding in findings] == ["NON_COMMERCIAL"]
    assert judge.refused(findings, []) == []


def test_the_demo_has_no_findings(composed):
    values = composed()
    demo = facts(
        values,
        device={"name": "cpu", "count": 1, "bf16": False, "maker": ""},
        model={"parameters": 821_000, "max_position_embeddings": 512},
        memory={"row_in_evaluation": 230},
        steps={"total": 600, "rows_per_step": 24.0},
        schedule={"warmup": 30, "peak": 3e-3},
        disk={"checkpoints": 0},
    )
    assert judge.judge(values, demo, {}) == []


def test_errors_are_listed_before_warnings(composed):
    values = composed(PUBLISHED)
    changes = AS_PUBLISHED | {
        "memory": {"total": 300 * GIB},
        "data": {"contaminated": ["a"], "dropped": 9000},
    }
    findings = judge.judge(values, facts(values, **changes), {"MLFLOW_DISABLE_TELEMETRY": "false"})
    levels = [finding.level for finding in findings]
    assert levels == sorted(levels)  # an alphabetical order puts ERROR before WARNING
    assert {ERROR, WARNING} == set(levels)
    assert findings[-1].code == "TELEMETRY_ON"


# Allowed findings.


def test_neither_an_allowed_error_nor_a_warning_refuses_a_run():
    findings = [error("NO_BF16"), error("OUT_OF_DISK"), Finding("FEW_STEPS", WARNING, "", "", "")]
    assert judge.refused(findings, []) == findings[:2]
    assert judge.refused(findings, ["NO_BF16"]) == findings[1:2]
    assert judge.refused(findings, ["NO_BF16", "OUT_OF_DISK", "FEW_STEPS"]) == []


@pytest.mark.parametrize("code", ["UNKNOWN_KEY", "AXOLOTL_REFUSES", "CHECKERS_REFUSE"])
def test_a_tools_refusal_cannot_be_allowed(code):
    findings = [error(code), error("NO_BF16")]
    assert judge.refused(findings, [code, "NO_BF16"]) == findings[:1]


@pytest.mark.parametrize(("code", "level"), [("NO_BF16", "allowed"), ("UNKNOWN_KEY", "error"), ("AXOLOTL_REFUSES", "error")])
def test_only_what_can_be_allowed_is_shown_as_allowed(code, level):
    assert table.problems([error(code)], [code]).startswith(f"{level} {code}:")


# Refusals by the tools themselves.


def test_what_axolotl_refuses_names_the_key_and_the_fix_leaves_it_out(composed, known):
    words = ("+train.rl=dpo",)
    refusal = {"message": "`sample_packing: true` does not work with RLHF training", "key": "rl", "package": False}
    (finding,) = judge.tools_refuse(composed(*words), {"train": refusal}, "", True)
    assert (finding.code, finding.level, finding.fix) == ("AXOLOTL_REFUSES", ERROR, "train.rl=null")
    assert finding.what == "train.rl=dpo: `sample_packing: true` does not work with RLHF training"
    assert fixed(composed, known, finding, *words)["train"]["rl"] is None


def test_a_refusal_for_no_single_key_has_no_command_as_its_fix(composed):
    refusal = {"message": "deepspeed and fsdp cannot be used together.", "key": None, "package": False}
    (finding,) = judge.tools_refuse(composed(), {"base.make.train": refusal}, "", True)
    assert finding.what == "base.make.train: deepspeed and fsdp cannot be used together."
    assert fixes.find([], [finding], pytest.fail) is None


@pytest.mark.parametrize(("here", "level"), [(True, ERROR), (False, WARNING)])
def test_a_package_that_is_missing_where_a_run_is_only_planned_does_not_refuse_it(composed, here, level):
    refusal = {"message": "ring_flash_attn is not installed", "key": "context_parallel_size", "package": True}
    (finding,) = judge.tools_refuse(composed("+train.context_parallel_size=2"), {"train": refusal}, "", here)
    assert finding.level == level


def test_what_the_checkers_refuse_is_an_error(composed):
    (finding,) = judge.tools_refuse(composed(), {}, "row 2: no such id", True)
    assert (finding.code, finding.level, finding.what) == ("CHECKERS_REFUSE", ERROR, "row 2: no such id")
    assert judge.tools_refuse(composed(), {}, "", True) == []


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("NO_BF61", "Did you mean NO_BF16?"),
        ("out_of_memory", "Did you mean OUT_OF_MEMORY?"),
        ("xyzzy", "There are: NO_STEPS, "),
    ],
)
def test_allowing_an_unknown_code_is_an_error(code, says):
    with pytest.raises(UserError, match=f"^plan.allow: {code}: no such code") as fault:
        judge.refused([], [code])
    assert says in str(fault.value)


# Unknown keys.


def unknown(composed, known, *words):
    values = composed(*words)
    with pytest.raises(UserError) as fault:
        check.check(values, known)
    return judge.unknown_keys(fault.value, values, list(words))


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("+train.lr=0.001", "learning_rate", 0.001),
        ("+train.num_warmup_steps=7", "warmup_steps", 7),
        ("+train.lr_scheduler_type=linear_with_warmup", "lr_scheduler", "linear"),
        ("+train.target_modules=[q_proj,v_proj]", "lora_target_modules", ["q_proj", "v_proj"]),
    ],
)
def test_the_value_of_another_tools_key_goes_to_the_key_with_the_same_meaning(composed, known, override, key, value):
    (finding,) = unknown(composed, known, override)
    assert (finding.code, finding.level) == ("UNKNOWN_KEY", ERROR)
    assert finding.what == f"{override[1:].partition('=')[0]}: no such key. Did you mean train.{key}?"
    fixed = composed(*overrides.replace([override], shlex.split(finding.fix)))
    check.check(fixed, known)
    assert fixed["train"][key] == value


@pytest.mark.parametrize(
    ("override", "near"),
    [
        ("+train.lerning_rate=0.001", "Did you mean train.learning_rate?"),
        ("+train.warmup_step=null", "Did you mean train.warmup_steps?"),
        ("+train.lora_rnk=8", "Did you mean train.lora_r?"),
        ("+train.train_batch_size=8", "Did you mean train.micro_batch_size?"),  # per device or over all devices
        ("+train.xyzzy_plugh=1", "train has: "),
    ],
)
def test_a_guess_is_a_hint_and_no_override(composed, known, override, near):
    (finding,) = unknown(composed, known, override)
    assert near in finding.what
    key = override[1:].partition("=")[0]
    assert finding.fix == f"correct {key}, or leave it out"


def test_each_unknown_key_is_a_finding_of_its_own_and_the_user_decides_between_two_for_one_key(composed, known):
    findings = unknown(composed, known, "+train.r=8", "+train.lr=1e-3", "+train.lora_rank=16", "+train.xyzzy=1")
    keys = [finding.what.partition(":")[0] for finding in findings]
    assert keys == ["train.lora_rank", "train.lr", "train.r", "train.xyzzy"]
    assert findings[1].fix == "~train.lr train.learning_rate=0.001"
    assert findings[0].fix == findings[2].fix == "leave out all but one of the keys that set train.lora_r"
    (finding,) = unknown(composed, known, "+train.lr=1e-3", "train.learning_rate=2e-3")
    assert finding.fix == "leave out all but one of the keys that set train.learning_rate"


def test_other_faults_of_the_config_are_unchanged(composed, known):
    with pytest.raises(UserError, match="'fast' is not of type 'number'"):
        unknown(composed, known, "train.learning_rate=fast")
    with pytest.raises(UserError, match=r"(?s)'fast' is not of type 'number'.*train\.xyzzy: no such key"):
        unknown(composed, known, "train.learning_rate=fast", "+train.xyzzy=1")

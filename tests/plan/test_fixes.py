"""Fixes of refused runs, applied and planned again, on the real conf tree and the recorded statistics."""

import json

import pytest

from tests.conftest import ROOT
from tunetrail import UserError
from tunetrail.config import compose
from tunetrail.plan import fixes
from tunetrail.plan.rules.finding import ERROR, Finding


def finding(fix):
    return Finding("X", ERROR, "", "", fix)


def test_fixes_are_applied_until_nothing_refuses_the_run():
    tried = []

    def again(words):
        tried.append(words)
        return [finding("hardware=cuda")] if len(tried) == 1 else []

    words = fixes.find(["experiment=demo", "seed=1"], [finding("seed=2"), finding("name=x")], again)
    assert words == ["experiment=demo", "seed=2", "name=x", "hardware=cuda"]
    assert tried == [["experiment=demo", "seed=2", "name=x"], words]
    compose.compose(ROOT, words)


def test_an_error_that_no_setting_fixes_has_no_fix():
    assert fixes.find([], [finding("seed=1")], lambda words: [finding("seed=1")]) is None
    assert fixes.find(["seed=1"], [], pytest.fail) == ["seed=1"]


@pytest.mark.parametrize("fix", ["leave it out", "tunetrail gc", "a, b"])
def test_an_action_that_only_the_user_can_take_is_no_fix(fix):
    assert fixes.find([], [finding(fix)], pytest.fail) is None


def test_a_fix_that_cannot_be_composed_is_no_fix():
    def again(words):
        raise UserError("FILE: no such file")

    assert fixes.find([], [finding("prepare=file prepare.path=FILE")], again) is None


REFUSED = [
    ("experiment=llama3_8b_alpaca_published", "plan.device=mi300x", "plan.num_gpus=8"),
    ("experiment=llama3_8b_alpaca", "plan.device=rtx_4090"),
    ("model=llama3_8b", "prepare=alpaca_cleaned", "evaluate=ifeval", "plan.device=h100", "plan.num_gpus=8"),
    ("experiment=llama3_8b_alpaca", "plan.device=v100"),
    ("experiment=llama3_8b_alpaca_lora", "hardware=cuda", "plan.device=rtx_4090"),
    ("model=llama3_2_1b", "prepare=alpaca_cleaned", "evaluate=ifeval"),
    ("model=qwen3_0_6b", "prepare=alpaca_cleaned", "evaluate=ifeval"),
    ("+train.lr=1e-3", "+train.num_warmup_steps=9000"),
    ("train.lr=1e-3", "epochs=2", "+train.optim=adamw", "evaluate.max_new_tokens=64", "nproc_per_node=1"),
    ("+train.lora_rank=8", "+train.max_seq_length=256"),
]


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_the_command_that_plan_ends_with_is_not_refused(plan, words):
    refused = plan(*words, "--json")
    assert refused.returncode == 2, refused.stdout + refused.stderr
    fixed = plan(*json.loads(refused.stdout)["fix"], "--json")
    assert fixed.returncode == 0, fixed.stdout + fixed.stderr


@pytest.mark.parametrize(
    ("words", "added"),
    [
        # Nothing more than necessary, ...
        (("experiment=llama3_8b_alpaca", "plan.device=h200", "train.sequence_len=131072"), ["train.sequence_len=8192"]),
        (("experiment=llama3_8b_alpaca", "train.sequence_len=131072"), ["train.sequence_len=8192"]),
        # ... the user's number as it was typed, and without replacing another valid one.
        (("+train.lr=1.23456e-3",), ["train.learning_rate=0.00123456"]),
        (("train.lr=1.23456e-3",), ["train.learning_rate=1.23456e-3"]),
        (("++train.warmup_steps=9000",), ["++train.warmup_steps=null", "train.warmup_ratio=0.03"]),
        (
            ("experiment=llama3_8b_alpaca", "plan.device=a100_40", "train.optimizer=paged_adamw_8bit"),
            ["hardware=[cuda,fsdp2]", "train.optimizer=adamw_torch_fused"],
        ),
    ],
)
def test_a_fix_changes_no_more_than_necessary(plan, words, added):
    fix = json.loads(plan(*words, "--json").stdout)["fix"]
    assert [override for override in fix if override not in words or override in added] == added


def test_a_fixed_command_uses_the_devices_that_it_was_planned_for(plan):
    words = ("model=llama3_8b", "prepare=alpaca_cleaned", "evaluate=ifeval", "plan.device=mi300x", "plan.num_gpus=8")
    fixed = json.loads(plan(*words, "--json").stdout)["fix"]
    assert {"accelerate.num_processes=8", "++accelerate.multi_gpu=true"} <= set(fixed)
    assert "hardware=rocm" in fixed
    codes = [finding["code"] for finding in json.loads(plan(*fixed, "--json").stdout)["findings"]]
    assert "PLANNED_OTHERWISE" not in codes


def test_a_model_too_large_for_every_fix_has_no_fix(plan):
    printed = json.loads(plan("experiment=llama3_8b_alpaca", "plan.device=t4", "--json").stdout)
    assert printed["fix"] is None
    (fix,) = (finding["fix"] for finding in printed["findings"] if finding["code"] == "OUT_OF_MEMORY")
    assert fix.startswith("a smaller model")


@pytest.mark.parametrize(
    "words",
    [
        ("train.lerning_rate=1e-3",),
        ("+train.lerning_rate=1e-3",),
        ("+train.xyzzy=1",),
        ("+train.lr=1e-3", "+train.lora_rnk=8"),
        ("+train.lr=1e-3", "train.learning_rate=2e-3"),
        ("+train.hf_tokn=hunter2",),
    ],
    ids=" ".join,
)
def test_a_misspelled_key_has_a_hint_and_no_command(plan, words):
    done = plan(*words, "--json")
    printed = json.loads(done.stdout)
    assert (done.returncode, done.stderr, printed["fix"]) == (2, "", None)
    assert {finding["code"] for finding in printed["findings"]} == {"UNKNOWN_KEY"}
    assert "hunter2" not in done.stdout


def test_every_wrong_key_is_reported_although_hydra_stops_at_the_first(plan):
    done = plan("train.lerning_rate=1e-3", "lora_rank=8", "+train.warmup_step=1", "train.learning_rate=1e-3", "--json")
    assert [(finding["what"].partition(":")[0], finding["fix"]) for finding in json.loads(done.stdout)["findings"]] == [
        ("train.lerning_rate", "correct train.lerning_rate, or leave it out"),
        ("lora_rank", "~lora_rank +train.lora_r=8"),
        ("train.warmup_step", "correct train.warmup_step, or leave it out"),
    ]

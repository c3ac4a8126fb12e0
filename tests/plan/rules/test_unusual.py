"""Figures that do not fit each other; each bound is tested on both sides, and each fix is applied and judged again."""

import pytest

from tests.planned import assert_one_finding_per_rule, facts, fixed, judged
from tunetrail.plan.rules import unusual
from tunetrail.plan.rules.finding import WARNING, at

CORRECTED = "experiment=llama3_8b_alpaca"
PUBLISHED = "experiment=llama3_8b_alpaca_published"
TINY = {"parameters": 821_000}


def test_every_finding_has_the_code_of_its_rule_and_is_a_warning(composed):
    values = composed(PUBLISHED, "train.learning_rate=1e-1")
    planned = facts(
        values,
        steps={"total": 27, "rows_per_step": 5400.0},
        data={"dropped": 30_000, "validation": 49_173},
        flops={"validation": 1.92e18},
        validation={"batches": 0},
    )
    findings = [rule(values, planned) for rule in unusual.RULES]
    assert_one_finding_per_rule(unusual.RULES, WARNING, findings)


# The cost of validation.


@pytest.mark.parametrize(("validation", "warned"), [(0.0, False), (0.25e18, False), (0.26e18, True)])
def test_validation_may_cost_a_quarter_of_training(composed, validation, warned):
    flops = {"validation": validation, "training": 0.75e18, "recomputed": 0.25e18}
    assert bool(judged(unusual.evaluation_costly, composed, PUBLISHED, flops=flops)) == warned


def test_padded_validation_is_fixed_by_packing_it(composed, known):
    flops = {"validation": 1.92e18, "training": 1.29e18, "recomputed": 0.43e18}
    finding = judged(unusual.evaluation_costly, composed, PUBLISHED, flops=flops)
    assert finding.what == "validation computes 1.92e18 FLOP, 112% of training's 1.72e18"
    assert fixed(composed, known, finding, PUBLISHED)["train"]["eval_sample_packing"] is True


@pytest.mark.parametrize("words", [(CORRECTED,), ("train.sample_packing=false", "train.eval_sample_packing=false")])
def test_validation_that_is_packed_already_or_cannot_be_is_fixed_by_fewer_rows(composed, known, words):
    flops = {"validation": 1.0e18, "training": 1.0e18, "recomputed": 0.0}
    changes = {"data": {"validation": 1000}, "validation": {"batches": 20}}
    finding = judged(unusual.evaluation_costly, composed, *words, flops=flops, **changes)
    values = fixed(composed, known, finding, *words)
    assert values["prepare"]["validation_rows"] == 275  # five batches of 50; the incomplete sixth is dropped
    share = flops | {"validation": 1.0e18 * 5 / 20}
    assert judged(unusual.evaluation_costly, composed, *words, flops=share) is None


@pytest.mark.parametrize("words", [(), ("+train.eval_steps=5", "train.evals_per_epoch=null")])
def test_if_one_batch_costs_too_much_the_fix_turns_validation_off(composed, known, words):
    flops, validation = {"validation": 1.0e18, "training": 1.0e18}, {"batches": 3}
    finding = judged(unusual.evaluation_costly, composed, *words, flops=flops, validation=validation)
    train = fixed(composed, known, finding, *words)["train"]
    assert (train["eval_strategy"], train.get("evals_per_epoch"), train.get("eval_steps")) == ("no", None, None)


@pytest.mark.parametrize(
    ("raw", "times", "batches", "expected"),
    [
        (51_760, 7, 0, {"prepare.validation_rows": 153}),  # 24,576 tokens in rows of 193.1, and a fifth more
        (500, 7, 0, {"train.eval_sample_packing": False}),
        *((51_760, 0, 0, None), (51_760, 7, 1, None)),
    ],
)
def test_validation_rows_that_fill_no_batch_are_reported(composed, known, raw, times, batches, expected):
    changes = {"data": {"raw": raw, "validation": 50}, "validation": {"times": times, "batches": batches}}
    finding = judged(unusual.not_validated, composed, CORRECTED, **changes)
    assert bool(finding) == bool(expected)
    if expected:
        assert finding.what == "50 validation rows do not fill one batch of 24,576 tokens: there is no validation loss"
        values = fixed(composed, known, finding, CORRECTED)
        assert {key: at(values, key) for key in expected} == expected


@pytest.mark.parametrize(("validation", "warned"), [(50, False), (51, True)])
def test_more_rows_held_out_than_trained_on_are_reported(composed, known, validation, warned):
    finding = judged(unusual.more_held_out, composed, data={"validation": validation, "train": 50})
    assert bool(finding) == warned
    if warned:
        assert finding.what == "51 rows are held out to validate with, and 50 are left to train on"
        assert fixed(composed, known, finding)["prepare"]["validation_rows"] == 0.05


# Steps and batches.


@pytest.mark.parametrize(("total", "warned"), [(49, True), (50, False)])
def test_fewer_than_fifty_steps_are_reported(composed, total, warned):
    assert bool(judged(unusual.few_steps, composed, steps={"total": total})) == warned


@pytest.mark.parametrize(
    ("words", "steps", "expected"),
    [
        # This far from the recipe, a step of the recipe's rows also gives more steps.
        ((PUBLISHED,), {"total": 27, "rows_per_step": 5400}, {"micro_batch_size": 1, "num_epochs": 3}),
        ((PUBLISHED,), {"total": 1, "rows_per_step": 5400}, {"micro_batch_size": 1, "num_epochs": 4}),
        # 16 sequences a step on each GPU; with 8 there are 54 steps.
        ((PUBLISHED,), {"total": 27, "rows_per_step": 540}, {"micro_batch_size": 8, "gradient_accumulation_steps": 1}),
        ((CORRECTED,), {"total": 49, "rows_per_step": 128}, {"num_epochs": 4}),  # already one sequence
        # Smaller steps would have too few rows.
        ((PUBLISHED,), {"total": 25, "rows_per_step": 20}, {"num_epochs": 6, "gradient_accumulation_steps": 2}),
        ((CORRECTED, "+train.max_steps=12"), {"total": 12, "rows_per_step": 128}, {"max_steps": None}),
    ],
)
def test_few_steps_are_fixed_by_smaller_ones_else_by_more_epochs(composed, known, words, steps, expected):
    finding = judged(unusual.few_steps, composed, *words, steps=steps)
    assert finding.what == f"the run has {steps['total']} optimiser steps, of {steps['rows_per_step']:,} rows each"
    train = fixed(composed, known, finding, *words)["train"]
    assert {key: train.get(key) for key in expected} == expected


def test_accumulation_beyond_an_epoch_counts_as_one_epoch(composed):
    steps = {"total": 4, "rows_per_step": 3880, "blocks_per_step": 1364.0}
    finding = judged(unusual.few_steps, composed, "train.gradient_accumulation_steps=10000", steps=steps, model=TINY)
    assert finding.fix == "train.micro_batch_size=4 train.gradient_accumulation_steps=27"


@pytest.mark.parametrize(("rows", "warned"), [(15.9, True), (16.0, False), (128.0, False), (1024.0, False), (1025.0, True)])
def test_a_step_may_have_an_eighth_to_eight_times_the_recipes_rows(composed, rows, warned):
    steps = {"rows_per_step": rows}
    assert bool(judged(unusual.batch_far, composed, PUBLISHED, steps=steps)) == warned
    assert judged(unusual.batch_far, composed, steps=steps, model=TINY) is None
    assert judged(unusual.batch_far, composed, steps=steps, model={"parameters": 99_999_999}) is None


@pytest.mark.parametrize(
    ("words", "rows", "longest"),
    [
        ((PUBLISHED,), 5400.0, 650),
        ((PUBLISHED,), 1030.0, 650),
        ((CORRECTED, "train.sequence_len=65536"), 2700.0, 650),
        ((CORRECTED, "train.sequence_len=65536"), 2700.0, 4000),
        (("experiment=smollm2_135m_alpaca_lora",), 10.6, 500),
    ],
)
def test_the_fix_of_a_far_batch_is_not_far(composed, known, words, rows, longest):
    before = composed(*words)
    finding = judged(unusual.batch_far, composed, *words, steps={"rows_per_step": rows}, data={"longest": longest})
    assert f"a step takes {rows:,.0f} rows, " in finding.what
    train, size = fixed(composed, known, finding, *words)["train"], 1.0
    for key in ("micro_batch_size", "gradient_accumulation_steps", "sequence_len"):
        size *= train[key] / before["train"][key]
    assert train["micro_batch_size"] <= before["train"]["micro_batch_size"]  # needs no more memory than before
    assert train["sequence_len"] >= longest
    assert judged(unusual.batch_far, composed, *words, steps={"rows_per_step": rows * size}) is None


# Rows.


@pytest.mark.parametrize(
    ("dropped", "cut", "warned"),
    [(0, 0, False), (50, 0, False), (25, 25, False), (51, 0, True), (0, 51, True), (26, 25, True)],
)
def test_five_percent_of_the_rows_may_be_lost(composed, dropped, cut, warned):
    data = {"train": 1000, "dropped": dropped, "cut": cut}
    assert bool(judged(unusual.rows_cut, composed, data=data)) == warned


def test_lost_rows_are_fixed_by_longer_sequences_up_to_the_models_limit(composed, known):
    words = (CORRECTED, "train.sequence_len=512")
    finding = judged(unusual.rows_cut, composed, *words, data={"train": 1000, "dropped": 80, "longest": 650})
    assert finding.what == (
        "8.0% of 1,000 rows are not trained on in full, 80 dropped and 0 cut: the longest has 650 tokens, a sequence 512"
    )
    assert fixed(composed, known, finding, *words)["train"]["sequence_len"] == 704
    words = (CORRECTED, "train.sequence_len=8192", "train.excess_length_strategy=truncate")
    data = {"train": 1000, "cut": 80, "longest": 9000}
    finding = judged(unusual.rows_cut, composed, *words, data=data)
    assert fixed(composed, known, finding, *words)["train"]["excess_length_strategy"] == "drop"
    finding = judged(unusual.rows_cut, composed, *words[:2], data=data)
    assert fixed(composed, known, finding, *words[:2])["prepare"]["path"] == "FILE"


def test_rows_longer_than_the_models_limit_need_another_file(composed, known):
    data = {"train": 1000, "dropped": 300, "longest": 9000, "p95": 8193}
    values = composed(CORRECTED)
    finding = unusual.rows_cut(values, facts(values, data=data))
    assert finding.fix == "prepare=file prepare.path=FILE"
    assert unusual.rows_cut(values, facts(values, data=data | {"p95": 8192})).fix == "train.sequence_len=8192"


# The learning rate.


@pytest.mark.parametrize(
    ("parameters", "method", "rate", "warned"),
    [
        *(
            (8e9, "full", 1e-6, False),
            (8e9, "full", 2e-5, False),
            (8e9, "full", 1e-4, False),
            (8e9, "full", 2e-4, True),
            (8e9, "full", 9e-7, True),
        ),
        *(
            (70e9, "full", 2e-6, False),
            (1.7e9, "full", 3e-4, False),
            (135e6, "full", 1e-3, False),
            (135e6, "full", 6e-3, True),
        ),
        *((1e9, "full", 2e-5, False), (1e9, "full", 4e-6, True)),
        *((8e9, "lora", 2e-4, False), (65e9, "qlora", 1e-4, False), (8e9, "lora", 2e-5, True), (8e9, "qlora", 3e-3, True)),
        *((0.8e6, "full", 3e-3, False), (15e6, "full", 5e-4, False), (0.8e6, "lora", 3e-3, False)),
        *((0.8e6, "full", 2e-5, True), (0.8e6, "full", 0.1, True), (99e6, "full", 9e-5, True), (100e6, "full", 9e-5, False)),
    ],
)
def test_learning_rates_of_known_recipes_pass_and_those_far_from_them_are_reported(
    composed, known, parameters, method, rate, warned
):
    words = (f"method={method}", f"train.learning_rate={rate}")
    model = {"parameters": int(parameters)}
    finding = judged(unusual.learning_rate_far, composed, *words, model=model)
    assert bool(finding) == warned
    if warned:
        values = fixed(composed, known, finding, *words)
        assert unusual.learning_rate_far(values, facts(values, model=model)) is None


def test_no_shipped_experiment_has_a_rate_far_from_the_usual(composed):
    for name, parameters in {
        **{"demo": 821_000, "llama3_8b_alpaca": 8_030_261_248, "llama3_8b_alpaca_published": 8_030_261_248},
        **{"llama3_8b_alpaca_lora": 8_030_261_248, "smollm2_135m_alpaca_lora": 134_515_008},
    }.items():
        assert judged(unusual.learning_rate_far, composed, f"experiment={name}", model={"parameters": parameters}) is None

import json

import pytest

from tests.stage_outputs import KINDS, evaluation
from tunetrail import UserError
from tunetrail.evaluation import results


def test_scores_counts_and_samples_are_read(tmp_path):
    evaluated = results.read(evaluation(tmp_path, [[True, False], [True], [False]]), resamples=100, seed=0)
    assert (evaluated.task, evaluated.prompts, evaluated.instructions) == ("ifeval", 3, 4)
    assert evaluated.scores["prompt_strict"].value == pytest.approx(1 / 3)
    assert evaluated.scores["inst_strict"].value == pytest.approx(1 / 2)
    assert [results.answer(sample) for sample in evaluated.samples] == ["answer\u2028 0", "answer\u2028 1", "answer\u2028 2"]


def test_loose_below_strict_is_refused(tmp_path):
    with pytest.raises(ValueError, match="loose is below"):
        results.read(evaluation(tmp_path, [[True], [False]], loose=[[False], [True]]), resamples=10, seed=0)


def test_a_score_that_differs_from_its_samples_is_refused(tmp_path):
    file = next(evaluation(tmp_path, [[True]]).glob("*/results_*.json"))
    file.write_text(file.read_text().replace("1.0", "0.9"))
    with pytest.raises(ValueError, match="not the score of its samples"):
        results.read(tmp_path, resamples=10, seed=0)


@pytest.mark.parametrize(
    "other",
    [
        {"config": {"batch_size": 16}},
        {"config": {"batch_sizes": [4]}},
        {"config": {"device": "cuda:0"}},
        {"config": {"model_dtype": "torch.bfloat16"}},
        {"config": {"torch_seed": 2}},
        {"config": {"model": "vllm"}},
        {"config": {"model_args": {"add_bos_token": True}}},
        {"configs": {"ifeval": {"doc_to_text": "{{prompt}}", "generation_kwargs": {"max_gen_toks": 41}}}},
        {"configs": {"ifeval": {"doc_to_text": "{{prompt}} ", "generation_kwargs": {"max_gen_toks": 40}}}},
        {"versions": {"ifeval": 5.0}},
        {"lm_eval_version": "0.4.12"},
        {"transformers_version": "6"},
        {"max_length": 32},
    ],
    ids=str,
)
def test_models_that_were_evaluated_differently_are_not_compared(tmp_path, other):
    base = results.read(evaluation(tmp_path / "base", [[False], [True]]), 10, 0)
    file = next(evaluation(tmp_path / "tuned", [[True], [True]]).glob("*/results_*.json"))
    written = json.loads(file.read_text())
    for key, value in other.items():
        written[key] = written[key] | value if isinstance(value, dict) else value
    file.write_text(json.dumps(written))
    with pytest.raises(UserError, match=r"evaluated differently.*dvc repro --force evaluate_base"):
        results.compare(base, results.read(tmp_path / "tuned", 10, 0), 10, 0)


def test_other_prompts_or_other_instructions_are_not_compared(tmp_path):
    base = results.read(evaluation(tmp_path / "base", [[False], [True]]), 10, 0)
    fewer = results.read(evaluation(tmp_path / "fewer", [[True]]), 10, 0)
    file = next(evaluation(tmp_path / "other", [[True], [True]]).glob("*/samples_*"))
    file.write_text(file.read_text().replace("of doc 1", "of another"))
    for tuned in (fewer, results.read(tmp_path / "other", 10, 0)):
        with pytest.raises(UserError, match="evaluated differently"):
            results.compare(base, tuned, 10, 0)


def test_the_digest_does_not_depend_on_the_model(tmp_path):
    base, tuned = (results.read(evaluation(tmp_path / name, [[False], [True]]), 10, 0) for name in ("base", "tuned"))
    assert base.digest == tuned.digest
    assert len(base.digest) == 12


def test_a_comparison_has_both_models_and_their_paired_difference(tmp_path):
    base = results.read(evaluation(tmp_path / "base", [[False]] * 9 + [[True, False]]), 500, 0)
    tuned = results.read(evaluation(tmp_path / "tuned", [[True]] * 9 + [[True, True]]), 500, 0)
    comparison = results.compare(base, tuned, 500, 0)
    assert comparison["base"]["prompt_strict"]["value"] == 0
    assert comparison["delta"]["prompt_strict"]["value"] == 1
    assert comparison["delta"]["prompt_strict"]["p"] == pytest.approx(2 / 2**10)
    assert comparison["delta"]["inst_strict"]["value"] == pytest.approx(10 / 11)
    assert "p" not in comparison["delta"]["inst_strict"]
    for score in comparison["delta"].values():
        assert score["low"] <= score["value"] <= score["high"]


def test_types_are_counted_over_all_prompts_for_each_model(tmp_path):
    base = results.read(evaluation(tmp_path / "base", [[True, False], [False]]), 10, 0)
    tuned = results.read(evaluation(tmp_path / "tuned", [[True, False], [True]], loose=[[True, True], [True]]), 10, 0)
    assert results.by_type({"base": base, "tuned": tuned}) == [
        {"type": KINDS[0], "n": 2, "base_strict": 0.5, "base_loose": 0.5, "tuned_strict": 1.0, "tuned_loose": 1.0},
        {"type": KINDS[1], "n": 1, "base_strict": 0.0, "base_loose": 0.0, "tuned_strict": 0.0, "tuned_loose": 1.0},
    ]


def test_another_n_than_the_published_one_is_noted(tmp_path):
    small = results.read(evaluation(tmp_path, [[True, False], [True]]), 10, 0)
    assert results.size(small) == "2 prompts, 3 instructions (the published IFEval has 541 and 834)"
    published = results.Results("ifeval", {}, 541, 834, [])
    assert results.size(published) == "541 prompts, 834 instructions"
    assert results.size(results.Results("ifeval_demo", {}, 2, 3, [])) == "2 prompts, 3 instructions"


def test_verdicts_give_the_same_difference_as_samples(tmp_path):
    base = results.read(evaluation(tmp_path / "base", [[False, True], [True], [False], [True]]), 300, 0)
    tuned = results.read(evaluation(tmp_path / "tuned", [[True, True], [False], [True], [True]]), 300, 0)
    verdicts = json.loads(json.dumps(results.comparable({"base": base, "tuned": tuned})))
    assert results.differences(verdicts["base"], verdicts["tuned"], 300, 0) == results.compare(base, tuned, 300, 0)["delta"]
    assert verdicts["evaluation_digest"] == results.digest(verdicts["asked"]) == base.digest


def test_missing_losses_are_not_listed():
    metrics = {
        "ifeval": {"tuned": {"prompt_strict": {"value": 1 / 3}}},
        "train": {"loss": 0.123456, "validation_loss": None},
    }
    assert results.listed(metrics) == {"ifeval/tuned/prompt_strict": 0.3333, "train/loss": 0.1235}

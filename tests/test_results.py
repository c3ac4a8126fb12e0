import json

import numpy as np
import pytest

from tunetrail import results

KEYS = [key for key, _ in results.SCORES.values()]


def evaluation(folder, followed, loose=None):
    """A folder as lm-eval leaves it, for prompts of which `followed` says which instructions were followed."""
    loose = loose or followed
    inside = folder / "outputs__model"
    inside.mkdir(parents=True)
    lines, totals = [], {key: [] for key in KEYS}
    for number, (strict, lenient) in enumerate(zip(followed, loose, strict=True)):
        values = dict(zip(KEYS, (all(strict), all(lenient), strict, lenient), strict=True))
        doc = {"prompt": f"prompt {number}", "instruction_id_list": ["a:b"] * len(strict)}
        lines.append({"doc_id": number, "doc": doc, "filtered_resps": [f"answer\u2028 {number}"], **values})
        for key, value in values.items():
            totals[key] += value if isinstance(value, list) else [value]
    reported = {f"{key},none": sum(values) / len(values) for key, values in totals.items()}
    (inside / "results_2026.json").write_text(
        json.dumps({"results": {"ifeval": {"alias": "ifeval", **reported}}, "lm_eval_version": "0.4.11"})
    )
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in reversed(lines))
    (inside / "samples_ifeval_2026.jsonl").write_text(text)
    return folder


def test_scores_counts_and_samples_are_read(tmp_path):
    found = results.read(evaluation(tmp_path, [[True, False], [True], [False]]), resamples=100, seed=0)
    assert (found.task, found.prompts, found.instructions) == ("ifeval", 3, 4)
    assert found.scores["prompt_strict"].value == pytest.approx(1 / 3)
    assert found.scores["inst_strict"].value == pytest.approx(1 / 2)
    assert [results.answer(sample) for sample in found.samples] == ["answer\u2028 0", "answer\u2028 1", "answer\u2028 2"]


def test_loose_below_strict_is_refused(tmp_path):
    with pytest.raises(ValueError, match="loose is below"):
        results.read(evaluation(tmp_path, [[True]], loose=[[False]]), resamples=10, seed=0)


def test_a_score_that_its_samples_do_not_give_is_refused(tmp_path):
    file = next(evaluation(tmp_path, [[True]]).glob("*/results_*.json"))
    file.write_text(file.read_text().replace("1.0", "0.9"))
    with pytest.raises(ValueError, match="not what its samples give"):
        results.read(tmp_path, resamples=10, seed=0)


def test_wilsons_interval_is_the_published_one():
    """81 of 263: the 95 % score interval is 0.2553 to 0.3662 (Newcombe 1998, doi:10.1002/(SICI)1097-0258, table I)."""
    score = results.wilson([np.array([int(i < 81)]) for i in range(263)])
    assert (score.low, score.high) == (pytest.approx(0.2553, abs=5e-5), pytest.approx(0.3662, abs=5e-5))
    for n in range(1, 200):
        assert results.wilson([np.array([0])] * n).low == 0.0
        assert results.wilson([np.array([1])] * n).high == 1.0


def test_the_bootstrap_resamples_prompts_whole():
    """With one instruction a prompt it is the binomial's interval; with ten that agree, no narrower than the prompts'."""
    rng = np.random.default_rng(1)
    one = [np.array([value]) for value in rng.random(200) < 0.4]
    ten = [np.repeat(value, 10) for value in one]
    single, clustered = (results.bootstrap(followed, 4000, 0) for followed in (one, ten))
    assert single == clustered
    share = single.value
    assert single.high - single.low == pytest.approx(2 * 1.96 * np.sqrt(share * (1 - share) / 200), rel=0.1)
    assert results.bootstrap(one, 500, 0) == results.bootstrap(one, 500, 0)


def test_all_or_none_followed_still_has_a_width():
    none, every = (results.bootstrap([np.array([value] * 3)] * 50, 100, 0) for value in (0, 1))
    assert (none.value, none.low) == (0, 0)
    assert none.high == pytest.approx(0.0713, abs=1e-4)
    assert (every.value, every.high) == (1, 1)
    assert every.low == pytest.approx(1 - none.high)

import functools

import numpy as np
import pytest

from tunetrail.evaluation import significance


def prompts(*values):
    return [np.atleast_1d(value) for value in values]


def test_commands_without_a_composed_config_use_the_bootstrap_settings_of_conf(composed):
    report = composed()["report"]
    assert {name: report[name] for name in significance.SAMPLING} == significance.SAMPLING


def test_wilsons_interval_is_the_published_one():
    """81 of 263: the 95 % score interval is 0.2553 to 0.3662 (Newcombe 1998, doi:10.1002/(SICI)1097-0258, table I)."""
    score = significance.wilson([np.array([int(i < 81)]) for i in range(263)])
    assert (score.low, score.high) == (pytest.approx(0.2553, abs=5e-5), pytest.approx(0.3662, abs=5e-5))
    for n in (1, 2, 3, 7, 50, 199, 541):
        assert significance.wilson([np.array([0])] * n).low == 0.0
        assert significance.wilson([np.array([1])] * n).high == 1.0


def test_the_bootstrap_resamples_whole_prompts():
    """With one instruction per prompt it is the binomial interval; ten that agree do not make it narrower."""
    rng = np.random.default_rng(1)
    one_each = [np.array([value]) for value in rng.random(200) < 0.4]
    ten_each = [np.repeat(value, 10) for value in one_each]
    single, clustered = (significance.bootstrap(followed, 4000, 0) for followed in (one_each, ten_each))
    assert single == clustered
    share = single.value
    assert single.high - single.low == pytest.approx(2 * 1.96 * np.sqrt(share * (1 - share) / 200), rel=0.1)
    assert significance.bootstrap(one_each, 500, 0) == significance.bootstrap(one_each, 500, 0)


def test_the_interval_has_a_width_if_all_or_none_are_followed():
    none, every = (significance.bootstrap([np.array([value] * 3)] * 50, 100, 0) for value in (0, 1))
    assert (none.value, none.low) == (0, 0)
    assert none.high == pytest.approx(0.0713, abs=1e-4)
    assert (every.value, every.high) == (1, 1)
    assert every.low == pytest.approx(1 - none.high)


def test_the_interval_has_a_width_if_every_prompt_has_the_same_share():
    half = [np.array([1, 0]), np.array([0, 1]), np.array([1, 0])]
    score = significance.bootstrap(half, 100, 0)
    assert score.value == 0.5
    assert score.low < 0.3
    assert score.high > 0.7


def test_a_large_evaluation_is_resampled_in_blocks(monkeypatch):
    followed = [np.array([value]) for value in np.random.default_rng(0).random(300) < 0.4]
    at_once = significance.bootstrap(followed, 999, 0)
    monkeypatch.setattr(significance, "_DRAWN_AT_ONCE", 1000)
    blocks = significance.bootstrap(followed, 999, 0)
    assert (blocks.low, blocks.high) == (pytest.approx(at_once.low, abs=0.02), pytest.approx(at_once.high, abs=0.02))


def test_the_paired_interval_covers_the_true_difference_at_its_nominal_rate(monkeypatch):
    """3,000 pairs of correlated shares with a known difference of 0.25, 60 prompts each."""
    monkeypatch.setattr(significance, "_wilson", functools.cache(significance._wilson))  # only 61 different arguments occur
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(3000):
        ability = rng.random(60)
        base, tuned = (ability < 0.35).astype(int), (ability + rng.normal(0, 0, 60) < 0.6).astype(int)
        flipped = rng.random(60) < 0.1  # equal noise on both scales the expected difference by 0.8
        base, tuned = np.where(flipped, 1 - base, base), np.where(rng.random(60) < 0.1, 1 - tuned, tuned)
        score = significance.newcombe(prompts(*base), prompts(*tuned))
        covered += score.low <= 0.25 * 0.8 <= score.high
    assert 0.94 <= covered / 3000 <= 0.975


def test_the_paired_interval_is_the_published_one():
    """Newcombe's own example (method 10): 36 both, 12 one, 2 other, 0 neither gives 0.0569 to 0.3404 for +0.2."""
    base = prompts(*[1] * 36, *[0] * 12, *[1] * 2)
    tuned = prompts(*[1] * 36, *[1] * 12, *[0] * 2)
    score = significance.newcombe(base, tuned)
    assert score.value == pytest.approx(0.2)
    assert (score.low, score.high) == (pytest.approx(0.0569, abs=5e-4), pytest.approx(0.3404, abs=5e-4))


def test_a_difference_reverses_with_its_models():
    rng = np.random.default_rng(3)
    base, tuned = (prompts(*(rng.random(80) < share).astype(int)) for share in (0.3, 0.6))
    forward, backward = significance.newcombe(base, tuned), significance.newcombe(tuned, base)
    assert (forward.value, forward.low, forward.high) == pytest.approx((-backward.value, -backward.high, -backward.low))


def test_the_interval_of_a_difference_has_a_width_if_nothing_or_everything_changes():
    same = prompts(*[1] * 20, *[0] * 20)
    assert significance.newcombe(same, same).value == 0
    score = significance.paired_bootstrap(same, same, 200, 0)
    assert score.low < 0 < score.high
    every = significance.paired_bootstrap(prompts(*[0] * 40), prompts(*[1] * 40), 200, 0)
    assert (every.value, every.high) == (1.0, 1.0)
    assert 0.8 < every.low < 1


def test_the_paired_bootstrap_is_narrower_than_two_unpaired_ones():
    rng = np.random.default_rng(2)
    base = [rng.integers(0, 2, 3) for _ in range(150)]
    tuned = [np.maximum(prompt, rng.random(3) < 0.2) for prompt in base]
    paired = significance.paired_bootstrap(base, tuned, 2000, 0)
    apart = [significance.bootstrap(of, 2000, 0) for of in (base, tuned)]
    assert paired.value == pytest.approx(apart[1].value - apart[0].value)
    assert paired.high - paired.low < 0.7 * np.hypot(*(score.high - score.low for score in apart))


@pytest.mark.parametrize(
    ("gained", "lost", "p"), [(0, 0, 1.0), (5, 0, 0.0625), (10, 2, 0.0386), (6, 6, 1.0), (7, 1, 0.0703)]
)
def test_mcnemar_is_the_exact_binomial_test(gained, lost, p):
    """7 against 1: Fagerland, Lydersen and Laake 2013, doi:10.1186/1471-2288-13-91, on airway hyper-responsiveness."""
    base = prompts(*[0] * gained, *[1] * lost, *[1] * 7)
    tuned = prompts(*[1] * gained, *[0] * lost, *[1] * 7)
    assert significance.mcnemar(base, tuned) == pytest.approx(p, abs=5e-5)

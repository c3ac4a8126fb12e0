"""Which instructions were followed -> shares and differences with 95 % intervals, and McNemar's test.

Every function takes an array of 0 and 1 for each prompt, with an element for each instruction (one at prompt level).
"""

import math
from dataclasses import dataclass

import numpy as np

Followed = list[np.ndarray]
# Of the bootstrap, for commands that compose nothing; a test compares it with conf/config.yaml.
SAMPLING = {"resamples": 10_000, "seed": 42}
_DRAWN_AT_ONCE = 10_000_000  # 80 MB


@dataclass(frozen=True)
class Score:
    """A share between 0 and 1, or a difference of two, and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(followed: Followed) -> Score:
    """Return the share of prompts followed with Wilson's score interval; one 0 or 1 for each prompt.

    Wilson 1927, doi:10.1080/01621459.1927.10502953.
    """
    return _wilson(int(np.sum(followed)), len(followed))


def _wilson(count: int, n: int) -> Score:
    from scipy.stats import binomtest  # takes a second to import

    interval = binomtest(count, n).proportion_ci(0.95, method="wilson")
    return Score(count / n, float(interval.low), float(interval.high))


def bootstrap(followed: Followed, resamples: int, seed: int) -> Score:
    """Return the share of instructions followed with its percentile interval.

    The instructions of one prompt are not independent, so whole prompts are resampled (cluster bootstrap; Davison and
    Hinkley 1997, section 3.8). If all prompts have the same share, above all 0 or 1, resampling shows no spread: then the
    interval is Wilson's for prompts; a share between two whole numbers of prompts takes the outer ends of both.
    """
    sums = _sums(followed)
    counts = _counts(followed)
    if len(set(sums / counts)) == 1:
        n = len(followed)
        prompts, rest = divmod(int(sums[0]) * n, int(counts[0]))
        below = _wilson(prompts, n)
        above = _wilson(prompts + bool(rest), n)
        return Score(float(sums[0] / counts[0]), below.low, above.high)
    low, high = _percentiles(sums, counts, resamples, seed)
    return Score(float(sums.sum() / counts.sum()), low, high)


def newcombe(base: Followed, tuned: Followed) -> Score:
    """Return the difference of two paired shares, tuned minus base, with its interval; one 0 or 1 for each prompt.

    Newcombe 1998, doi:10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C, method 10: both Wilson
    intervals, joined by the correlation of the pairs.
    """
    n = len(base)
    both = int((_sums(base) & _sums(tuned)).sum())
    gained, lost = _discordant(base, tuned)
    neither = n - both - gained - lost
    margins = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    excess = both * neither - gained * lost
    if excess > 0:
        excess = max(excess - n / 2, 0)
    correlation = excess / math.sqrt(margins) if margins else 0.0
    base_share = wilson(base)
    tuned_share = wilson(tuned)
    down = tuned_share.value - tuned_share.low
    up = tuned_share.high - tuned_share.value
    base_down = base_share.value - base_share.low
    base_up = base_share.high - base_share.value
    value = (gained - lost) / n
    low = value - math.sqrt(max(0.0, down**2 - 2 * correlation * down * base_up + base_up**2))
    high = value + math.sqrt(max(0.0, up**2 - 2 * correlation * up * base_down + base_down**2))
    return Score(value, max(low, -1.0), min(high, 1.0))


def paired_bootstrap(base: Followed, tuned: Followed, resamples: int, seed: int) -> Score:
    """Return the difference in the share of instructions followed with its percentile interval, whole prompts resampled.

    If every prompt differs by the same share, resampling shows no spread. Then the interval is Newcombe's for prompts of
    which all instructions are followed, widened to contain this difference.
    """
    differences = _sums(tuned) - _sums(base)
    counts = _counts(base)
    value = float(differences.sum() / counts.sum())
    if len(set(differences / counts)) == 1:
        of_prompts = newcombe(*([np.array([int(prompt.all())]) for prompt in model] for model in (base, tuned)))
        return Score(value, min(value, of_prompts.low), max(value, of_prompts.high))
    return Score(value, *_percentiles(differences, counts, resamples, seed))


def mcnemar(base: Followed, tuned: Followed) -> float:
    """Return the exact two-sided p-value of McNemar's test; one 0 or 1 for each prompt.

    McNemar 1947, doi:10.1007/BF02295996: of the prompts that only one model follows, each follows half by chance.
    """
    from scipy.stats import binomtest

    gained, lost = _discordant(base, tuned)
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def _discordant(base: Followed, tuned: Followed) -> tuple[int, int]:
    """Return how many prompts only `tuned` follows, and how many only `base`."""
    change = _sums(tuned) - _sums(base)
    return int((change > 0).sum()), int((change < 0).sum())


def _sums(followed: Followed) -> np.ndarray:
    return np.array([prompt.sum() for prompt in followed])


def _counts(followed: Followed) -> np.ndarray:
    return np.array([prompt.size for prompt in followed])


def _percentiles(sums: np.ndarray, counts: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    generator = np.random.default_rng(seed)
    shares = []
    block = max(1, _DRAWN_AT_ONCE // len(sums))
    for start in range(0, resamples, block):
        drawn = generator.integers(len(sums), size=(min(block, resamples - start), len(sums)))
        shares.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    low, high = np.percentile(np.concatenate(shares), [2.5, 97.5])
    return float(low), float(high)

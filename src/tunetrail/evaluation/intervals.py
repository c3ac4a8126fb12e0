"""Which instructions were followed -> shares and differences with 95 % intervals, and McNemar's test.

Every function takes one array of 0 and 1 a prompt, an element an instruction (at prompt level there is one).
"""

import math
from dataclasses import dataclass

import numpy as np

Followed = list[np.ndarray]
_DRAWN_AT_ONCE = 10_000_000  # 80 MB
Z95 = 1.959963984540054  # the standard normal's 97.5 % point


@dataclass(frozen=True)
class Score:
    """A share between 0 and 1, or a difference of two, and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(followed: Followed) -> Score:
    """Wilson's score interval for the share of prompts followed; one 0 or 1 a prompt.

    Wilson 1927, doi:10.1080/01621459.1927.10502953.
    """
    return _wilson(float(np.sum(followed)) / len(followed), len(followed))


def _wilson(share: float, n: int) -> Score:
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    # At 0 and 1 one end is the share itself, but for the last bit of a float.
    return Score(share, max(0.0, min(share, float(centre - half))), min(1.0, max(share, float(centre + half))))


def bootstrap(followed: Followed, resamples: int, seed: int) -> Score:
    """The percentile interval for the share of instructions followed.

    The instructions of one prompt are not independent, so prompts are resampled whole (cluster bootstrap; Davison and
    Hinkley 1997, section 3.8). Where all prompts are followed in the same share, all or none above all, resampling shows no
    spread; then it is Wilson's interval with a prompt as the unit.
    """
    sums, counts = _sums(followed), _counts(followed)
    if len(set(sums / counts)) == 1:
        return _wilson(float(sums[0] / counts[0]), len(followed))
    low, high = _percentiles(sums, counts, resamples, seed)
    return Score(float(sums.sum() / counts.sum()), low, high)


def newcombe(base: Followed, tuned: Followed) -> Score:
    """The interval for the difference of two paired shares, tuned less base; one 0 or 1 a prompt.

    Newcombe 1998, doi:10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C, method 10: both Wilson
    intervals, joined by the correlation of the pairs.
    """
    was, now = _sums(base), _sums(tuned)
    n = len(was)
    both, gained, lost = int((was & now).sum()), int((now & ~was & 1).sum()), int((was & ~now & 1).sum())
    neither = n - both - gained - lost
    margins = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    excess = both * neither - gained * lost
    if excess > 0:
        excess = max(excess - n / 2, 0)
    correlation = excess / math.sqrt(margins) if margins else 0.0
    one, two = wilson(tuned), wilson(base)
    down, up = one.value - one.low, one.high - one.value
    base_down, base_up = two.value - two.low, two.high - two.value
    value = (gained - lost) / n
    low = value - math.sqrt(max(0.0, down**2 - 2 * correlation * down * base_up + base_up**2))
    high = value + math.sqrt(max(0.0, up**2 - 2 * correlation * up * base_down + base_down**2))
    return Score(value, max(low, -1.0), min(high, 1.0))


def paired_bootstrap(base: Followed, tuned: Followed, resamples: int, seed: int) -> Score:
    """The percentile interval for the difference in the share of instructions followed, prompts resampled whole.

    Where every prompt differs alike, resampling shows no spread; then it is Newcombe's for whole prompts (followed when all
    of their instructions are), which may be another difference: it is widened to hold this one.
    """
    differences, counts = _sums(tuned) - _sums(base), _counts(base)
    value = float(differences.sum() / counts.sum())
    if len(set(differences / counts)) == 1:
        every = newcombe(*([np.array([int(prompt.all())]) for prompt in model] for model in (base, tuned)))
        return Score(value, min(value, every.low), max(value, every.high))
    return Score(value, *_percentiles(differences, counts, resamples, seed))


def mcnemar(base: Followed, tuned: Followed) -> float:
    """The exact two-sided p-value that both follow the same share of prompts; one 0 or 1 a prompt.

    McNemar 1947, doi:10.1007/BF02295996, with the binomial distribution of the prompts that only one of them follows.
    """
    was, now = _sums(base), _sums(tuned)
    gained, lost = int((now > was).sum()), int((was > now).sum())
    n = gained + lost
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(min(gained, lost) + 1)) / 2**n)


def _sums(followed: Followed) -> np.ndarray:
    return np.array([prompt.sum() for prompt in followed])


def _counts(followed: Followed) -> np.ndarray:
    return np.array([prompt.size for prompt in followed])


def _percentiles(sums: np.ndarray, counts: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    generator, shares = np.random.default_rng(seed), []
    block = max(1, _DRAWN_AT_ONCE // len(sums))
    for start in range(0, resamples, block):
        drawn = generator.integers(len(sums), size=(min(block, resamples - start), len(sums)))
        shares.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    low, high = np.percentile(np.concatenate(shares), [2.5, 97.5])
    return float(low), float(high)

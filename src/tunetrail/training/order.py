"""A seed, an epoch and a number of rows -> the order in which Axolotl packs the rows and trains on them.

Axolotl's own order comes from whatever was drawn before, so a resumed training would train on other packs than an unbroken
one. The plan counts the packs of the same orders, without PyTorch.
"""

import numpy as np


def rows(seed: int, epoch: int, number: int) -> np.ndarray:
    """Return the numbers of the rows, (number,), in the order of this epoch, counted from 0."""
    return np.random.default_rng([seed % 2**32, epoch]).permutation(number)

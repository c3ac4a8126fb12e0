"""The order of rows depends on the seed and the epoch alone."""

import numpy as np
import pytest

from tunetrail.training import order


def test_the_order_is_the_same_wherever_it_is_asked_for():
    assert order.rows(7, 0, 10).tolist() == [8, 0, 7, 1, 3, 6, 2, 4, 5, 9]


@pytest.mark.parametrize("other", [(8, 0), (7, 1), (-7, 0)])
def test_every_epoch_and_every_seed_has_an_order_of_its_own(other):
    first = order.rows(7, 0, 1000)
    assert sorted(first) == sorted(order.rows(*other, 1000)) == list(range(1000))
    assert not np.array_equal(first, order.rows(*other, 1000))

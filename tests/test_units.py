import pytest

from tunetrail import units


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (2_500_000, "2.4 MiB"),
        (16 * 2**30, "16.0 GiB"),
        (2**44, "16,384.0 GiB"),
    ],
)
def test_bytes_are_in_powers_of_1024(number, text):
    assert units.size(number) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h")])
def test_seconds_are_in_one_unit(seconds, text):
    assert units.duration(seconds) == text

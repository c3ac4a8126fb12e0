"""Recorded statistics of datasets that are not here; test_workload tests their use."""

from pathlib import Path

import numpy as np
import yaml

from tunetrail.plan.estimate import known


def test_every_record_of_statistics_ships_with_the_package_and_names_its_dataset():
    for name in ("alpaca_cleaned", "ifeval", "bytes_per_token"):
        file = Path(known.__file__).with_name("recorded") / f"{name}.yaml"
        assert file.read_text().startswith("# "), name
        assert yaml.safe_load(file.read_text()), name


def test_any_number_of_lengths_has_the_recorded_quantiles():
    record = {"tokens": [10, 20, 100], "supervised": [4, 8, 40]}
    for rows in (1, 10, 1001):
        prompts, answers = known.lengths(record, rows)
        lengths = prompts + answers
        assert (len(lengths), lengths.min() >= 10, lengths.max() <= 100) == (rows, True, True)
        assert np.median(lengths) == 20 or rows == 10

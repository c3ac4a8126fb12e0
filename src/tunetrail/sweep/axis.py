"""The values that a parameter has in a sweep -> an axis for them: numbers or labels, and where each job is on it."""

import itertools
import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

_UNSET = "not set"
_DECADE = 10  # an axis is logarithmic if the largest value is more than this many times the smallest


@dataclass(frozen=True)
class Axis:
    """One varied parameter: the position of each job on its axis, and the labels of the positions 0, 1, 2 ... where the
    values are not numbers. `declared` is whether the overrides ask for a logarithmic scale."""

    name: str
    positions: list[float]
    labels: list[str] | None
    declared: bool = False

    @property
    def log(self) -> bool:
        """Whether the axis is logarithmic: numbers above 0, and it is declared or they span more than a decade."""
        wide = self.declared or max(self.positions) > _DECADE * min(self.positions)
        return self.labels is None and min(self.positions) > 0 and wide


def varied(jobs: list[dict[str, Any]], log: Collection[str] = ()) -> list[Axis]:
    """Return an axis for each parameter that has several values, in their order.

    `jobs`: the parameters of each, name -> value; `log`: the names of those that were declared logarithmic.
    """
    names = dict.fromkeys(name for job in jobs for name in job)
    axes = [_axis(name, [job.get(name) for job in jobs], name in log) for name in names]
    return [axis for axis in axes if len(set(axis.positions)) > 1]


def numbered(jobs: int) -> Axis:
    """Return the axis for that many jobs in which nothing varies: side by side."""
    return Axis("job", [float(number) for number in range(jobs)], [str(number) for number in range(jobs)])


def _axis(name: str, values: list[Any], declared: bool) -> Axis:
    numbers = [_number(value) for value in values]
    if None not in numbers:
        return Axis(name, numbers, None, declared)
    texts = [_UNSET if value is None else text(value) for value in values]
    labels = list(dict.fromkeys(texts))
    return Axis(name, [float(labels.index(text)) for text in texts], _without_common_start(labels))


def _without_common_start(labels: list[str]) -> list[str]:
    """Return long labels without the words with which all of them start, such as a folder's path."""
    common = sum(1 for _ in itertools.takewhile(lambda signs: len(set(signs)) == 1, zip(*labels, strict=False)))
    start = len(re.sub(r"\w*$", "", labels[0][:common]))
    return [f"…{label[start:]}" for label in labels] if start > 8 and max(map(len, labels)) > 26 else labels


def numeral(number: float) -> str:
    return str(int(number)) if number.is_integer() and abs(number) < 1e9 else f"{number:.5g}"


def text(value: Any) -> str:
    """Return a parameter's value as text; 1e-3 and 0.001 give the same."""
    number = _number(value)
    return " ".join(str(value).split()) if number is None else numeral(number)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def short(text: str, length: int) -> str:
    """Return at most `length` characters for matplotlib. A long text loses its middle: paths and keys differ at the ends."""
    if len(text) > length:
        start = (length - 1) // 2
        end = length - 1 - start
        text = f"{text[:start]}…{text[len(text) - end :]}"
    return text.replace("$", r"\$")  # else matplotlib would read a formula

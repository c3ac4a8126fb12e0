"""The values that a parameter has in a sweep -> an axis for them: which kind, where each value stands, what it says.

Not covered: drawing, which is `plot`'s.
"""

import itertools
import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import ticker

_UNSET = "not set"
_DECADE = 10  # the largest value over the smallest, above which an axis is logarithmic


@dataclass(frozen=True)
class Axis:
    """One varied parameter: where each job stands on its axis, and what the axis says."""

    name: str
    places: list[float]
    numeric: bool
    labels: list[str]  # of 0, 1, 2 ... where it is not numeric
    declared: bool = False  # logarithmic, by who asked for the sweep

    @property
    def log(self) -> bool:
        """Whether equal factors are equally far apart: declared so, or the values span more than a decade; all above 0."""
        wide = self.declared or max(self.places) > _DECADE * min(self.places)
        return self.numeric and min(self.places) > 0 and wide

    def share(self, place: float) -> float:
        """Where between the lowest (0) and the highest (1) of its places this one is."""
        low, high, place = (math.log(at) if self.log else at for at in (min(self.places), max(self.places), place))
        return (place - low) / (high - low) if high > low else 0.5

    def ticks(self, most: int) -> list[float]:
        """The values themselves where there are few and none crowds another, else round numbers among them."""
        values = sorted(set(self.places))
        if not self.numeric:
            return values[:: math.ceil(len(values) / most)]
        shares = [self.share(value) for value in values]
        if len(values) <= most and min(np.diff(shares), default=1) >= 0.6 / most:
            return values
        if self.log:
            locators = [ticker.LogLocator(subs=subs) for subs in ((1, 2, 5), (1, 3), (1,))]
        else:
            locators = [ticker.MaxNLocator(count, steps=[1, 2, 5, 10]) for count in (most - 1, most // 2)]
        for locator in locators:
            found = [at for at in locator.tick_values(values[0], values[-1]) if values[0] <= at <= values[-1]]
            if 1 < len(found) <= most:
                return found
        return [values[0], values[-1]]

    def label(self, place: float, length: int) -> str:
        """What stands at a place, in at most `length` signs where it is not a number."""
        return _numeral(place) if self.numeric else short(self.labels[round(place)], length)


def varied(jobs: list[dict[str, Any]], log: Collection[str] = ()) -> list[Axis]:
    """An axis for each parameter that has several values, in their order.

    `jobs`: the parameters of each, name -> value; `log`: the names of those that were declared logarithmic.
    """
    names = dict.fromkeys(name for job in jobs for name in job)
    axes = [_axis(name, [job.get(name) for job in jobs], name in log) for name in names]
    return [axis for axis in axes if len(set(axis.places)) > 1]


def beside(jobs: int) -> Axis:
    """The axis on which that many jobs, in which nothing varies, stand side by side."""
    return Axis("job", [float(number) for number in range(jobs)], False, [str(number) for number in range(jobs)])


def _axis(name: str, values: list[Any], declared: bool) -> Axis:
    numbers = [_number(value) for value in values]
    if None not in numbers:
        return Axis(name, numbers, True, [], declared)
    said = [_UNSET if value is None else text(value) for value in values]
    labels = list(dict.fromkeys(said))
    return Axis(name, [float(labels.index(label)) for label in said], False, _apart(labels))


def _apart(labels: list[str]) -> list[str]:
    """Long labels without the words with which all of them begin, such as a folder's path."""
    same = sum(1 for _ in itertools.takewhile(lambda signs: len(set(signs)) == 1, zip(*labels, strict=False)))
    cut = len(re.sub(r"\w*$", "", labels[0][:same]))
    return [f"…{label[cut:]}" for label in labels] if cut > 8 and max(map(len, labels)) > 26 else labels


def _numeral(number: float) -> str:
    return str(int(number)) if number.is_integer() and abs(number) < 1e9 else f"{number:.5g}"


def text(value: Any) -> str:
    """A parameter's value as it is written: numbers alike, whether 1e-3 or 0.001 was typed."""
    number = _number(value)
    return " ".join(str(value).split()) if number is None else _numeral(number)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def short(text: str, length: int) -> str:
    """At most `length` signs for matplotlib. Long names lose their middle: paths and keys differ at the ends."""
    if len(text) > length:
        kept = length - 1
        text = f"{text[: kept // 2]}…{text[len(text) - (kept - kept // 2) :]}"
    return text.replace("$", r"\$")  # else a formula would begin

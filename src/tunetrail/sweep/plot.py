"""A sweep's jobs -> one figure: the score over each parameter that varies, with the base's score behind it."""

import math
import textwrap
from collections import Counter
from collections.abc import Collection

import numpy as np
from matplotlib import colors, ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from tunetrail.evaluation.results import SCORES
from tunetrail.report.plots import BASE, TUNED, VALIDATION
from tunetrail.sweep import axis, state
from tunetrail.sweep.axis import Axis
from tunetrail.sweep.state import Job
from tunetrail.tracking import ranking

_SCORE = f"{SCORES['prompt_strict'][1]}, %"
_COLUMNS = 3
_MOST_TICKS = 8
_MOST_LABELS = 20
_LOOK = {"color": TUNED, "marker": "o", "markersize": 4.5}
_LOOK_BEST = {"color": VALIDATION, "marker": "D", "markersize": 6}
_LOOK_BASE = {"color": BASE, "marker": "_", "markersize": 7, "markeredgewidth": 2}
_LOOK_UNSCORED = {"color": "#555555", "marker": "x", "markersize": 6}


def scores(jobs: list[Job], log: Collection[str] = ()) -> Figure:
    """Draw a panel for each parameter whose values differ; if none does, the jobs stand side by side.

    `jobs` are one or more, by number; `log` names the parameters that were declared logarithmic. A job without a score is a
    cross at the foot of each panel and is counted in the title. If all jobs have the same base score, it is a dashed line
    over its 95 % interval; otherwise each job has a dash for its own.
    """
    varied = axis.varied([job.params for job in jobs], log) or [axis.numbered(len(jobs))]
    columns = min(len(varied), _COLUMNS)
    rows = math.ceil(len(varied) / columns)
    width = {1: 7.0, 2: 9.0}.get(columns, 11.5)
    figure = Figure(figsize=(width, 3.1 * rows + 0.8), layout="constrained")
    cells = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes in cells.flat[len(varied) :]:
        axes.remove()
    for axes, parameter in zip(cells.flat, varied, strict=False):
        _panel(axes, parameter, jobs, width / columns)
    for axes in cells[:, 0]:
        axes.set_ylabel(_SCORE)
    _y_axis(cells[0, 0], jobs)
    figure.suptitle(_title(jobs, round(12 * width)), fontsize=11)
    handles = _legend(jobs)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    return figure


def _bases(jobs: list[Job]) -> list[dict[str, float]]:
    """Return the base's scores of all jobs, equal ones once."""
    bases: list[dict[str, float]] = []
    for job in jobs:
        if job.scored and job.base and job.base not in bases:
            bases.append(job.base)
    return bases


def _unscored_by_state(jobs: list[Job]) -> Counter[str]:
    finished = ("finished", "skipped")
    return Counter("without a score" if job.state in finished else job.state for job in jobs if not job.scored)


def _legend(jobs: list[Job]) -> list[Line2D]:
    scored = [job for job in jobs if job.scored]
    bases = _bases(jobs)
    signs = []
    if len(scored) > 1:
        signs.append(("job", _LOOK))
    if scored:
        signs.append(("best" if len(jobs) > 1 else "job", _LOOK_BEST))
    if unscored := _unscored_by_state(jobs):
        signs.append((", ".join(unscored), _LOOK_UNSCORED))
    if len(bases) > 1:
        signs.append(("its base", _LOOK_BASE))
    handles = [Line2D([], [], label=label, linestyle="", **look) for label, look in signs]
    if len(bases) == 1:
        handles.append(Line2D([], [], label="base", color=BASE, linestyle="--"))
    return handles


def _title(jobs: list[Job], width: int) -> str:
    """Return the number of jobs, how many have no score and why, and the best job, in lines of `width` characters."""
    count = "1 job" if len(jobs) == 1 else f"{len(jobs)} jobs"
    lines = [", ".join([count, *(f"{number} {state}" for state, number in _unscored_by_state(jobs).items())])]
    if best := state.best(jobs):
        text = f"{100 * best.score:.1f} %{ranking.below(best.score, best.base['value'] if best.base else None)}"
        if len(jobs) > 1:
            text = f"{ranking.best_of(job.score for job in jobs if job.scored)}: {text}"
        if best.params:
            values = {axis.short(name, 40): axis.short(axis.text(value), 40) for name, value in best.params.items()}
            text += f", {' '.join(f'{name}={value}' for name, value in values.items())}"
        lines += textwrap.wrap(text, width, max_lines=3, placeholder=" …", break_on_hyphens=False)
    return "\n".join(lines)


def _panel(axes: Axes, parameter: Axis, jobs: list[Job], width: float) -> None:
    """Draw each job at its value. Jobs with the same value are shifted apart by points of the page, not in the data."""
    gap = _x_axis(axes, parameter, width)
    bases = _bases(jobs)
    if len(bases) == 1:
        axes.axhspan(100 * bases[0]["low"], 100 * bases[0]["high"], color=BASE, alpha=0.15, linewidth=0, zorder=1)
        axes.axhline(100 * bases[0]["value"], color=BASE, linestyle="--", linewidth=1.2, zorder=1)
    best = state.best(jobs)
    alike = Counter(parameter.positions)
    drawn: Counter[float] = Counter()
    for position, job in zip(parameter.positions, jobs, strict=True):
        apart = min(5.0, min(22.0, 25 * width * gap) / alike[position])  # points
        shift = apart * (drawn[position] - (alike[position] - 1) / 2)
        drawn[position] += 1
        shifted = ScaledTranslation(shift / 72, 0, axes.figure.dpi_scale_trans)
        if not job.scored:
            at_foot = axes.get_xaxis_transform() + shifted
            axes.plot(position, 0.03, linestyle="", transform=at_foot, clip_on=False, **_LOOK_UNSCORED)
            continue
        at_position = {"linestyle": "", "transform": axes.transData + shifted}
        if len(bases) > 1 and job.base:
            axes.plot(position, 100 * job.base["value"], zorder=2, **at_position, **_LOOK_BASE)
        look = _LOOK_BEST if job is best else _LOOK
        interval = None if job.low is None else [[100 * (job.score - job.low)], [100 * (job.high - job.score)]]
        bar = {"ecolor": colors.to_rgba(look["color"], 0.5), "elinewidth": 1, "capsize": 2 if len(jobs) <= 30 else 0}
        axes.errorbar(position, 100 * job.score, interval, zorder=4 if job is best else 3, **at_position, **look, **bar)
    axes.grid(axis="y", color="#eeeeee")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _x_axis(axes: Axes, parameter: Axis, width: float) -> float:
    """Set scale, limits, ticks and label of a panel `width` inches wide; return the smallest gap between two values as a
    share of the width.

    The values themselves are the ticks where there are few and none crowds another, else round numbers.
    """
    if parameter.log:
        axes.set_xscale("log")
    values = sorted(set(parameter.positions))
    points = [(value, 0) for value in values]
    axes.set_xmargin(0.1)
    axes.update_datalim(points, updatey=False)
    axes.autoscale_view(scaley=False)
    shares = axes.transAxes.inverted().transform(axes.transData.transform(points))[:, 0]
    gap = min(np.diff(shares), default=1)
    if parameter.labels:
        ticks = values[:: math.ceil(len(values) / _MOST_LABELS)]
        labels = [axis.short(parameter.labels[round(tick)], 26) for tick in ticks]
    else:
        crowded = len(values) > _MOST_TICKS or gap < 0.5 / _MOST_TICKS
        ticks = _round_numbers(values[0], values[-1], parameter.log) if crowded else values
        labels = [axis.numeral(tick) for tick in ticks]
    look = {"fontsize": 8}
    if sum(map(len, labels)) + 2 * len(labels) > 11 * width:  # more than there is room for, at 11 characters an inch
        look |= {"rotation": 90} if len(labels) > 8 else {"rotation": 25, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(ticks, labels, **look)
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.set_xlabel(axis.short(parameter.name, round(11 * width)), fontsize=9)
    return gap


def _round_numbers(low: float, high: float, log: bool) -> list[float]:
    """Return two to `_MOST_TICKS` round numbers from `low` to `high`, or these two if there are none."""
    locators = [ticker.MaxNLocator(_MOST_TICKS - 1, steps=[1, 2, 5, 10])]
    if log:
        locators = [ticker.LogLocator(subs=subs, numticks=_MOST_TICKS) for subs in ((1, 2, 5), (1, 3), (1,))]
    for locator in locators:
        ticks = [float(tick) for tick in locator.tick_values(low, high) if low <= tick <= high]
        if 2 <= len(ticks) <= _MOST_TICKS:
            return ticks
    return [low, high]


def _y_axis(axes: Axes, jobs: list[Job]) -> None:
    """Set limits around all intervals, with room at the foot for the crosses, and ticks from 0 to 100 only."""
    scored = [job for job in jobs if job.scored]
    shares = [share for job in scored for share in (job.score, job.low, job.high) if share is not None]
    shares += [share for base in _bases(jobs) for share in base.values()]
    low, high = (100 * min(shares), 100 * max(shares)) if shares else (0, 100)
    room = max(0.06 * (high - low), 1.5)
    foot = 2.5 * room if len(scored) < len(jobs) else room
    axes.set_ylim(low - foot, min(high + room, 104))
    ticks = ticker.MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(max(low - foot, 0), min(high + room, 100))
    axes.set_yticks([tick for tick in ticks if max(low - foot, 0) <= tick <= min(high + room, 100)])

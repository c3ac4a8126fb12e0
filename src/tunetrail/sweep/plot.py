"""A sweep's jobs -> one figure: the score over each parameter that varies.

What the base scored is drawn behind, since base against tuned is the question. Not covered: which of the differences are
more than chance (the 95 % intervals are drawn for that), and parallel coordinates, which MLflow's comparison page has.
"""

import math
import textwrap
from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np
from matplotlib import colors, ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from tunetrail.evaluation.results import SCORES
from tunetrail.report.plots import BASE, TUNED, VALIDATION
from tunetrail.sweep import axis
from tunetrail.sweep.axis import Axis
from tunetrail.tracking import ranking

_SCORE = f"{SCORES['prompt_strict'][1]}, %"
_COLUMNS = 3
_UNSCORED = "#555555"
_LOOK = {"color": TUNED, "marker": "o", "markersize": 4.5}
_LOOK_BEST = {"color": VALIDATION, "marker": "D", "markersize": 6}
_LOOK_BASE = {"color": BASE, "marker": "_", "markersize": 7, "markeredgewidth": 2}
_LOOK_UNSCORED = {"color": _UNSCORED, "marker": "x", "markersize": 6}
_ENDS = {"FAILED": "failed", "KILLED": "stopped", "RUNNING": "not ended", "FINISHED": "without a score"}


def scores(jobs: list[dict[str, Any]], log: Collection[str] = ()) -> Figure:
    """`jobs`: {"params": {name: text}, "score", "low", "high": shares or None, "status": MLflow's word}; at least one, in
    the order of their numbers. Where it is known also "loss", the last validation loss, by which equal jobs are ranked
    (`ranking.sort_key`), and "base", what its base scored, as {"value", "low", "high"}. `log` names the parameters that were
    declared logarithmic.

    A parameter has a panel if its values differ; where none does, the jobs stand side by side. A job without a score is a
    cross at the foot of each panel and is counted in the title. The base of all jobs is a dashed line over its 95 %
    interval; where jobs have bases that scored otherwise, each has a dash of its own.
    """
    varied = axis.varied([job["params"] for job in jobs], log) or [axis.beside(len(jobs))]
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
    _limit(cells[0, 0], jobs)
    figure.suptitle(_title(jobs, round(12 * width)), fontsize=11)
    signs = _signs(jobs)
    figure.legend(handles=signs, loc="outside lower center", ncols=len(signs), frameon=False, fontsize=9)
    return figure


def _scored(job: dict[str, Any]) -> bool:
    return job["status"] == "FINISHED" and job["score"] is not None


def _best(jobs: list[dict[str, Any]]) -> dict[str, Any] | None:
    numbered = [(number, job) for number, job in enumerate(jobs) if _scored(job)]
    first = min(numbered, key=lambda of: ranking.sort_key(of[1]["score"], of[1].get("loss"), of[0]), default=None)
    return first[1] if first else None


def _bases(jobs: list[dict[str, Any]]) -> list[dict[str, float]]:
    """What the bases scored, each once."""
    found: list[dict[str, float]] = []
    for base in (job.get("base") for job in jobs if _scored(job)):
        found += [base] if base and base not in found else []
    return found


def _unscored(jobs: list[dict[str, Any]]) -> Counter[str]:
    """How many jobs have no score, by what became of them."""
    return Counter(_ENDS.get(job["status"], "not ended") for job in jobs if not _scored(job))


def _signs(jobs: list[dict[str, Any]]) -> list[Line2D]:
    """The legend: what the signs that the figure has stand for."""
    count, best, unscored = sum(map(_scored, jobs)), _best(jobs), ", ".join(_unscored(jobs))
    signs = [("job", _LOOK)] if count > 1 else []
    signs += [("best" if len(jobs) > 1 else "job", _LOOK_BEST)] if best else []
    signs += [(unscored, _LOOK_UNSCORED)] if unscored else []
    signs = [(label, {"linestyle": "", **look}) for label, look in signs]
    bases = _bases(jobs)
    signs += [("base", {"color": BASE, "linestyle": "--"})] if len(bases) == 1 else []
    signs += [("its base", _LOOK_BASE | {"linestyle": ""})] if len(bases) > 1 else []
    return [Line2D([], [], label=label, **look) for label, look in signs]


def _title(jobs: list[dict[str, Any]], width: int) -> str:
    """How many jobs there are, which have no score and why, and the best, in lines of `width` letters."""
    unscored = [f"{count} {word}" for word, count in _unscored(jobs).items()]
    lines = [", ".join([f"{len(jobs)} job{'s' * (len(jobs) != 1)}", *unscored])]
    if best := _best(jobs):
        values = {name: axis.short(axis.text(value), 40) for name, value in best["params"].items()}
        params = " ".join(f"{axis.short(name, 40)}={value}" for name, value in values.items())
        word = ranking.best_of(job["score"] for job in jobs if _scored(job))
        base = best.get("base")
        score = f"{100 * best['score']:.1f} %{ranking.below(best['score'], base['value'] if base else None)}"
        said = f"{word}: " * (len(jobs) > 1) + score + f", {params}" * bool(params)
        lines += textwrap.wrap(said, width, max_lines=3, placeholder=" …", break_on_hyphens=False)
    return "\n".join(lines)


def _panel(axes: Axes, parameter: Axis, jobs: list[dict[str, Any]], width: float) -> None:
    """Each job at its value. Jobs with the same value stand a little apart, by points of the page: the value stays."""
    best, seen, alike = _best(jobs), Counter(), Counter(parameter.places)
    gap = min(np.diff([parameter.share(place) for place in sorted(alike)]), default=1)
    spread = min(22.0, 25 * width * gap)  # points
    if parameter.log:
        axes.set_xscale("log")
    bases = _bases(jobs)
    if len(bases) == 1:
        axes.axhspan(100 * bases[0]["low"], 100 * bases[0]["high"], color=BASE, alpha=0.15, linewidth=0, zorder=1)
        axes.axhline(100 * bases[0]["value"], color=BASE, linestyle="--", linewidth=1.2, zorder=1)
    for place, job in zip(parameter.places, jobs, strict=True):
        apart = min(5.0, spread / alike[place]) * (seen[place] - (alike[place] - 1) / 2)
        seen[place] += 1
        aside = ScaledTranslation(apart / 72, 0, axes.figure.dpi_scale_trans)
        if not _scored(job):
            at_foot = axes.get_xaxis_transform() + aside
            axes.plot(place, 0.03, linestyle="", transform=at_foot, clip_on=False, **_LOOK_UNSCORED)
            continue
        if len(bases) > 1 and job.get("base"):
            its = {"linestyle": "", "zorder": 2, "transform": axes.transData + aside}
            axes.plot(place, 100 * job["base"]["value"], **its, **_LOOK_BASE)
        look, above = (_LOOK_BEST, 4) if job is best else (_LOOK, 3)
        ends = None if job["low"] is None else [[100 * (job["score"] - job["low"])], [100 * (job["high"] - job["score"])]]
        bar = {"ecolor": colors.to_rgba(look["color"], 0.5), "elinewidth": 1, "capsize": 2 if len(jobs) <= 30 else 0}
        drawn = {"linestyle": "", "zorder": above, "transform": axes.transData + aside}
        axes.errorbar(place, 100 * job["score"], ends, **look, **bar, **drawn)
    _x_axis(axes, parameter, width)
    axes.grid(axis="y", color="#eeeeee")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _x_axis(axes: Axes, parameter: Axis, width: float) -> None:
    low, high = min(parameter.places), max(parameter.places)
    if parameter.log:
        axes.set_xlim(low / (high / low) ** 0.1, high * (high / low) ** 0.1)
    else:
        beside = 0.1 * (high - low) if parameter.numeric else 0.5
        axes.set_xlim(low - beside, high + beside)
    ticks = parameter.ticks(8 if parameter.numeric else 20)
    labels = [parameter.label(tick, 26) for tick in ticks]
    look = {"fontsize": 8}
    if sum(map(len, labels)) + 2 * len(labels) > 11 * width:  # more than there is room for, at 11 signs to the inch
        look |= {"rotation": 90} if len(labels) > 8 else {"rotation": 25, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(ticks, labels, **look)
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.set_xlabel(axis.short(parameter.name, round(11 * width)), fontsize=9)


def _limit(axes: Axes, jobs: list[dict[str, Any]]) -> None:
    """From the lowest end of an interval to the highest, with room at the foot for the crosses; ticks are shares alone."""
    scored = [job for job in jobs if _scored(job)]
    ends = [100 * job[key] for job in scored for key in ("score", "low", "high") if job[key] is not None]
    ends += [100 * share for base in _bases(jobs) for share in base.values()]
    ends = ends or [0, 100]
    room = max(0.06 * (max(ends) - min(ends)), 1.5)
    foot = 2.5 * room if len(scored) < len(jobs) else room
    axes.set_ylim(min(ends) - foot, min(max(ends) + room, 104))
    ticks = ticker.MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(*axes.get_ylim())
    axes.set_yticks([tick for tick in ticks if 0 <= tick <= 100 and axes.get_ylim()[0] <= tick <= axes.get_ylim()[1]])

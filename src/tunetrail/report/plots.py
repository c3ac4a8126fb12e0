"""Scores and logged steps -> figures, each as PNG (to look at) and SVG (to scale), the same bytes for the same numbers."""

import math
import textwrap
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from tunetrail.evaluation.results import SCORES, Results, size
from tunetrail.evaluation.significance import Score, wilson

# Okabe and Ito's palette, for colour-blind people too (jfly.uni-koeln.de/color).
BASE, TUNED, RATE, VALIDATION = "#999999", "#0072B2", "#E69F00", "#D55E00"
COLOURS = {"base": BASE, "tuned": TUNED, "responses": TUNED}
# Several runs: the whole palette, pale yellow last, then again with other lines and hatches.
_RUNS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000", "#F0E442")
_LINES, _HATCHES = ("-", "--", ":"), ("", "///", "...")
MOST_RUNS = len(_RUNS) * len(_LINES)  # more look alike
_DASH = 5  # line widths; of a curve that coincides with another
_DIVERGED = 1.5  # times the highest first loss of a run
_STEEP = 3  # times its lowest value: a loss that has fallen so far is drawn on a log scale
_LABELLED = 4  # groups of more bars have no room for numbers above them
# For every function that makes axes.
_styled = matplotlib.rc_context({"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False})


def save(figure: Figure, path: Path) -> None:
    """Write `path`.png and `path`.svg, without a date and random ids: the same figure gives the same bytes."""
    with matplotlib.rc_context({"svg.hashsalt": "tunetrail"}):
        figure.savefig(path.with_suffix(".png"), dpi=144)
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def _add_title(figure: Figure, name: str) -> None:
    if name:
        figure.suptitle(_wrapped(name), fontsize=11)


def _wrapped(name: str) -> str:
    return textwrap.fill(_text(name), 80)


@_styled
def ifeval(by_model: dict[str, Results], name: str = "") -> Figure:
    """Draw the four scores of one or two models as grouped bars, in per cent, with 95 % intervals."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    _bars(axes, [(model, results.scores, {"color": COLOURS[model]}) for model, results in by_model.items()])
    first = next(iter(by_model.values()))
    axes.set_title("\n".join(filter(None, [_wrapped(name), f"{first.task}: {size(first)}"])), fontsize=11)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)
    return figure


def _bars(axes: Any, groups: list[tuple[str, dict[str, Score], dict[str, Any]]]) -> None:
    """Draw a bar with its interval for each of the four scores and each group: (label, scores, style)."""
    width = 0.76 / len(groups)
    for number, (label, scores, style) in enumerate(groups):
        values = [scores[name] for name in SCORES]
        heights = [100 * score.value for score in values]
        errors = [[100 * (s.value - s.low) for s in values], [100 * (s.high - s.value) for s in values]]
        centres = [index + width * (number - (len(groups) - 1) / 2) for index in range(len(values))]
        bars = {"label": label, "capsize": min(4, 16 / len(groups)), "ecolor": "#333333"}
        edge = {"edgecolor": style["color"], "linewidth": 2.5, "zorder": 3, "clip_on": False}  # seen at a height of 0, too
        edge = {} if "hatch" in style else edge  # an edge has the colour of the hatch
        axes.bar(centres, heights, width, yerr=errors, **bars, **(edge | style))
        if len(groups) > _LABELLED:
            continue
        for x, height, score in zip(centres, heights, values, strict=True):
            above = {"xytext": (0, 4), "textcoords": "offset points", "ha": "center", "fontsize": 9, "zorder": 5}
            axes.annotate(f"{height:.1f}", (x, 100 * score.high), **above)
    axes.set_xticks(range(len(SCORES)), [label for _, label in SCORES.values()])
    axes.set(ylim=(0, 110), ylabel="accuracy, %")
    axes.set_yticks(range(0, 101, 20))


def colour(number: int) -> str:
    """Return the colour of the run with this number among those compared."""
    return _RUNS[number % len(_RUNS)]


@_styled
def runs(runs: list[tuple[int, str, dict[str, dict[str, Score]]]], title: str) -> Figure:
    """Draw the scores of several runs' tuned models as bars, with a dash across each at the score of its base.

    A run is its number among those compared, which gives the colour, its label, and the scores of `base` and `tuned`.
    """
    figure = Figure(figsize=(max(8, min(16, 1.6 * len(runs))), 4.2 + 0.25 * len(runs)), layout="constrained")
    axes = figure.subplots()
    groups = []
    for number, label, scores in runs:
        hatch = _HATCHES[number // len(_RUNS)]
        style = {"color": colour(number)} | ({"hatch": hatch, "edgecolor": "white"} if hatch else {})
        groups.append((_text(label), scores["tuned"], style))
    _bars(axes, groups)
    width = 0.76 / len(runs)
    for group, (_, _, scores) in enumerate(runs):
        for index, name in enumerate(SCORES):
            centre = index + width * (group - (len(runs) - 1) / 2)
            height = 100 * scores["base"][name].value
            ends = [centre - 0.45 * width, centre + 0.45 * width]
            label = "its base" if not group and not index else None
            outline = [withStroke(linewidth=4.5, foreground="white")]  # the dash may lie on a bar
            dash = {"color": "#333333", "linewidth": 2.5, "solid_capstyle": "butt", "zorder": 4, "path_effects": outline}
            axes.plot(ends, [height, height], label=label, **dash)
    axes.set(title=title)
    figure.legend(loc="outside lower left")
    return figure


@_styled
def losses(runs: list[tuple[int, str, dict[str, list[tuple[int, float]]]]], note: str = "") -> Figure:
    """Draw training loss above and validation loss below (nats per token) by optimiser step: a line for each run.

    A run is its number among those compared, its label, and its curves by name: steps and values. Of coinciding curves the
    later ones are dashed, so that all are seen.
    """
    figure = Figure(figsize=(8, 6.5 + 0.25 * len(runs)), layout="constrained")
    panels = figure.subplots(2, sharex=True, height_ratios=(4, 3))
    _add_title(figure, note)
    shown = (("train/loss", "training", ""), ("validation/loss", "validation", "o"))
    for axes, (name, title, marker) in zip(panels, shown, strict=True):
        for index, (number, label, curves) in enumerate(runs):
            style = {"color": colour(number), "linestyle": _LINES[number // len(_RUNS)], "marker": marker, "markersize": 4}
            coinciding = [other for other, run in enumerate(runs) if _coincide(run[2][name], curves[name])]
            if coinciding and coinciding[0] < index:
                gaps = len(coinciding) - 1
                style["linestyle"] = (_DASH * (gaps + 1 - coinciding.index(index)), (_DASH, _DASH * gaps))
            steps, values = zip(*curves[name], strict=True) if curves[name] else ((), ())
            # Between validations nothing was measured: a faint line only shows which points are one run's.
            axes.plot(steps, values, label=_text(label), linewidth=0.4 if marker else 1.2, **style)
        axes.set(ylabel=f"{title} loss, nats a token")
        first = [curves[name][0][1] for _, _, curves in runs if curves[name] and math.isfinite(curves[name][0][1])]
        if first:  # a run that diverges leaves the panel, and does not flatten the others
            low, high = axes.get_ylim()
            axes.set_ylim(max(low, 0), min(high, _DIVERGED * max(first)))
    panels[1].set(xlabel="optimiser step")
    panels[1].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower left", handlelength=4)
    return figure


def _coincide(curve: list[tuple[int, float]], other: list[tuple[int, float]]) -> bool:
    """Return whether two curves have the same steps and are nowhere further apart than a hundredth of their height."""
    values = [value for _, value in (*curve, *other) if math.isfinite(value)]
    if not values or [step for step, _ in curve] != [step for step, _ in other]:
        return False
    near = 0.01 * (max(values) - min(values))
    return all(a == b or abs(a - b) <= near for (_, a), (_, b) in zip(curve, other, strict=True))


def _text(label: str) -> str:
    """Return a label for matplotlib: not read as a formula, and not wider than the figure."""
    return (label if len(label) <= 90 else f"{label[:89]}…").replace("$", r"\$")


@_styled
def types(rows: list[dict[str, Any]], name: str = "") -> Figure:
    """Draw a line for each instruction type: its share that each model followed (strict), in per cent with Wilson's 95 %
    interval, and its count. The types that gained most by tuning come first.
    """
    figure = Figure(figsize=(8, (1.5 if name else 1.2) + 0.28 * len(rows)), layout="constrained")
    axes = figure.subplots()
    _add_title(figure, name)
    models = [name.removesuffix("_strict") for name in rows[0] if name.endswith("_strict")]
    rows = sorted(rows, key=lambda row: row[f"{models[0]}_strict"] - row[f"{models[-1]}_strict"])
    heights = range(len(rows), 0, -1)
    for model, above in zip(models, (0.13, -0.13) if len(models) == 2 else (0,), strict=True):
        shares = [_share(row[f"{model}_strict"], row["n"]) for row in rows]
        axes.errorbar(
            [100 * share.value for share in shares],
            [height + above for height in heights],
            xerr=[[100 * (s.value - s.low) for s in shares], [100 * (s.high - s.value) for s in shares]],
            **{"color": COLOURS[model], "label": model, "fmt": "o", "markersize": 5, "elinewidth": 1.2, "clip_on": False},
        )
    names = [row["type"].replace("_", " ").replace(":", ": ") for row in rows]
    axes.set_yticks(list(heights), [f"{name} ({row['n']})" for name, row in zip(names, rows, strict=True)], fontsize=8)
    axes.set(xlim=(-2, 102), ylim=(0.3, len(rows) + 0.7), xlabel="instructions followed (strict), %")
    axes.grid(axis="x", color="#eeeeee")
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure


def _share(value: float, n: int) -> Score:
    return wilson([np.array([number < round(value * n)]) for number in range(n)])


@_styled
def lengths(histogram: dict[str, list[float]], sequence_len: int, name: str = "") -> Figure:
    """Draw the histogram of tokens per training row, with the longest sequence that is trained on."""
    figure = Figure(figsize=(8, 3.4 if name else 3.2), layout="constrained")
    _add_title(figure, name)
    axes = figure.subplots()
    axes.stairs(histogram["counts"], histogram["edges"], fill=True, color=TUNED)
    if sequence_len <= 2 * histogram["edges"][-1]:
        axes.axvline(sequence_len, color=VALIDATION, linestyle="--", label=f"sequence_len {sequence_len:,}")
        axes.legend()
    axes.set(xlabel="tokens in a row: prompt, answer, BOS, EOS", ylabel="rows", xlim=(0, None))
    return figure


@_styled
def loss(history: list[dict[str, Any]], name: str = "") -> Figure:
    """Draw training and validation loss (nats per token) above, the learning rate below, by optimiser step."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    _add_title(figure, name)
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))

    def points(metric: str) -> tuple[list[int], list[float]]:
        rows = [row for row in history if metric in row]
        return [row["step"] for row in rows], [row[metric] for row in rows]

    upper.plot(*points("train/loss"), color=TUNED, label="training", linewidth=1.2)
    upper.plot(*points("validation/loss"), color=VALIDATION, label="validation", marker="o", linestyle="none")
    values = [value for line in upper.lines for value in line.get_ydata() if math.isfinite(value)]
    if values and 0 < _STEEP * min(values) < max(values):  # the first steps would flatten all others
        upper.set(yscale="log", ylabel="loss, nats a token (log scale)")
        if max(values) < 100 * min(values):
            upper.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        upper.yaxis.set_major_formatter("{x:g}")
        upper.yaxis.set_minor_formatter(NullFormatter())
    else:
        upper.set(ylabel="loss, nats a token", ylim=(min([0, *values]), None))
    upper.legend()
    lower.plot(*points("train/learning_rate"), color=RATE)
    lower.set(ylabel="learning rate", xlabel="optimiser step", ylim=(0, None))
    lower.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    return figure

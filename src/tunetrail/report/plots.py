"""Scores and logged steps -> figures, each as PNG (to look at) and SVG (to scale), the same bytes for the same numbers."""

import math
import textwrap
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tunetrail.evaluation.intervals import Score
from tunetrail.evaluation.results import SCORES, Results, size

# Okabe and Ito's palette, which colour-blind people can tell apart (jfly.uni-koeln.de/color).
BASE, TUNED, RATE, VALIDATION = "#999999", "#0072B2", "#E69F00", "#D55E00"
COLOURS = {"base": BASE, "tuned": TUNED, "responses": TUNED}
# Runs beside one another: the whole palette, the pale yellow last, then again in other lines and hatches.
_RUNS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000", "#F0E442")
_LINES, _HATCHES = ("-", "--", ":"), ("", "///", "...")
MOST_RUNS = len(_RUNS) * len(_LINES)  # that can be told apart
_DASH = 5  # line widths, of a curve that lies on another
_DIVERGED = 1.5  # times the highest loss that a run began with
_LABELLED = 4  # groups of more bars have no room for figures over them


def save(figure: Figure, path: Path) -> None:
    """Write `path`.png and `path`.svg, without the date and the random ids that would differ between runs."""
    with matplotlib.rc_context({"svg.hashsalt": "tunetrail"}):
        figure.savefig(path.with_suffix(".png"), dpi=144)
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def _named(figure: Figure, name: str) -> None:
    """Put the run's name over the figure, if it has one."""
    if name:
        figure.suptitle(_wrapped(name), fontsize=11)


def _wrapped(name: str) -> str:
    return textwrap.fill(_text(name), 80)


def ifeval(found: dict[str, Results], name: str = "") -> Figure:
    """Grouped bars of the four scores of one model or two, in per cent, with their 95 % intervals."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    _bars(axes, [(label, of.scores, {"color": COLOURS[label]}) for label, of in found.items()])
    one = next(iter(found.values()))
    axes.set_title("\n".join(filter(None, [_wrapped(name), f"{one.task}: {size(one)}"])), fontsize=11)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)
    return figure


def _bars(axes: Any, groups: list[tuple[str, dict[str, Score], dict[str, Any]]]) -> None:
    """For each of the four scores a bar a group, in per cent, with its interval; a group is label, scores and style."""
    width = 0.76 / len(groups)
    for number, (label, scores, style) in enumerate(groups):
        values = [scores[name] for name in SCORES]
        heights = [100 * score.value for score in values]
        errors = [[100 * (s.value - s.low) for s in values], [100 * (s.high - s.value) for s in values]]
        places = [index + width * (number - (len(groups) - 1) / 2) for index in range(len(values))]
        bars = {"label": label, "capsize": min(4, 16 / len(groups)), "ecolor": "#333333"}
        axes.bar(places, heights, width, yerr=errors, **bars, **style)
        for place, height, score in zip(places, heights, values, strict=True) if len(groups) <= _LABELLED else ():
            above = {"xytext": (0, 4), "textcoords": "offset points", "ha": "center", "fontsize": 9}
            axes.annotate(f"{height:.1f}", (place, 100 * score.high), **above)
    axes.set_xticks(range(len(SCORES)), [label for _, label in SCORES.values()])
    axes.set(ylim=(0, 110), ylabel="accuracy, %")
    axes.set_yticks(range(0, 101, 20))
    axes.spines[["top", "right"]].set_visible(False)


def colour(number: int) -> str:
    """The colour of the run at this place among those compared."""
    return _RUNS[number % len(_RUNS)]


def runs(found: list[tuple[int, str, dict[str, dict[str, Score]]]], title: str) -> Figure:
    """The bars of several runs' tuned models, and a dash across each at what its base scored.

    A run is its place among those compared, which gives the colour, its label, and the scores of `base` and `tuned`.
    """
    figure = Figure(figsize=(max(8, min(16, 1.6 * len(found))), 4.2 + 0.25 * len(found)), layout="constrained")
    axes = figure.subplots()
    styles = [
        {"color": colour(place), "hatch": _HATCHES[place // len(_RUNS)], "edgecolor": "white"} for place, _, _ in found
    ]
    _bars(axes, [(_text(label), of["tuned"], style) for (_, label, of), style in zip(found, styles, strict=True)])
    width = 0.76 / len(found)
    for number, (_, _, of) in enumerate(found):
        for index, name in enumerate(SCORES):
            middle, height = index + width * (number - (len(found) - 1) / 2), 100 * of["base"][name].value
            ends = [middle - 0.45 * width, middle + 0.45 * width]
            label = "its base" if not number and not index else None
            axes.plot(ends, [height, height], color="#555555", linewidth=2.5, solid_capstyle="butt", label=label)
    axes.set(title=title)
    figure.legend(frameon=False, loc="outside lower left")
    return figure


def losses(found: list[tuple[int, str, dict[str, list[tuple[int, float]]]]]) -> Figure:
    """Training loss above, validation loss below (nats a token), by optimiser step: a line a run.

    A run is its place among those compared, its label, and its curves by name: steps and values. Of curves that lie on one
    another the later ones are dashed, so that all are seen.
    """
    figure = Figure(figsize=(8, 6.5 + 0.25 * len(found)), layout="constrained")
    panels = figure.subplots(2, sharex=True, height_ratios=(4, 3))
    shown = (("train/loss", "training", ""), ("validation/loss", "validation", "o"))
    for axes, (name, word, marker) in zip(panels, shown, strict=True):
        for number, (place, label, curves) in enumerate(found):
            style = {"color": colour(place), "linestyle": _LINES[place // len(_RUNS)], "marker": marker, "markersize": 4}
            alike = [index for index, (_, _, other) in enumerate(found) if _alike(other[name], curves[name])]
            if alike and alike[0] < number:
                turn, count = alike.index(number), len(alike)
                style["linestyle"] = (_DASH * (count - turn), (_DASH, _DASH * (count - 1)))
            steps, values = zip(*curves[name], strict=True) if curves[name] else ((), ())
            axes.plot(steps, values, label=_text(label), linewidth=1.2, **style)
        axes.set(ylabel=f"{word} loss, nats a token")
        begun = [curves[name][0][1] for _, _, curves in found if curves[name] and math.isfinite(curves[name][0][1])]
        if begun:  # a run that diverges leaves the panel, and does not flatten the others
            low, high = axes.get_ylim()
            axes.set_ylim(max(low, 0), min(high, _DIVERGED * max(begun)))
        axes.spines[["top", "right"]].set_visible(False)
    panels[1].set(xlabel="optimiser step")
    panels[1].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, loc="outside lower left", handlelength=4)
    return figure


def _alike(one: list[tuple[int, float]], other: list[tuple[int, float]]) -> bool:
    """Whether two curves lie on one another: at the same steps, nowhere further apart than a hundredth of their height."""
    values = [value for _, value in (*one, *other) if math.isfinite(value)]
    if not values or [step for step, _ in one] != [step for step, _ in other]:
        return False
    near = 0.01 * (max(values) - min(values))
    return all(was == now or abs(was - now) <= near for (_, was), (_, now) in zip(one, other, strict=True))


def _text(label: str) -> str:
    """A person's words as matplotlib draws them: no formula, and no longer than the figure is wide."""
    return (label if len(label) <= 90 else f"{label[:89]}…").replace("$", r"\$")


def types(rows: list[dict[str, Any]], name: str = "") -> Figure:
    """One line an instruction type: how much of it each model followed (strict), in per cent, and how often it was asked."""
    figure = Figure(figsize=(8, (1.5 if name else 1.2) + 0.28 * len(rows)), layout="constrained")
    axes = figure.subplots()
    _named(figure, name)
    models = [name.removesuffix("_strict") for name in rows[0] if name.endswith("_strict")]
    places = range(len(rows), 0, -1)
    for place, row in zip(places, rows, strict=True):
        ends = [100 * row[f"{model}_strict"] for model in models]
        axes.plot([min(ends), max(ends)], [place, place], color="#cccccc", linewidth=2, zorder=1)
    for model in models:
        shares = [100 * row[f"{model}_strict"] for row in rows]
        axes.scatter(shares, places, color=COLOURS[model], label=model, zorder=2, clip_on=False)
    axes.set_yticks(list(places), [f"{row['type']} ({row['n']})" for row in rows], fontsize=8)
    axes.set(xlim=(-2, 102), ylim=(0.3, len(rows) + 0.7), xlabel="instructions followed (strict), %")
    axes.grid(axis="x", color="#eeeeee")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure


def lengths(histogram: dict[str, list[float]], sequence_len: int, name: str = "") -> Figure:
    """How many training rows have how many tokens, and where rows become too long."""
    figure = Figure(figsize=(8, 3.4 if name else 3.2), layout="constrained")
    _named(figure, name)
    axes = figure.subplots()
    axes.stairs(histogram["counts"], histogram["edges"], fill=True, color=TUNED)
    if sequence_len <= 2 * histogram["edges"][-1]:
        axes.axvline(sequence_len, color=VALIDATION, linestyle="--", label=f"sequence_len {sequence_len:,}")
        axes.legend(frameon=False)
    axes.set(xlabel="tokens in a row: prompt, answer, BOS, EOS", ylabel="rows", xlim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def loss(history: list[dict[str, Any]], name: str = "") -> Figure:
    """Training and validation loss (nats a token) above, the learning rate below, by optimiser step."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    _named(figure, name)
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))

    def points(metric: str) -> tuple[list[int], list[float]]:
        found = [(row["step"], row[metric]) for row in history if metric in row]
        return [step for step, _ in found], [value for _, value in found]

    upper.plot(*points("train/loss"), color=TUNED, label="training", linewidth=1.2)
    upper.plot(*points("validation/loss"), color=VALIDATION, label="validation", marker="o", linestyle="--")
    upper.set(ylabel="loss, nats a token", ylim=(0, None))
    upper.legend(frameon=False)
    lower.plot(*points("train/learning_rate"), color=RATE)
    lower.set(ylabel="learning rate", xlabel="optimiser step", ylim=(0, None))
    lower.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    return figure

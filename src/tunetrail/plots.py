"""Scores and logged steps -> figures, each as PNG (to look at) and SVG (to scale), the same bytes for the same numbers."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from tunetrail.results import SCORES, Results, size

# Okabe and Ito's palette, which colour-blind people can tell apart (jfly.uni-koeln.de/color).
BASE, TUNED, RATE, VALIDATION = "#999999", "#0072B2", "#E69F00", "#D55E00"
COLOURS = {"base": BASE, "tuned": TUNED, "responses": TUNED}


def save(figure: Figure, path: Path) -> None:
    """Write `path`.png and `path`.svg, without the date and the random ids that would differ between runs."""
    with matplotlib.rc_context({"svg.hashsalt": "tunetrail"}):
        figure.savefig(path.with_suffix(".png"), dpi=144)
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def ifeval(found: dict[str, Results]) -> Figure:
    """Grouped bars of the four scores of one model or two, in per cent, with their 95 % intervals."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    width = 0.76 / len(found)
    for number, (label, of) in enumerate(found.items()):
        values = [of.scores[name] for name in SCORES]
        heights = [100 * score.value for score in values]
        errors = [[100 * (s.value - s.low) for s in values], [100 * (s.high - s.value) for s in values]]
        places = [index + width * (number - (len(found) - 1) / 2) for index in range(len(values))]
        bars = {"color": COLOURS[label], "label": label, "capsize": 4, "ecolor": "#333333"}
        axes.bar(places, heights, width, yerr=errors, **bars)
        for place, height, score in zip(places, heights, values, strict=True):
            above = {"xytext": (0, 4), "textcoords": "offset points", "ha": "center", "fontsize": 9}
            axes.annotate(f"{height:.1f}", (place, 100 * score.high), **above)
    axes.set_xticks(range(len(SCORES)), [label for _, label in SCORES.values()])
    one = next(iter(found.values()))
    axes.set(ylim=(0, 110), ylabel="accuracy, %", title=f"{one.task}: {size(one)}")
    axes.set_yticks(range(0, 101, 20))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)
    return figure


def types(rows: list[dict[str, Any]]) -> Figure:
    """One line an instruction type: how much of it each model followed (strict), in per cent, and how often it was asked."""
    figure = Figure(figsize=(8, 1.2 + 0.28 * len(rows)), layout="constrained")
    axes = figure.subplots()
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


def lengths(histogram: dict[str, list[float]], sequence_len: int) -> Figure:
    """How many training rows have how many tokens, and where rows become too long."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.stairs(histogram["counts"], histogram["edges"], fill=True, color=TUNED)
    if sequence_len <= 2 * histogram["edges"][-1]:
        axes.axvline(sequence_len, color=VALIDATION, linestyle="--", label=f"sequence_len {sequence_len:,}")
        axes.legend(frameon=False)
    axes.set(xlabel="tokens in a row: prompt, answer, BOS, EOS", ylabel="rows", xlim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def loss(history: list[dict[str, Any]]) -> Figure:
    """Training and validation loss (nats a token) above, the learning rate below, by optimiser step."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))

    def points(name: str) -> tuple[list[int], list[float]]:
        found = [(row["step"], row[name]) for row in history if name in row]
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

"""Scores and logged steps -> figures, each as PNG (to look at) and SVG (to scale), the same bytes for the same numbers."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from tunetrail.results import SCORES, Results

# Okabe and Ito's palette, which colour-blind people can tell apart (jfly.uni-koeln.de/color).
BASE, TUNED, RATE = "#999999", "#0072B2", "#E69F00"


def save(figure: Figure, path: Path) -> None:
    """Write `path`.png and `path`.svg, without the date and the random ids that would differ between runs."""
    with matplotlib.rc_context({"svg.hashsalt": "tunetrail"}):
        figure.savefig(path.with_suffix(".png"), dpi=144)
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def ifeval(base: Results, tuned: Results) -> Figure:
    """Grouped bars of the four scores in per cent, with their 95 % intervals."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    width = 0.38
    title = f"{base.task}: {base.prompts} prompts, {base.instructions} instructions"
    for label, colour, found, offset in (("base", BASE, base, -width / 2), ("tuned", TUNED, tuned, width / 2)):
        values = [found.scores[name] for name in SCORES]
        heights = [100 * score.value for score in values]
        errors = [[100 * (s.value - s.low) for s in values], [100 * (s.high - s.value) for s in values]]
        places = [index + offset for index in range(len(values))]
        axes.bar(places, heights, width, color=colour, label=label, yerr=errors, capsize=4, ecolor="#333333")
        for place, height, score in zip(places, heights, values, strict=True):
            axes.annotate(
                f"{height:.1f}",
                (place, 100 * score.high),
                xytext=(0, 4),
                textcoords="offset points",
                ha="center",
                fontsize=9,
            )
    axes.set_xticks(range(len(SCORES)), [label for _, label in SCORES.values()])
    axes.set(ylim=(0, 110), ylabel="accuracy, %", title=title)
    axes.set_yticks(range(0, 101, 20))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)
    return figure


def loss(history: list[dict[str, Any]]) -> Figure:
    """Training and validation loss (nats a token) above, the learning rate below, by optimiser step."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))

    def points(name: str) -> tuple[list[int], list[float]]:
        found = [(row["step"], row[name]) for row in history if name in row]
        return [step for step, _ in found], [value for _, value in found]

    upper.plot(*points("train/loss"), color=TUNED, label="training", linewidth=1.2)
    upper.plot(*points("validation/loss"), color="#D55E00", label="validation", marker="o", linestyle="--")
    upper.set(ylabel="loss, nats a token", ylim=(0, None))
    upper.legend(frameon=False)
    lower.plot(*points("train/learning_rate"), color=RATE)
    lower.set(ylabel="learning rate", xlabel="optimiser step", ylim=(0, None))
    lower.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    return figure

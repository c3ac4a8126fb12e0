"""The learning rate at each step -> a PNG, and a few lines of block characters for a terminal.

Both start at a rate of 0. A column in a terminal is as high as the highest rate of its steps, so it shows every peak.
"""

from pathlib import Path

import numpy as np

_BLOCKS = " ▁▂▃▄▅▆▇█"
_EIGHTHS = len(_BLOCKS) - 1


def terminal(rates: np.ndarray, width: int = 60, height: int = 8) -> str:
    """Return a chart of `rates`, (steps,), `height` lines high and `width` columns wide, with axes."""
    if not len(rates):
        return "no steps"
    peak, steps = float(rates.max()), len(rates)
    columns = [rates[at * steps // width : -(-(at + 1) * steps // width)].max() for at in range(width)]
    # A rate above 0 is visible.
    filled = [max(round(height * _EIGHTHS * rate / peak), 1) if rate > 0 else 0 for rate in columns]
    labels = {height - 1: f"{peak:.3g}", 0: "0"}
    margin = max(map(len, labels.values()))
    lines = []
    for line in reversed(range(height)):
        cells = (_BLOCKS[min(max(eighths - _EIGHTHS * line, 0), _EIGHTHS)] for eighths in filled)
        lines.append(f"{labels.get(line, ''):>{margin}} {'┤' if line in labels else '│'}{''.join(cells)}".rstrip())
    lines.append(f"{'':{margin}} └{'─' * width}")
    last = f"{steps:,}"
    lines.append(f"{'':{margin}}  1{'optimiser step':^{width - 1 - len(last)}}{last}")
    return "\n".join(lines)


def png(rates: np.ndarray, warmup: int, asked: float, path: Path) -> None:
    """Draw `rates`, (steps,), with the steps of warm-up and the rate `asked` for, which a run may never reach."""
    from matplotlib.figure import Figure

    from tunetrail.report.plots import RATE, VALIDATION

    steps = np.arange(1, len(rates) + 1)
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.axhline(asked, color=VALIDATION, linestyle="--", linewidth=1.2, label=f"asked for: {asked:g}")
    if warmup:
        shown = min(warmup, len(rates))
        ended = "" if warmup < len(rates) else f"; the run has {len(rates):,}"
        axes.axvspan(0.5, shown + 0.5, color="#eeeeee", linewidth=0, label=f"warm-up: {warmup:,} steps{ended}")
    marker = "o" if len(rates) <= 60 else None
    axes.plot(steps, rates, color=RATE, marker=marker, markersize=3, label=f"highest: {rates.max(initial=0):.3g}")
    axes.set(xlabel="optimiser step", ylabel="learning rate", xlim=(0.5, max(len(rates), 1) + 0.5), ylim=(0, None))
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=144)

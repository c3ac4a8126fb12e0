import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from tunetrail.plan import plot
from tunetrail.plan.estimate import schedule

PUBLISHED = {"learning_rate": 2e-5, "lr_scheduler": "cosine", "warmup_steps": 100}


def heights(text, width, height):
    """Return the filled height of each column, in eighths of a line."""
    cells = [line.split("┤")[-1].split("│")[-1].ljust(width) for line in text.splitlines()[:height]]
    return [sum(" ▁▂▃▄▅▆▇█".index(line[column]) for line in cells) for column in range(width)]


@pytest.fixture
def drawn(monkeypatch):
    """Return the list of figures that matplotlib saves."""
    figures, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *args, **more: (figures.append(figure), save(figure, *args, **more))
    )
    return figures


def test_the_terminal_plot_shows_the_peak_the_steps_and_a_curve_as_high_as_the_rates():
    rates = schedule.rates(PUBLISHED, 27)
    text = plot.terminal(rates, width=54, height=4)
    assert text.splitlines()[0].startswith("5.2e-06 ┤")
    assert text.splitlines()[3].startswith("      0 ┤")
    assert text.splitlines()[-1].split() == ["1", "optimiser", "step", "27"]
    assert heights(text, 54, 4) == [max(round(32 * rate / 5.2e-6), rate > 0) for rate in np.repeat(rates, 2)]


def test_a_plot_fits_into_eighty_columns_whatever_the_rate_and_the_steps():
    for steps in (1, 2, 59, 60, 61, 1160, 1_234_567):
        lines = plot.terminal(np.linspace(1.23456e-5, 0, steps)).splitlines()
        assert len(lines) == 10
        assert max(map(len, lines)) <= 80
        assert lines[-1].endswith(f"{steps:,}")
        assert len(lines[-1]) == len(lines[-2])


def test_a_peak_of_one_step_among_many_is_shown():
    rates = np.zeros(10_000)
    rates[777] = 1.0
    assert sorted(heights(plot.terminal(rates, 50, 8), 50, 8))[-2:] == [0, 64]


def test_a_small_rate_is_visible_and_a_rate_of_zero_is_not():
    filled = heights(plot.terminal(np.array([1.0, 1e-9, 0.0]), 3, 8), 3, 8)
    assert filled == [64, 1, 0]


def test_a_run_whose_rate_never_leaves_0_and_one_without_steps_have_a_plot():
    assert heights(plot.terminal(np.zeros(1), 10, 4), 10, 4) == [0] * 10
    assert plot.terminal(np.zeros(0)) == "no steps"


def test_the_figure_shows_the_configured_rate_the_peak_and_the_unfinished_warm_up(tmp_path, drawn):
    plot.png(schedule.rates(PUBLISHED, 27), 100, 2e-5, tmp_path / "schedule_plot.png")
    (axes,) = drawn[0].axes
    target, curve = axes.lines
    assert set(target.get_ydata()) == {2e-5}
    assert list(curve.get_xdata()) == list(range(1, 28))
    assert curve.get_ydata()[-1] == pytest.approx(5.2e-6)
    words = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert words == ["asked for: 2e-05", "warm-up: 100 steps; the run has 27", "highest: 5.2e-06"]
    assert [(patch.get_x(), patch.get_width()) for patch in axes.patches] == [(0.5, 27)]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("optimiser step", "learning rate")
    assert imread(tmp_path / "schedule_plot.png").shape[:2] == (518, 1152)


def test_the_warm_up_is_shaded_and_nothing_is_without_one(tmp_path, drawn):
    for warmup in (34, 0):
        plot.png(np.ones(1160), warmup, 1.0, tmp_path / "plot.png")
    shaded, bare = (figure.axes[0].patches for figure in drawn)
    assert [(patch.get_x(), patch.get_width()) for patch in shaded] == [(0.5, 34)]
    assert not bare


def test_the_same_rates_give_the_same_file(tmp_path):
    for name in ("one.png", "two.png"):
        plot.png(np.linspace(0, 1, 9), 3, 1.0, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_no_steps_and_few_are_drawn_too_and_only_whole_ones_have_a_tick(tmp_path, drawn):
    for steps in (0, 1, 2):
        plot.png(np.zeros(steps), 0, 1.0, tmp_path / f"{steps}.png")
        assert (tmp_path / f"{steps}.png").stat().st_size > 1000
        assert all(tick == int(tick) for tick in drawn[-1].axes[0].get_xticks())

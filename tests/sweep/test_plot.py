import dataclasses
from pathlib import Path

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer

from tunetrail.report import plots
from tunetrail.sweep import plot
from tunetrail.sweep.state import Job


def job(score, state="finished", **params):
    low, high = (None, None) if score is None else (score - 0.05, score + 0.04)
    overrides = [f"{name}={value}" for name, value in params.items()]
    return Job(Path("0123456789.json"), 0, overrides, state, score=score, low=low, high=high)


def on(base, job):
    """Return the job with its base's score."""
    return dataclasses.replace(job, base={"value": base, "low": base - 0.02, "high": base + 0.03})


def legend(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def points(axes):
    """Return the value and score of each job that a panel shows."""
    bars = [container for container in axes.containers if isinstance(container, ErrorbarContainer)]
    return [(float(bar.lines[0].get_xdata()[0]), round(float(bar.lines[0].get_ydata()[0]), 6)) for bar in bars]


def crosses(axes):
    return [float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "x"]


def title(figure):
    return figure.get_suptitle()


def test_each_varied_parameter_has_a_panel_with_every_score_at_its_value():
    jobs = [
        job(0.3, rate="1e-4", method="full", same="x"),
        job(0.61, rate="1e-3", method="lora", same="x"),
        job(0.5, rate="1e-2", method="full", same="x"),
    ]
    rate, method = plot.scores(jobs).axes
    assert points(rate) == [(0.0001, 30), (0.001, 61), (0.01, 50)]
    assert rate.get_xscale() == "log"
    assert points(method) == [(0, 30), (1, 61), (0, 50)]
    assert [label.get_text() for label in method.get_xticklabels()] == ["full", "lora"]
    assert [axes.get_xlabel() for axes in (rate, method)] == ["rate", "method"]
    assert rate.get_ylabel() == "Prompt Strict, %"


def test_the_error_bars_are_the_intervals():
    (axes,) = plot.scores([job(0.3, a="1"), job(0.6, a="2")]).axes
    ends = [bar.lines[2][0].get_segments()[0][:, 1].tolist() for bar in axes.containers]
    assert np.allclose(ends, [[25, 34], [55, 64]])
    low, high = axes.get_ylim()
    assert low < 25
    assert high > 64


def test_a_score_without_an_interval_is_a_point():
    (axes,) = plot.scores([dataclasses.replace(job(0.5), low=None, high=None)]).axes
    assert points(axes) == [(0, 50)]
    assert axes.containers[0].lines[2] == ()


def test_jobs_with_the_same_value_are_apart_on_the_page_and_not_in_the_data():
    figure = plot.scores([job(0.5, a="1"), job(0.5, a="1"), job(0.6, a="2")])
    figure.canvas.draw()
    (axes,) = figure.axes
    first, second = (bar.lines[0] for bar in axes.containers[:2])
    assert points(axes)[:2] == [(1, 50), (1, 50)]
    across = [line.get_transform().transform((1, 50))[0] for line in (first, second)]
    assert 1 < across[1] - across[0] < 20


def test_jobs_without_a_score_are_crosses_at_the_foot_and_counted():
    jobs = [job(0.4, a="1"), job(None, "failed", a="2"), job(None, "stopped", a="3"), job(None, "failed", a="3")]
    figure = plot.scores(jobs)
    (axes,) = figure.axes
    assert points(axes) == [(1, 40)]
    assert crosses(axes) == [2, 3, 3]
    assert title(figure) == "4 jobs, 2 failed, 1 stopped\nbest: 40.0 %, a=1"


def test_a_sweep_in_which_all_jobs_failed_has_a_figure():
    jobs = [job(None, "failed", a=a, b=b, c=c) for a in "12" for b in "12" for c in "xy"]
    figure = plot.scores(jobs)
    assert [len(crosses(axes)) for axes in figure.axes] == [8, 8, 8]
    assert title(figure) == "8 jobs, 8 failed"


def test_jobs_stand_side_by_side_if_nothing_varies():
    (axes,) = plot.scores([job(0.5, a="1"), job(0.6, a="1")]).axes
    assert points(axes) == [(0, 50), (1, 60)]
    figure = plot.scores([job(0.5, a="1")])
    assert points(figure.axes[0]) == [(0, 50)]
    assert title(figure) == "1 job\n50.0 %, a=1"


def test_the_best_job_has_a_marker_of_its_own():
    (axes,) = plot.scores([job(0.5, a="1"), job(0.7, a="2"), job(0.6, a="3")]).axes
    assert [bar.lines[0].get_marker() for bar in axes.containers] == ["o", "D", "o"]


def test_the_legend_names_the_markers_of_the_best_job_and_of_failed_jobs():
    assert legend(plot.scores([job(0.5, a="1"), job(0.7, a="2")])) == ["job", "best"]
    jobs = [job(0.5, a="1"), job(0.7, a="2"), job(None, "failed", a="3"), job(None, "stopped", a="4")]
    assert legend(plot.scores(jobs)) == ["job", "best", "failed, stopped"]
    assert legend(plot.scores(jobs[2:])) == ["failed, stopped"]
    assert legend(plot.scores(jobs[:1])) == ["job"]


def test_of_equal_jobs_the_best_is_the_one_that_the_record_names():
    jobs = [job(0.5, a="1"), job(0.5, a="2"), job(0.5, a="3")]
    jobs[0].loss = 2.0
    jobs[1].loss = 1.0
    figure = plot.scores(jobs)
    assert [bar.lines[0].get_marker() for bar in figure.axes[0].containers] == ["o", "D", "o"]
    assert title(figure) == "3 jobs\nbest of 3 equal: 50.0 %, a=2"
    assert title(plot.scores([job(0.5, a="1"), job(0.5, a="2")])).endswith("best of 2 equal: 50.0 %, a=1")


def test_a_base_score_that_all_jobs_share_is_a_dashed_line_over_its_interval():
    figure = plot.scores([on(0.1, job(0.5, a="1")), on(0.1, job(0.6, a="2")), job(None, "failed", a="3")])
    (axes,) = figure.axes
    (line,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert list(line.get_ydata()) == [10, 10]
    (band,) = axes.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((8, 13))
    assert band.get_alpha() < 0.3
    assert axes.get_ylim()[0] < 8
    assert legend(figure) == ["job", "best", "failed", "base"]


def test_each_job_has_a_dash_for_its_base_if_the_bases_scored_differently():
    figure = plot.scores([on(0.1, job(0.5, a="1")), on(0.2, job(0.6, a="2"))])
    (axes,) = figure.axes
    dashes = [line for line in axes.lines if line.get_marker() == "_" and line.get_markersize() == 7]
    assert [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in dashes] == [(1, 10), (2, 20)]
    assert not axes.patches
    assert legend(figure) == ["job", "best", "its base"]


def test_a_parameter_that_was_declared_logarithmic_has_a_logarithmic_axis():
    jobs = [job(0.5, rate="0.001"), job(0.6, rate="0.002")]
    assert [plot.scores(jobs, log).axes[0].get_xscale() for log in ((), {"rate"})] == ["linear", "log"]


def ticks(*values, log=()):
    (axes,) = plot.scores([job(0.5, a=value) for value in values], log).axes
    return [float(tick) for tick in axes.get_xticks()], [label.get_text() for label in axes.get_xticklabels()]


def test_few_values_are_the_ticks_and_many_give_round_numbers():
    assert ticks("0.0003", "0.001", "0.01") == ([0.0003, 0.001, 0.01], ["0.0003", "0.001", "0.01"])
    assert ticks("42", "20261122")[1] == ["42", "20261122"]
    many, labels = ticks(*[str(0.0137 * n) for n in range(1, 60)])
    assert 2 <= len(many) <= 8
    assert all(len(label) <= 4 for label in labels)
    for values in (["1", "1.0001", "1.0002", "50"], [str(1.7 * 10.0**-n) for n in range(1, 30)], ["1e-3", "2e-3", "1e30"]):
        assert 2 <= len(ticks(*values)[0]) <= 8
    assert len(ticks(*[f"name{n}" for n in range(50)])[0]) <= 20


@pytest.mark.filterwarnings("error")
def test_a_hundred_jobs_and_names_of_any_kind_are_drawn(tmp_path):
    draw = np.random.default_rng(1)
    long = "train.deepspeed_config.zero_optimization.offload_optimizer.device"
    jobs = [
        job(share, rate=str(rate), **{long: f"/data/a/long/folder/{n % 7}/rows.jsonl", "odd": ["$a$", "${b", "a\nb"][n % 3]})
        for n, (rate, share) in enumerate(zip(10 ** draw.uniform(-5, -2, 100), draw.uniform(0.1, 0.9, 100), strict=True))
    ]
    plots.save(plot.scores(jobs), tmp_path / "scores")
    assert (tmp_path / "scores.png").stat().st_size > 10_000

from matplotlib.colors import to_hex
from matplotlib.image import imread

from tunetrail.evaluation.results import SCORES, Results
from tunetrail.evaluation.significance import Score
from tunetrail.report import plots


def evaluated(share):
    return Results("ifeval", {name: Score(share, share - 0.1, share + 0.1) for name in SCORES}, 541, 834, [])


def figure():
    return plots.ifeval({"base": evaluated(0.2), "tuned": evaluated(0.7)})


def test_ticks_are_under_the_middle_of_their_group_and_the_legend_has_base_and_tuned():
    (axes,) = figure().axes
    base, tuned = [container for container in axes.containers if hasattr(container, "patches")]
    middles = [(b.get_x() + t.get_x() + t.get_width()) / 2 for b, t in zip(base.patches, tuned.patches, strict=True)]
    assert [round(middle, 9) for middle in middles] == list(axes.get_xticks()) == [0, 1, 2, 3]
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "Prompt Strict",
        "Prompt Loose",
        "Inst Strict",
        "Inst Loose",
    ]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["base", "tuned"]
    assert [round(bar.get_height()) for bar in base.patches + tuned.patches] == [20] * 4 + [70] * 4


def test_the_error_bars_end_where_the_interval_ends():
    (axes,) = figure().axes
    lines = [c.errorbar.lines[2][0] for c in axes.containers if getattr(c, "errorbar", None)]
    ends = [[round(float(y)) for y in segment[:, 1]] for line in lines for segment in line.get_segments()]
    assert ends == [[10, 30]] * 4 + [[60, 80]] * 4


def test_the_bars_of_one_model_are_above_their_ticks():
    (axes,) = plots.ifeval({"responses": evaluated(0.5)}).axes
    (bars,) = [container for container in axes.containers if hasattr(container, "patches")]
    assert [round(bar.get_x() + bar.get_width() / 2, 9) for bar in bars.patches] == [0, 1, 2, 3]


def test_each_instruction_type_has_a_line_with_both_models_and_its_n():
    rows = [
        {"type": "a:b", "n": 10, "base_strict": 0.1, "base_loose": 0.2, "tuned_strict": 0.9, "tuned_loose": 1.0},
        {"type": "c_c:d", "n": 40, "base_strict": 0.3, "base_loose": 0.3, "tuned_strict": 0.2, "tuned_loose": 0.2},
    ]
    (axes,) = plots.types(rows).axes
    figure = plots.types(rows[::-1])  # in the order of the difference
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a: b (10)", "c c: d (40)"]
    assert figure.axes[0].get_yticklabels()[0].get_text() == "a: b (10)"
    points = {bars.get_label(): [round(x) for x in bars.lines[0].get_xdata()] for bars in axes.containers}
    assert points == {"base": [10, 30], "tuned": [90, 20]}
    ends = axes.containers[0].lines[2][0].get_segments()[0][:, 0]
    assert [round(end, 1) for end in ends] == [1.8, 40.4]  # Wilson's interval of 1 of 10


def test_the_length_figure_marks_the_sequence_length_if_it_is_near():
    histogram = {"edges": [0, 50, 100], "counts": [3, 1]}
    near, far = (plots.lengths(histogram, length).axes[0] for length in (100, 4096))
    assert [list(line.get_xdata()) for line in near.lines] == [[100, 100]]
    assert not far.lines


def test_the_loss_figure_shows_training_validation_and_learning_rate():
    rows = [
        {"step": 0, "time": 0.0, "validation/loss": 3.0},
        {"step": 1, "time": 1.0, "train/loss": 2.0, "train/learning_rate": 1e-3},
        {"step": 2, "time": 2.0, "train/loss": 1.0, "train/learning_rate": 5e-4},
    ]
    upper, lower = plots.loss(rows).axes
    assert [list(line.get_ydata()) for line in upper.lines] == [[2.0, 1.0], [3.0]]
    assert [text.get_text() for text in upper.get_legend().get_texts()] == ["training", "validation"]
    assert list(lower.lines[0].get_ydata()) == [1e-3, 5e-4]
    assert upper.lines[1].get_linestyle() == "None"  # a line would suggest that more was measured
    assert upper.get_yscale() == "linear"


def test_the_loss_is_drawn_on_a_log_scale_where_the_first_steps_would_flatten_the_others():
    rows = [{"step": step, "time": 0.0, "train/loss": loss} for step, loss in enumerate((8.0, 1.3, 1.2, float("nan")))]
    (upper, _) = plots.loss(rows).axes
    assert (upper.get_yscale(), upper.get_ylabel()) == ("log", "loss, nats a token (log scale)")
    assert upper.get_ylim()[0] > 0.5


def test_the_same_numbers_give_the_same_files(tmp_path):
    """So DVC and a diff show only real changes."""
    plots.save(figure(), tmp_path / "one")
    plots.save(figure(), tmp_path / "two")
    for suffix in (".png", ".svg"):
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()


def scores(share):
    return {name: Score(share, share - 0.1, share + 0.1) for name in SCORES}


def test_each_run_has_its_own_bars_and_a_dash_at_the_score_of_its_base():
    runs = [(number, f"run {number}", {"base": scores(0.2), "tuned": scores(0.7)}) for number in range(plots.MOST_RUNS)]
    figure = plots.runs(runs, "ifeval")
    bars = [container.patches[0] for container in figure.axes[0].containers if hasattr(container, "patches")]
    assert len({(bar.get_facecolor(), bar.get_hatch()) for bar in bars}) == plots.MOST_RUNS
    dashes = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 2.5]
    assert len(dashes) == 4 * plots.MOST_RUNS
    assert {round(height) for line in dashes for height in line.get_ydata()} == {20}
    assert min(dash.zorder for dash in dashes) > max(bar.zorder for bar in bars)
    middle = bars[0].get_x() + bars[0].get_width() / 2
    assert abs(sum(dashes[0].get_xdata()) / 2 - middle) < 1e-9
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["its base", *(label for _, label, _ in runs)]


def test_a_bar_of_0_is_seen():
    figure = plots.runs([(0, "a", {"base": scores(0.2), "tuned": scores(0.0)})], "t")
    (bar, *_) = figure.axes[0].patches
    assert bar.get_height() == 0
    assert bar.get_linewidth() > 2
    assert to_hex(bar.get_edgecolor()).upper() == plots.colour(0)
    assert bar.zorder > figure.axes[0].spines["bottom"].zorder


def test_a_run_keeps_its_colour_if_others_have_no_scores():
    figure = plots.runs(
        [(0, "a", {"base": scores(0.2), "tuned": scores(0.7)}), (2, "b", {"base": scores(0.2), "tuned": scores(0.7)})], "t"
    )
    bars = [container.patches[0] for container in figure.axes[0].containers if hasattr(container, "patches")]
    assert [to_hex(bar.get_facecolor()).upper() for bar in bars] == [plots.colour(0), plots.colour(2)]


def test_the_losses_of_several_runs_share_a_panel_and_one_that_diverges_leaves_it():
    steady = {"train/loss": [(1, 2.0), (2, 1.0)], "validation/loss": [(0, 3.0), (2, 1.5)]}
    diverged = {"train/loss": [(1, 2.2), (2, 500.0)], "validation/loss": []}
    figure = plots.losses([(0, "steady", steady), (1, "$x_1$", diverged)])
    upper, lower = figure.axes
    assert [list(line.get_ydata()) for line in upper.lines] == [[2.0, 1.0], [2.2, 500.0]]
    assert [list(line.get_xdata()) for line in lower.lines] == [[0, 2], []]
    assert upper.get_ylim()[0] == 0
    assert upper.get_ylim()[1] < 4
    assert len({(line.get_color(), line.get_linestyle()) for line in upper.lines}) == 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["steady", r"\$x_1\$"]


def test_of_coinciding_curves_the_later_ones_are_dashed():
    first = {"train/loss": [(1, 2.0), (2, 1.0)], "validation/loss": [(0, 3.0), (2, 1.5)]}
    near = {"train/loss": [(1, 2.0), (2, 1.001)], "validation/loss": [(0, 3.0), (2, 1.2)]}
    other = {"train/loss": [(1, 2.0), (2, 0.5)], "validation/loss": []}
    figure = plots.losses([(number, str(number), curve) for number, curve in enumerate((first, other, near, first))])
    upper, lower = figure.axes
    assert [line.is_dashed() for line in upper.lines] == [False, False, True, True]
    assert upper.lines[2]._dash_pattern != upper.lines[3]._dash_pattern
    assert [line.is_dashed() for line in lower.lines] == [False, False, False, True]


def test_the_axis_of_steps_has_whole_numbers_only():
    few = {"train/loss": [(1, 2.0), (2, 1.0), (3, 0.9)], "validation/loss": []}
    figure = plots.losses([(0, "a", few)])
    figure.canvas.draw()
    assert all(float(tick).is_integer() for tick in figure.axes[1].get_xticks())


def test_the_lines_of_the_most_runs_are_all_different():
    curves = [{"train/loss": [(1, 2.0 + number)], "validation/loss": []} for number in range(plots.MOST_RUNS)]
    upper, _ = plots.losses([(number, str(number), curve) for number, curve in enumerate(curves)]).axes
    assert len({(line.get_color(), line.get_linestyle()) for line in upper.lines}) == plots.MOST_RUNS


def test_a_saved_picture_is_not_empty(tmp_path):
    plots.save(figure(), tmp_path / "a")
    assert imread(tmp_path / "a.png").std() > 0.05
    assert (tmp_path / "a.svg").read_text().count("<path") > 20


def test_the_name_of_the_run_is_above_each_of_its_figures(tmp_path):
    rows = [{"type": "a:b", "n": 3, "base_strict": 0.1, "base_loose": 0.2, "tuned_strict": 0.9, "tuned_loose": 1.0}]
    steps = [{"step": 1, "time": 1.0, "train/loss": 2.0, "train/learning_rate": 1e-3}]
    name = "demo: method=lora prepare.path=$mine$ " + "x" * 200
    for drawn in (
        plots.ifeval({"base": evaluated(0.2), "tuned": evaluated(0.7)}, name),
        plots.types(rows, name),
        plots.loss(steps, name),
        plots.lengths({"edges": [0, 50, 100], "counts": [3, 1]}, 100, name),
    ):
        lines = (drawn.get_suptitle() or drawn.axes[0].get_title()).splitlines()
        assert lines[0].startswith(r"demo: method=lora prepare.path=\$mine\$")
        assert max(map(len, lines)) <= 80
        plots.save(drawn, tmp_path / "drawn")
        legend = drawn.axes[0].get_legend()
        if legend and drawn._suptitle:  # nothing lies on it
            assert not drawn._suptitle.get_window_extent().overlaps(legend.get_window_extent())

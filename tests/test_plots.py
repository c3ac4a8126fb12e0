from tunetrail import plots
from tunetrail.intervals import Score
from tunetrail.results import SCORES, Results


def found(share):
    return Results("ifeval", {name: Score(share, share - 0.1, share + 0.1) for name in SCORES}, 541, 834, [])


def figure():
    return plots.ifeval({"base": found(0.2), "tuned": found(0.7)})


def test_the_ticks_stand_under_the_middle_of_their_group_and_the_legend_says_base_and_tuned():
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


def test_one_model_alone_stands_over_its_tick():
    (axes,) = plots.ifeval({"responses": found(0.5)}).axes
    (bars,) = [container for container in axes.containers if hasattr(container, "patches")]
    assert [round(bar.get_x() + bar.get_width() / 2, 9) for bar in bars.patches] == [0, 1, 2, 3]


def test_each_instruction_type_has_a_line_with_both_models_and_its_n():
    rows = [
        {"type": "a:b", "n": 3, "base_strict": 0.1, "base_loose": 0.2, "tuned_strict": 0.9, "tuned_loose": 1.0},
        {"type": "c:d", "n": 40, "base_strict": 0.3, "base_loose": 0.3, "tuned_strict": 0.2, "tuned_loose": 0.2},
    ]
    (axes,) = plots.types(rows).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a:b (3)", "c:d (40)"]
    points = {dots.get_label(): [round(x) for x, _ in dots.get_offsets().tolist()] for dots in axes.collections}
    assert points == {"base": [10, 30], "tuned": [90, 20]}


def test_the_length_figure_marks_the_sequence_length_where_it_is_near():
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


def test_the_same_numbers_give_the_same_files(tmp_path):
    """DVC and a person's diff see a change only where there is one."""
    plots.save(figure(), tmp_path / "one")
    plots.save(figure(), tmp_path / "two")
    for suffix in (".png", ".svg"):
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()

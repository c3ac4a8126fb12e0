from tunetrail import plots
from tunetrail.results import SCORES, Results, Score


def found(share):
    return Results("ifeval", {name: Score(share, share - 0.1, share + 0.1) for name in SCORES}, 541, 834, [])


def figure():
    return plots.ifeval(found(0.2), found(0.7))


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

"""Recorded runs: their order, their sweeps, and the best job of a sweep."""

import pytest

from tests.recorded_runs import run, scored
from tunetrail import UserError
from tunetrail.tracking import ranking


def job(id, score, loss=None, number=None, **also):
    metrics = scored(0.1, score) | ({} if loss is None else {"validation/loss": loss})
    tags = {} if number is None else {"job.number": str(number)}
    return run(id, f"seed={id}", "p", metrics=metrics, tags=tags, **also)


def first(*jobs):
    return ranking.best(list(jobs)).id


def test_jobs_are_listed_below_their_sweep_in_the_order_of_their_start():
    early, late = (f"2026-01-01T10:00:0{second}.000+00:00" for second in (1, 2))
    runs = [
        run("new"),
        run("b", parent="p", started=late),
        run("a", parent="p", started=early),
        run("p"),
        run("lost", parent="gone"),
    ]
    assert [(depth, listed.id) for depth, listed in ranking.nested(runs)] == [
        (0, "new"),
        (0, "p"),
        (1, "a"),
        (1, "b"),
        (0, "lost"),
    ]


def test_metrics_are_ordered_highest_first_and_runs_without_the_key_or_with_nan_are_last():
    values = {"a": 0.2, "b": None, "c": 0.9, "d": float("nan"), "e": 0.9}
    runs = [run(id, metrics={} if value is None else {"m": value}) for id, value in values.items()]
    assert [ranked.id for ranked in ranking.ordered(runs, "m")] == ["c", "e", "a", "d", "b"]


def test_params_are_ordered_by_number_then_by_text():
    values = {"a": "0.01", "b": "1e-3", "c": "full", "d": None, "e": "auto"}
    runs = [run(id, params={} if value is None else {"p": value}) for id, value in values.items()]
    assert [ranked.id for ranked in ranking.ordered(runs, "p")] == ["b", "a", "e", "c", "d"]


def test_an_unknown_key_is_an_error_that_names_similar_ones_or_else_every_metric():
    runs = [run("a", metrics=scored(0.1, 0.2), params={"train.learning_rate": "1"})]
    for key, near in (("ifeval/tuned/promt_strict", "ifeval/tuned/prompt_strict"), ("learning_rate", "train.learning_rate")):
        with pytest.raises(UserError, match=rf"--sort {key}: .* Similar: {near}"):
            ranking.ordered(runs, key)
    with pytest.raises(UserError) as error:
        ranking.ordered(runs, "foo")
    assert "Near" not in str(error.value)
    assert str(error.value).endswith("The metrics there are:\n  ifeval/base/prompt_strict, ifeval/tuned/prompt_strict")


def test_the_best_job_has_the_highest_score_then_the_lowest_validation_loss_then_the_lowest_number():
    assert first(job("a", 0.5, loss=1.0, number=0), job("b", 0.6, loss=9.0, number=1)) == "b"
    assert first(job("a", 0.5, loss=2.0, number=0), job("b", 0.5, loss=1.0, number=1)) == "b"
    assert first(job("a", 0.5, loss=float("nan"), number=0), job("b", 0.5, loss=9.0, number=1)) == "b"
    assert first(job("a", 0.5, number=0), job("b", 0.5, loss=9.0, number=1)) == "b"
    assert first(job("a", 0.5, loss=1.0, number=10), job("b", 0.5, loss=1.0, number=9)) == "b"
    assert first(job("a", 0.5, started="2026-01-01T10:00:02"), job("b", 0.5, started="2026-01-01T10:00:01")) == "b"
    assert first(job("a", 0.9, status="FAILED"), job("b", 0.5)) == "b"
    assert ranking.best([run("a"), job("b", 0.5, status="KILLED")]) is None


def test_runs_jobs_and_points_are_ranked_alike():
    """`sweep` and its figure rank by scores, losses and numbers; `show` and `promote` by recorded runs."""
    results = [(0.5, 2.0), (0.5, 1.0), (0.4, 0.1), (0.5, 1.0)]
    by_place = min(range(4), key=lambda number: ranking.sort_key(*results[number], number))
    assert by_place == 1
    assert first(*(job(str(number), *results[number], number) for number in (3, 2, 1, 0))) == str(by_place)


def test_the_best_of_equal_scores_is_described_as_one_of_several():
    assert ranking.best_of([0.5, 0.25, 0.5, 0.5]) == "best of 3 equal"
    assert ranking.best_of([0.0, 0.0]) == "best of 2 equal"
    assert ranking.best_of([0.5, 0.25]) == "best"
    assert ranking.best_of([]) == "best"


SWEEP = run("feedbeef00", "sweep-1", tags={"sweep": "sweep-1"})


def test_the_hint_about_a_sweep_names_its_best_job():
    jobs = [job("aaaaaaaa00", 0.5, loss=2.0), job("bbbbbbbb00", 0.5, loss=1.0)]
    hint = ranking.sweep_hint(SWEEP, jobs)
    assert hint.startswith("feedbeef (sweep-1) is a sweep, and has no config and no model of its own. ")
    assert "as the best of 2 equal: bbbbbbbb (50.0 %, seed=bbbbbbbb00). All of them: tunetrail show feedbeef" in hint
    assert "as the best: aaaaaaaa (" in ranking.sweep_hint(SWEEP, jobs[:1])
    assert "None of its jobs has finished" in ranking.sweep_hint(SWEEP, [])


def test_a_sweep_is_found_by_its_name_or_a_run_of_it_and_an_error_lists_the_sweeps():
    of_two = run("dddddddd", "seed=1", "x", tags={"sweep": "sweep-2"})
    runs = [SWEEP, run("cccccccc", "seed=1", SWEEP.id, tags={"sweep": "sweep-1"}), of_two, run("eeeeeeee", "demo")]
    assert [ranking.sweep(runs, query) for query in ("sweep-1", "feed", "cccc", "sweep-2")] == ["sweep-1"] * 3 + ["sweep-2"]
    for query, says in (
        ("sweep-9", r"no sweep or run has this name\. There are: sweep-1, sweep-2$"),
        ("", r"no sweep or run has this name\. There are"),
        ("demo", r"this run belongs to no sweep\. There are"),
        ("seed=1", r"it matches runs of several sweeps, or of none\. There are"),
    ):
        with pytest.raises(UserError, match=f"--sweep {query}: {says}"):
            ranking.sweep(runs, query)
    with pytest.raises(UserError, match=r"There is none\. Make one: tunetrail run -m"):
        ranking.sweep([run("a")], "b")
    many = [run(str(number), tags={"sweep": f"s{number}"}) for number in range(13)]
    with pytest.raises(UserError, match=r"s9, and 3 more$"):
        ranking.sweep(many, "b")


@pytest.mark.parametrize(
    ("score", "base", "text"),
    [(0.006, 0.081, ", below its base (8.1 %)"), (0.081, 0.081, ""), (0.5, 0.081, ""), (0.0, 0.0, ""), (0.1, None, "")],
)
def test_only_a_score_below_its_base_is_reported(score, base, text):
    assert ranking.below(score, base) == text

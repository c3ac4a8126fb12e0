"""The tables and the screen of recorded runs."""

import dataclasses

import pytest

from tests.recorded_runs import run, scored
from tunetrail import table
from tunetrail.evaluation import results
from tunetrail.runs import listing
from tunetrail.tracking import ranking


def test_an_id_is_shortened_to_its_shortest_unique_prefix():
    ids = ["0123456789ab0000", "0123456789ac0000", "fedcba9876543210"]
    assert listing.short([run(id) for id in ids]) == {
        ids[0]: "0123456789ab",
        ids[1]: "0123456789ac",
        ids[2]: "fedcba98",
    }
    assert listing.short([run("abc")]) == {"abc": "abc"}
    assert listing.short([]) == {}


def test_a_row_has_the_scores_in_per_cent_and_what_varies_only_once():
    runs = [
        run("parent00", "sweep-1"),
        run("child000", "seed=1", "parent00", metrics=scored(0.1, 1.0), tags={"sweep.overrides": "seed=1"}),
        run("renamed0", "best", "parent00", metrics={"train/loss": 1.5}, tags={"sweep.overrides": "seed=2"}),
    ]
    ids = listing.short(runs)
    _, parent, first, second = listing.rows(ranking.nested(runs), ids, {"child000": "@champion"})
    assert parent[:3] == ["parent00", "sweep-1", "FINISHED"]
    assert first[:2] == ["  child000", "seed=1"]
    assert [cell.strip() for cell in first[4:]] == ["10.0 -> 100.0", "+90.0", "@champion"]
    assert second[1] == "best: seed=2"
    assert second[4:] == ["-", "-", ""]
    headings, *rows = listing.rows(ranking.nested(runs), ids, {}, "train/loss")
    assert headings[-1] == "train/loss"
    assert [row[-1] for row in rows] == ["-", "-", "1.5"]


@pytest.mark.parametrize(
    ("key", "heading", "cell"),
    [
        ("ifeval/tuned/prompt_loose", "ifeval/tuned/prompt_loose, %", "30.0"),
        ("ifeval_stopped/delta/inst_strict", "ifeval_stopped/delta/inst_strict, %", "+30.0"),
        ("health/tuned/mean_words", "health/tuned/mean_words", "0.3"),
    ],
)
def test_the_score_that_runs_are_sorted_by_is_in_per_cent_as_the_others_are(key, heading, cell):
    headings, row = listing.rows([(0, run("a", metrics={key: 0.3}))], {"a": "a"}, {}, key)
    assert (headings[-1], row[-1]) == (heading, cell)


def test_long_names_lose_sections_digits_and_their_start_so_that_jobs_remain_distinguishable():
    rates = ("0.0005611516415334506", "0.0005611616415334506")
    names = [
        f"train.learning_rate={rate} +base.make.train.seed=1 train.weight_decay=0.{number}"
        for number, rate in enumerate(rates)
    ]
    runs = [run(f"{number}" * 8, name) for number, name in enumerate(names)]
    rows = listing.rows([(0, job) for job in runs], listing.short(runs), {})
    assert listing.fitted(rows, 200) == rows
    assert [row[1] for row in listing.fitted(rows, 120)[1:]] == [
        "learning_rate=0.00056115 seed=1 weight_decay=0.0",
        "learning_rate=0.00056116 seed=1 weight_decay=0.1",
    ]
    assert [row[1] for row in listing.fitted(rows, 80)[1:]] == ["…t_decay=0.0", "…t_decay=0.1"]


def test_only_names_are_cut_where_a_line_would_be_too_long():
    runs = [run("a" * 8, "train.learning_rate=0.001 " * 9, metrics=scored(0.1, 1.0)), run("b" * 8, "two\nlines")]
    text = table.columns(listing.fitted(listing.rows([(0, job) for job in runs], listing.short(runs), {})))
    assert max(map(len, text.splitlines())) == 120
    assert len(text.splitlines()) == 3
    assert "…" in text
    assert text.splitlines()[1].endswith("10.0 -> 100.0         +90.0")
    narrow = table.columns(listing.fitted(listing.rows([(0, runs[0])], listing.short(runs), {}), 40))
    assert "10.0 -> 100.0         +90.0" in narrow


def test_durations_have_two_units():
    times = {"2026-01-01T10:05:03.900+00:00": "5 min 3 s", "2026-01-01T12:05:03.000+00:00": "2 h 5 min", None: ""}
    assert {ended: listing.duration(run("a", ended=ended)) for ended in times} == times


def nothing(**also):
    return {"measured": None, "patch": False, "versions": [], "children": []} | also


def test_the_screen_shows_what_a_run_was_made_from():
    tags = {
        "git.commit": "c0ffee",
        "git.dirty": "true",
        "data.source": "rows.jsonl",
        "data.md5": "m1",
        "data.license": "mit",
        "base.model": "org/name",
        "base.revision": "abc",
        "template.digest": "t1",
        "train.cached": "true",
        "train.trained_in": "earlier",
        "lock.sha256": "l1",
        "versions.torch": "2",
        "hardware.cpu": "2 x x86_64",
        "dvc.experiment": "demo-a",
    }
    text = listing.screen(
        run("abcdefgh12", tags=tags),
        {"abcdefgh12": "abcdefgh"},
        **nothing(versions=[{"model": "demo", "version": 3, "aliases": ["@champion"]}]),
    )
    for line in (
        "code          commit c0ffee, with uncommitted changes that were not kept",
        "data          rows.jsonl, md5 m1, licence mit",
        "base          org/name, revision abc",
        "asked with    template t1",
        "model         not recorded, trained in run earlier",
        "lock          sha256 l1",
        "DVC           experiment demo-a",
        "versions      torch 2",
        "hardware      cpu 2 x x86_64",
        "registered    demo version 3 @champion",
    ):
        assert line in text.splitlines(), line
    with_patch = listing.screen(run("a", tags=tags), {"a": "a"}, **nothing(patch=True))
    assert "commit c0ffee, with uncommitted changes: changes.patch" in with_patch
    assert "nothing uncommitted" in listing.screen(run("a", tags={"git.dirty": "false"}), {"a": "a"}, **nothing())


def test_the_screen_starts_with_the_settings_and_ends_with_the_hashes():
    params = {
        "train.adapter": "lora",
        "train.lora_r": "16",
        "train.optimizer": "adamw_torch",
        "train.learning_rate": "0.003",
        "train.lr_scheduler": "cosine",
        "train.num_epochs": "4",
        "train.micro_batch_size": "8",
        "train.gradient_accumulation_steps": "2",
        "accelerate.num_processes": "1",
    }
    tags = {
        "overrides": "method=lora 'train.lora_r=16'",
        "data.rows": "3900",
        "data.source": "rows.jsonl",
        "data.md5": "m1",
        "git.commit": "c0ffee",
    }
    score = {"value": 0.5, "low": 0.4, "high": 0.6}
    ifeval = {model: dict.fromkeys(results.SCORES, score) for model in ("base", "tuned", "delta")}
    details = nothing(measured={"task": "ifeval", "size": "3 prompts", "ifeval": ifeval})
    text = listing.screen(run("abcdefgh12", params=params, tags=tags), {"abcdefgh12": "abcdefgh"}, **details)
    first, scores, last = text.split("\n\n")[1:]
    assert first.splitlines()[1:] == [
        "overrides     method=lora 'train.lora_r=16'",
        "method        lora, rank 16",
        "optimizer     adamw_torch",
        "learning rate 0.003 cosine",
        "epochs        4",
        "batch         16 = 8 x 2 x 1 (micro-batch x accumulation x processes)",
        "rows          3,900 of rows.jsonl",
    ]
    assert "Prompt Strict" in scores
    assert "md5 m1" in last
    assert "c0ffee" in last


def test_the_screen_of_an_older_run_says_that_the_overrides_are_not_recorded():
    assert "overrides     not recorded" in listing.screen(run("a"), {"a": "a"}, **nothing())


def test_the_best_job_of_a_sweep_that_is_below_its_base_says_so():
    job = run("a" * 8, "seed=1", "p", metrics=scored(0.081, 0.006))
    parent = run("p" * 8, "sweep-1", tags={"sweep": "sweep-1", "sweep.overrides": "seed=1,2"})
    text = listing.screen(parent, listing.short([parent, job]), **nothing(children=[job]))
    assert "best          aaaaaaaa, 0.6 %, below its base (8.1 %): seed=1" in text
    assert "overrides" not in text


def test_the_screen_says_above_the_scores_that_answers_say_nothing():
    score = {"value": 0.5, "low": 0.4, "high": 0.6}
    ifeval = {model: dict.fromkeys(results.SCORES, score) for model in ("base", "tuned", "delta")}
    metrics = {"task": "ifeval", "size": "3 prompts", "ifeval": ifeval}
    assert "Of the answers" not in listing.screen(run("a"), {"a": "a"}, **nothing(measured=metrics))  # an older run
    health = {"tuned": {"ended": 0.0, "empty": 0.0, "says_nothing": 1.0, "looping": 0.0}}
    text = listing.screen(run("a"), {"a": "a"}, **nothing(measured=metrics | {"health": health}))
    assert text.index("Of the answers of tuned 100.0% say nothing") < text.index("ifeval: 3 prompts; 95 % intervals")
    assert max(map(len, text.splitlines())) <= 120


def test_the_screen_of_a_failed_run_shows_the_error():
    text = listing.screen(run("a", status="FAILED", tags={"error": "loss is NaN"}), {"a": "a"}, **nothing())
    assert "error         loss is NaN" in text.splitlines()


def test_the_screen_of_a_sweep_has_its_overrides_its_jobs_and_the_best():
    children = [
        run("a" * 8, "seed=1", "p", metrics=scored(0.1, 0.5)),
        run("b" * 8, "seed=2", "p", metrics=scored(0.1, 0.7)),
        run("c" * 8, "seed=3", "p", metrics=scored(0.1, 0.9), status="FAILED"),
    ]
    parent = run("p" * 8, "sweep-1", tags={"sweep": "sweep-1", "sweep.overrides": "seed=1,2,3"})
    text = listing.screen(parent, listing.short([parent, *children]), **nothing(children=children))
    assert "sweep         sweep-1: seed=1,2,3" in text
    assert "jobs          1 FAILED, 2 FINISHED" in text
    assert "best          bbbbbbbb, 70.0 %: seed=2" in text
    assert max(map(len, text.splitlines())) <= 120
    alike = [dataclasses.replace(child, metrics=scored(0.1, 0.5)) for child in children[:2]]
    text = listing.screen(parent, listing.short([parent, *alike]), **nothing(children=alike))
    assert "best          aaaaaaaa, 50.0 %, best of 2 equal: seed=1" in text

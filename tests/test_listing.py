"""The tables and the screen on runs as they are, and `ls` and `show` against a real SQLite store."""

import json
import subprocess

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from tunetrail import UserError, listing, store, tracking
from tunetrail.cli import ls, show


def run(id, name="demo", parent=None, started="2026-01-01T10:00:00.000+00:00", **also):
    """A run as `store.plain` has it."""
    told = {"id": id, "name": name, "status": "FINISHED", "started": started, "ended": None, "parent": parent}
    return told | {"artifacts": "a", "params": {}, "metrics": {}, "tags": {}} | also


def scored(base, tuned):
    return {"ifeval/base/prompt_strict": base, "ifeval/tuned/prompt_strict": tuned}


def test_an_id_is_cut_to_what_tells_it_from_all_others():
    ids = ["0123456789ab0000", "0123456789ac0000", "fedcba9876543210"]
    assert listing.short([run(id) for id in ids]) == {
        ids[0]: "0123456789ab",
        ids[1]: "0123456789ac",
        ids[2]: "fedcba98",
    }
    assert listing.short([run("abc")]) == {"abc": "abc"}
    assert listing.short([]) == {}


def test_jobs_stand_below_their_sweep_in_the_order_of_their_start():
    early, late = (f"2026-01-01T10:00:0{second}.000+00:00" for second in (1, 2))
    runs = [
        run("new"),
        run("b", parent="p", started=late),
        run("a", parent="p", started=early),
        run("p"),
        run("lost", parent="gone"),
    ]
    assert [(depth, one["id"]) for depth, one in listing.nested(runs)] == [
        (0, "new"),
        (0, "p"),
        (1, "a"),
        (1, "b"),
        (0, "lost"),
    ]


def test_metrics_go_highest_first_and_runs_without_the_key_or_with_nan_last():
    values = {"a": 0.2, "b": None, "c": 0.9, "d": float("nan"), "e": 0.9}
    runs = [run(id, metrics={} if value is None else {"m": value}) for id, value in values.items()]
    assert [one["id"] for one in listing.ordered(runs, "m")] == ["c", "e", "a", "d", "b"]


def test_params_go_by_number_then_by_word():
    values = {"a": "0.01", "b": "1e-3", "c": "full", "d": None, "e": "auto"}
    runs = [run(id, params={} if value is None else {"p": value}) for id, value in values.items()]
    assert [one["id"] for one in listing.ordered(runs, "p")] == ["b", "a", "e", "c", "d"]


def test_an_unknown_key_is_an_error_that_names_near_ones():
    runs = [run("a", metrics=scored(0.1, 0.2), params={"train.learning_rate": "1"})]
    for key, near in (("ifeval/tuned/promt_strict", "ifeval/tuned/prompt_strict"), ("learning_rate", "train.learning_rate")):
        with pytest.raises(UserError, match=rf"--sort {key}: .* Near: {near}"):
            listing.ordered(runs, key)


def test_a_row_has_the_scores_in_per_cent_and_what_varies_only_once():
    runs = [
        run("parent00", "sweep-1"),
        run("child000", "seed=1", "parent00", metrics=scored(0.1, 1.0), tags={"sweep.overrides": "seed=1"}),
        run("renamed0", "best", "parent00", metrics={"train/loss": 1.5}, tags={"sweep.overrides": "seed=2"}),
    ]
    ids = listing.short(runs)
    _, parent, first, second = listing.table(listing.nested(runs), ids, {"child000": "@champion"})
    assert parent[:3] == ["parent00", "sweep-1", "FINISHED"]
    assert first[:2] == ["  child000", "seed=1"]
    assert [cell.strip() for cell in first[4:]] == ["10.0 -> 100.0", "+90.0", "@champion"]
    assert second[1] == "best: seed=2"
    assert second[4:] == ["-", "-", ""]
    headings, *rows = listing.table(listing.nested(runs), ids, {}, "train/loss")
    assert headings[-1] == "train/loss"
    assert [row[-1] for row in rows] == ["-", "-", "1.5"]


def test_only_names_are_cut_where_a_line_would_be_too_long():
    runs = [run("a" * 8, "train.learning_rate=0.001 " * 9, metrics=scored(0.1, 1.0)), run("b" * 8, "two\nlines")]
    text = listing.columns(listing.fitted(listing.table([(0, one) for one in runs], listing.short(runs), {})))
    assert max(map(len, text.splitlines())) == 120
    assert len(text.splitlines()) == 3
    assert "…" in text
    assert text.splitlines()[1].endswith("10.0 -> 100.0         +90.0")
    narrow = listing.columns(listing.fitted(listing.table([(0, runs[0])], listing.short(runs), {}), 40))
    assert "10.0 -> 100.0         +90.0" in narrow


def test_durations_are_told_in_two_units():
    times = {"2026-01-01T10:05:03.900+00:00": "5 min 3 s", "2026-01-01T12:05:03.000+00:00": "2 h 5 min", None: ""}
    assert {ended: listing.lasted(run("a", ended=ended)) for ended in times} == times


def nothing(**also):
    return {"scores": None, "patch": False, "versions": [], "children": []} | also


def test_the_screen_says_what_a_run_came_from_and_what_to_type_next():
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
        nothing(versions=[{"model": "demo", "version": 3, "aliases": ["@champion"]}]),
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
    assert "  tunetrail promote abcdefgh " in text
    kept = listing.screen(run("a", tags=tags), {"a": "a"}, nothing(patch=True))
    assert "commit c0ffee, with uncommitted changes: changes.patch" in kept
    assert "nothing uncommitted" in listing.screen(run("a", tags={"git.dirty": "false"}), {"a": "a"}, nothing())


def test_a_run_that_failed_says_why_and_offers_no_model():
    text = listing.screen(run("a", status="FAILED", tags={"error": "loss is NaN"}), {"a": "a"}, nothing())
    assert "error         loss is NaN" in text.splitlines()
    assert "tunetrail chat" not in text
    assert "tunetrail compare a OTHER" in text


def test_the_screen_of_a_sweep_has_its_overrides_its_jobs_and_the_best():
    children = [
        run("a" * 8, "seed=1", "p", metrics=scored(0.1, 0.5)),
        run("b" * 8, "seed=2", "p", metrics=scored(0.1, 0.7)),
        run("c" * 8, "seed=3", "p", metrics=scored(0.1, 0.9), status="FAILED"),
    ]
    parent = run("p" * 8, "sweep-1", tags={"sweep": "sweep-1", "sweep.overrides": "seed=1,2,3"})
    text = listing.screen(parent, listing.short([parent, *children]), nothing(children=children))
    assert "sweep         sweep-1: seed=1,2,3" in text
    assert "jobs          1 FAILED, 2 FINISHED" in text
    assert "best          bbbbbbbb, 70.0 %: seed=2" in text
    assert "tunetrail compare aaaaaaaa bbbbbbbb\n" in text
    assert "tunetrail promote bbbbbbbb" in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.fixture
def checkout(root, monkeypatch):
    """A checkout with a run of its own, and a sweep of two jobs, one of them failed; gives the ids by name."""
    (root / "conf").mkdir()
    for name in ("conf/config.yaml", "dvc.yaml"):
        (root / name).touch()
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    monkeypatch.chdir(root)
    ids = {}
    with tracking.run(root, "demo") as own:
        own.metrics(scored(0.1, 0.6))
        own.params({"seed": 42})
    with tracking.run(root, "sweep-1") as parent:
        parent.tags({"sweep": "sweep-1", "sweep.overrides": "seed=1,2"})
        ids |= {"demo": own.id, "sweep-1": parent.id}
    for seed, status in ((1, "FINISHED"), (2, "FAILED")):
        with tracking.run(root, f"seed={seed}") as job:
            job.tags({"sweep": "sweep-1", "sweep.overrides": f"seed={seed}", store.PARENT: parent.id})
            job.params({"seed": seed})
            job.metrics(scored(0.1, 0.2 * seed))
        MlflowClient(store.uri(root)).set_terminated(job.id, status)
        ids[f"seed={seed}"] = job.id
    return ids


def typed(word, *arguments):
    return CliRunner().invoke(word.command, arguments, catch_exceptions=False).output


def test_ls_lists_the_newest_first_and_jobs_below_their_sweep(checkout):
    lines = typed(ls).splitlines()
    assert [line.split()[0] for line in lines[1:]] == [
        checkout[name][:8] for name in ("sweep-1", "seed=1", "seed=2", "demo")
    ]
    assert lines[2].startswith("  ")
    assert "10.0 ->  60.0" in lines[4]
    assert "FAILED" in lines[3]


@pytest.mark.parametrize("word", ["sweep-1", "parent", "child"])
def test_ls_takes_a_sweep_by_its_name_or_a_run_of_it(checkout, word):
    given = {"parent": checkout["sweep-1"][:10], "child": checkout["seed=2"]}.get(word, word)
    lines = typed(ls, "--sweep", given, "--sort", "ifeval/tuned/prompt_strict").splitlines()
    assert [line.split()[0] for line in lines[1:]] == [checkout[name][:8] for name in ("seed=2", "seed=1", "sweep-1")]


def test_ls_says_which_sweeps_there_are(checkout):
    with pytest.raises(UserError, match=r"of no sweep. There are: sweep-1"):
        typed(ls, "--sweep", "demo")
    with pytest.raises(UserError, match=r"no such: no run has this id or name"):
        typed(ls, "--sweep", "no such")


def test_ls_gives_machines_the_whole_runs(checkout):
    found = json.loads(typed(ls, "--sort", "seed", "--json"))
    assert [one["params"].get("seed") for one in found] == ["1", "2", "42", None]
    assert found[0]["metrics"] == scored(0.1, 0.2)


def test_an_empty_store_says_how_to_fill_it(root, monkeypatch):
    (root / "conf").mkdir()
    for name in ("conf/config.yaml", "dvc.yaml"):
        (root / name).touch()
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    monkeypatch.chdir(root)
    with pytest.raises(UserError, match="tunetrail run"):
        typed(ls)


def test_show_reads_the_record(checkout, root):
    (root / "changes.patch").write_text("diff")
    report = {"value": 0.5, "low": 0.4, "high": 0.6}
    names = ("prompt_strict", "prompt_loose", "inst_strict", "inst_loose")
    ifeval = {model: dict.fromkeys(names, report) for model in ("base", "tuned", "delta")}
    (root / "report").mkdir()
    told = {"task": "ifeval", "size": "3 prompts", "evaluation_digest": "e1", "ifeval": ifeval}
    (root / "report" / "metrics.json").write_text(json.dumps(told))
    with tracking.run(root, "whole") as made:
        made.tags({"git.commit": "c0ffee", "git.dirty": "true"})
        made.artifacts(root, "report", "changes.patch")
    text = typed(show, "whole")
    assert "commit c0ffee, with uncommitted changes: changes.patch" in text
    assert "Prompt Strict  50.0 [40.0, 60.0]  50.0 [40.0, 60.0]  +50.0 [+40.0, +60.0]" in text
    assert json.loads(typed(show, made.id, "--json"))["run"]["id"] == made.id
    sweep = typed(show, "sweep-1")
    assert "jobs          1 FAILED, 1 FINISHED" in sweep
    assert [line.split()[1] for line in sweep.splitlines() if "->" in line][1:] == ["seed=1", "seed=2"]

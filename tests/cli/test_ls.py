"""`ls` against a real SQLite store."""

import io
import json
import sys

import pytest

from tests.checkouts import begin
from tests.commands import output
from tests.recorded_runs import record_run_and_sweep, scored
from tunetrail import UserError
from tunetrail.cli import ls
from tunetrail.tracking import mlflow_run


@pytest.fixture
def checkout(root, monkeypatch):
    return record_run_and_sweep(root, monkeypatch)


def test_ls_lists_the_newest_first_and_jobs_below_their_sweep(checkout):
    lines = output(ls.command).splitlines()
    assert [line.split()[0] for line in lines[1:]] == [
        checkout[name][:8] for name in ("sweep-1", "seed=1", "seed=2", "demo")
    ]
    assert lines[2].startswith("  ")
    assert "10.0 ->  60.0" in lines[4]
    assert "FAILED" in lines[3]


@pytest.mark.parametrize("query", ["sweep-1", "parent", "child"])
def test_ls_takes_a_sweep_by_its_name_or_a_run_of_it(checkout, query):
    sweep = {"parent": checkout["sweep-1"][:10], "child": checkout["seed=2"]}.get(query, query)
    lines = output(ls.command, "--sweep", sweep, "--sort", "ifeval/tuned/prompt_strict").splitlines()
    assert [line.split()[0] for line in lines[1:]] == [checkout[name][:8] for name in ("seed=2", "seed=1", "sweep-1")]


def test_ls_says_which_sweeps_there_are(checkout):
    with pytest.raises(UserError, match=r"belongs to no sweep. There are: sweep-1"):
        output(ls.command, "--sweep", "demo")
    with pytest.raises(UserError, match=r"--sweep no such: no sweep or run has this name. There are: sweep-1"):
        output(ls.command, "--sweep", "no such")


LONG = "train.learning_rate=0.001 " * 6


def test_ls_does_not_shorten_names_without_a_terminal(checkout, root, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as a CI sets it
    with mlflow_run.run(root, LONG + "seed=1"):
        pass
    assert LONG + "seed=1" in output(ls.command)
    assert LONG + "seed=1" in output(ls.command, "--sort", "seed")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_ls_on_a_narrow_terminal_shortens_names_and_nothing_else(checkout, root, monkeypatch):
    with mlflow_run.run(root, LONG + "seed=1") as long_run:
        long_run.metrics(scored(0.1, 0.6))
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    ls.command.main([], standalone_mode=False)
    (line,) = [line for line in sys.stdout.getvalue().splitlines() if long_run.id[:8] in line]
    assert "…" in line
    assert "seed=1 " in line
    assert "FINISHED" in line
    assert "10.0 ->  60.0" in line
    assert "+50.0" in line


def test_ls_prints_whole_runs_as_json(checkout):
    runs = json.loads(output(ls.command, "--sort", "seed", "--json"))
    assert [run["params"].get("seed") for run in runs] == ["1", "2", "42", None]
    assert runs[0]["metrics"] == scored(0.1, 0.2)


def test_an_empty_store_says_how_to_fill_it(root, monkeypatch):
    begin(root, monkeypatch)
    with pytest.raises(UserError, match="tunetrail run"):
        output(ls.command)

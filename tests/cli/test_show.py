"""`show` against a real SQLite store."""

import json
import socket

import pytest
from mlflow import MlflowClient

from tests.commands import output
from tests.recorded_runs import record_run_and_sweep
from tunetrail.cli import show
from tunetrail.tracking import connection, mlflow_run, other_runs


@pytest.fixture
def checkout(root, monkeypatch):
    return record_run_and_sweep(root, monkeypatch)


def test_show_prints_the_recorded_run(checkout, root):
    (root / "changes.patch").write_text("diff")
    report = {"value": 0.5, "low": 0.4, "high": 0.6}
    names = ("prompt_strict", "prompt_loose", "inst_strict", "inst_loose")
    ifeval = {model: dict.fromkeys(names, report) for model in ("base", "tuned", "delta")}
    (root / "report").mkdir()
    metrics = {"task": "ifeval", "size": "3 prompts", "evaluation_digest": "e1", "ifeval": ifeval}
    (root / "report" / "metrics.json").write_text(json.dumps(metrics))
    with mlflow_run.run(root, "whole") as made:
        made.tags({"git.commit": "c0ffee", "git.dirty": "true"})
        made.artifacts(root, "report", "changes.patch")
    text = output(show.command, "whole")
    assert "commit c0ffee, with uncommitted changes: changes.patch" in text
    assert "Prompt Strict  50.0 [40.0, 60.0]  50.0 [40.0, 60.0]  +50.0 [+40.0, +60.0]" in text
    assert json.loads(output(show.command, made.id, "--json"))["run"]["id"] == made.id
    sweep = output(show.command, "sweep-1")
    assert "jobs          1 FAILED, 1 FINISHED" in sweep
    assert [line.split()[1] for line in sweep.splitlines() if "->" in line][1:] == ["seed=1", "seed=2"]


def next_lines(text):
    return [line.strip() for line in text.partition("next:\n")[2].splitlines()]


def test_show_suggests_the_next_commands(checkout):
    demo, sweep = checkout["demo"][:8], checkout["sweep-1"][:8]
    words = [line.split("  ")[0] for line in next_lines(output(show.command, "demo"))]
    assert words == [
        f"tunetrail {arguments}"
        for arguments in (f"chat {demo}", f"compare {demo} OTHER", f"restore {demo}", f"reproduce {demo}", f"promote {demo}")
    ]
    assert next_lines(output(show.command, sweep)) == [
        "tunetrail ls --sweep sweep-1 --sort ifeval/tuned/prompt_strict",
        f"tunetrail promote {checkout['seed=1'][:8]}",
    ]


def test_show_of_a_promoted_run_or_of_its_sweep_does_not_offer_to_promote_it(checkout, root):
    client = MlflowClient(connection.uri(root))
    client.create_registered_model("demo")
    for name in ("demo", "seed=1"):
        client.create_model_version("demo", f"runs:/{checkout[name]}/model", checkout[name])
    assert "tunetrail promote" not in output(show.command, "demo")
    assert "tunetrail restore" in output(show.command, "demo")
    assert "tunetrail promote" not in output(show.command, "sweep-1")


def test_show_of_a_failed_run_says_how_to_retry_it_and_offers_no_model(checkout, root):
    job = checkout["seed=2"]
    lines = next_lines(output(show.command, job))
    assert (
        lines[0]
        == "tunetrail run -m seed=1,2              the same sweep: jobs that have finished are skipped, the others continue"
    )
    assert [line.split()[1] for line in lines] == ["run", "compare"]
    worktree = root / "runs" / "sweep-1" / "job"
    other_runs.tag(root, job, {"tunetrail.checkout": f"{socket.gethostname()}:{worktree}"})
    assert not [line for line in next_lines(output(show.command, job)) if "--params" in line]
    (worktree / "work").mkdir(parents=True)
    (worktree / "work" / "composed.yaml").touch()
    assert "tunetrail run --params runs/sweep-1/job/work/composed.yaml" in next_lines(output(show.command, job))
    other_runs.tag(root, job, {"tunetrail.checkout": f"elsewhere:{worktree}"})
    assert not [line for line in next_lines(output(show.command, job)) if "--params" in line]


def test_show_of_a_run_that_failed_outside_a_sweep_says_how_to_retry_it(checkout, root):
    client = MlflowClient(connection.uri(root))
    for tags, says in (
        ({}, "the command that started it continues it"),
        ({"reproduces": "abcdef0123"}, "tunetrail reproduce abcdef01"),
    ):
        failed = other_runs.create(root, "failed", tags)
        assert not next_lines(output(show.command, failed))[0].startswith(says)  # it goes on
        client.set_terminated(failed, "FAILED")
        assert next_lines(output(show.command, failed))[0].startswith(says)
    client.set_terminated(checkout["sweep-1"], "KILLED")
    assert next_lines(output(show.command, "sweep-1"))[0].startswith("tunetrail run -m seed=1,2")

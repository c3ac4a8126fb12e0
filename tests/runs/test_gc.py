"""Space freed in a real checkout: what is removed, and that all else is still available."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from tests import spaces
from tests.spaces import command, failing, objects, weights
from tunetrail import UserError, launch
from tunetrail.checkout import locks
from tunetrail.cli.gc import command as gc_command
from tunetrail.runs import gc, usage
from tunetrail.tracking import connection, download, mlflow_run, other_runs, store

pytestmark = pytest.mark.stage


@pytest.fixture
def root(spacious, tmp_path, monkeypatch):
    return spaces.copied(spacious, tmp_path, monkeypatch)


def free(root, *words, sweep=None, **kinds):
    """Free space as the command does; return the bytes announced and the bytes freed."""
    with gc.all_locks(root):
        meant, sweep = gc.resolve(root, words, sweep)
        survey = usage.survey(root)
        chosen = gc.choose(survey, meant, sweep, **kinds)
        return survey.amount(chosen), gc.free(survey, chosen)


def typed(*words):
    return CliRunner().invoke(gc_command, [*words], catch_exceptions=False)


def tags(root, run):
    return MlflowClient(connection.uri(root)).get_run(run).data.tags


def experiments(root):
    return {name.rpartition("-")[0] for name in usage.experiments(root)}


def test_freeing_a_run_removes_exactly_its_own_objects_and_all_others_can_still_be_checked_out(root, ids):
    before = objects(root)
    announced, freed = free(root, "one")
    after = objects(root)
    assert announced == freed == sum(before.values()) - sum(after.values())
    assert weights(root) == {"base", "2", "3", "4"}
    assert len(before) - len(after) == 2
    assert experiments(root) == {"two", "three"}
    assert tags(root, ids["one"])["freed"] == datetime.now(UTC).date().isoformat()
    for name, seed in (("two", 2), ("bare", 4)):  # the other with an experiment, and the one without
        folder = root / "work" / "recorded" / ids[name]
        assert not store.download(root, ids[name], download.RECORD, folder)
        download.checkout_models(root, folder)
        assert (folder / "outputs" / "model" / "weights").stat().st_size == spaces.WEIGHTS[str(seed)]
    assert command(root, "dvc", "status").strip() == "Data and pipelines are up to date."


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_run_whose_files_are_in_another_cache_too_is_not_said_to_be_freed(root, ids, tmp_path, elsewhere):
    own, link = root / ".dvc" / "cache", tmp_path / "link"
    link.symlink_to(tmp_path if elsewhere else own)
    other_runs.tag(root, ids["one"], {"dvc.cache": f"host:{link.resolve()}"})
    command(root, "dvc", "config", "--local", "cache.dir", str(own if elsewhere else link))
    free(root, "one")
    assert ("freed" in tags(root, ids["one"])) != elsewhere


def test_a_freed_run_has_no_space_and_its_stages_run_again(root, ids):
    free(root, ids["one"])
    with pytest.raises(UserError, match=r"nothing is freed:\n  - run \w{8} \(one\): freed 20"):
        free(root, "one")
    spaces.parameters(root, 1)
    assert "Running stage 'train'" in command(root, "dvc", "repro")
    assert (root / "outputs" / "model" / "weights").read_text() == 100 * "1"
    assert command(root, "dvc", "status").strip() == "Data and pipelines are up to date."


def test_two_runs_with_one_model_keep_it_until_both_are_freed(root, ids):
    spaces.finish(root, "again", 2)
    spaces.finish(root, "last", 3)
    assert free(root, "two") == (0, 0)
    assert "2" in weights(root)
    assert free(root, "again")[1] > 200
    assert "2" not in weights(root)


@pytest.mark.parametrize(
    ("name", "reason"), [("two", "promoted as demo/1"), ("three", "in the checkout"), ("bare", "running, far:/away")]
)
def test_a_run_that_may_not_be_freed_is_refused_by_name_and_nothing_at_all_is_freed(root, ids, name, reason):
    before, names = objects(root), experiments(root)
    other_runs.tag(root, ids["two"], {"promoted": "demo/1"})
    other_runs.tag(root, ids["bare"], {"tunetrail.checkout": "far:/away"})
    MlflowClient(connection.uri(root)).update_run(ids["bare"], status="RUNNING")
    with pytest.raises(UserError, match=rf"nothing is freed:\n  - run {ids[name][:8]} \({name}\): {reason}"):
        free(root, "one", name, failed=True)
    assert (objects(root), experiments(root)) == (before, names)
    assert "freed" not in tags(root, ids["one"])


def test_a_failed_worktree_can_continue_after_another_run_is_freed(root, ids):
    checkout = failing(root)
    announced, freed = free(root, "one")
    assert announced == freed
    assert weights(root) == {"base", "other", "2", "3", "4"}
    shutil.rmtree(checkout / "outputs" / "base")
    command(checkout, "dvc", "checkout", "--force", "--allow-missing")
    shutil.copytree(root / "made" / "1", checkout / "made" / "9")
    command(checkout, "git", "add", "made")
    output = command(checkout, "dvc", "repro", "--single-item", "train")
    assert "Running stage 'train'" in output
    assert (checkout / "outputs" / "base" / "weights").read_text() == 7000 * "o"


def test_failed_worktrees_are_removed_with_the_objects_that_only_they_made(root):
    checkout = failing(root)
    before = sum(objects(root).values())
    announced, freed = free(root, failed=True)
    assert announced == freed > before - sum(objects(root).values()) > 7000
    assert not checkout.exists()
    assert weights(root) == {"base", "1", "2", "3", "4"}
    assert len(command(root, "git", "worktree", "list").splitlines()) == 1


def test_a_freed_run_loses_its_worktree_and_its_restored_models(root, ids):
    checkout = failing(root)
    (root / "runs" / "sweep-1" / "job.json").write_text(json.dumps({"run": ids["one"]}))
    (root / "work" / "recorded" / ids["one"]).mkdir(parents=True)
    (root / "work" / "recorded" / ids["two"]).mkdir()
    free(root, "one")
    assert not checkout.exists()
    assert [folder.name for folder in (root / "work" / "recorded").iterdir()] == [ids["two"]]


def test_copies_are_removed_and_the_cache_is_unchanged(root, ids):
    before = objects(root)
    for folder in (root / "work" / "recorded" / ids["three"], root / "work" / "shared" / "tokens" / "ab"):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"12345")
    assert free(root, copies=True) == (10, 10)
    assert objects(root) == before
    assert experiments(root) == {"one", "two", "three"}


def test_freeing_a_sweep_keeps_its_promoted_run(root, ids):
    with mlflow_run.run(root, "sweep-1") as parent:
        parent.tags({"sweep": "sweep-1"})
    for name in ("one", "bare", "two"):
        other_runs.tag(root, ids[name], {"sweep": "sweep-1", "mlflow.parentRunId": parent.id})
    other_runs.tag(root, ids["two"], {"promoted": "demo/1"})
    with pytest.raises(UserError, match=r"\(sweep-1\): a sweep.*--sweep sweep-1"):
        free(root, "sweep-1")
    announced, freed = free(root, sweep=parent.id[:8])
    assert announced == freed > 900
    assert weights(root) == {"base", "2", "3"}
    with pytest.raises(UserError, match="belongs to no sweep"):
        free(root, sweep="three")
    with pytest.raises(UserError, match=r"no sweep or run has this name\. There are: sweep-1"):
        free(root, sweep="sweep-2")


@pytest.mark.parametrize(
    "lock", ["work/lock", "runs/sweep-1/lock", "runs/reproduce-1.lock", "runs/sweep-1/job/work/job.lock"]
)
def test_nothing_is_freed_while_a_run_is_running(root, lock):
    if "job" in lock:
        (failing(root) / "work").mkdir(exist_ok=True)
    (root / lock).parent.mkdir(parents=True, exist_ok=True)
    before = objects(root)
    says = rf"process {os.getpid()} is running here, so nothing is freed\. Wait until it has ended, and try again"
    with locks.exclusive_lock((root / lock).parent, (root / lock).name):
        with pytest.raises(UserError, match=says):
            free(root, "one")
        with pytest.raises(UserError, match="nosuch: no run has this id or name"):
            typed("nosuch")
        assert typed("one", "--dry-run").output.endswith(" would be freed\n")
    assert objects(root) == before


@pytest.mark.parametrize(
    ("lock", "folder"), [("work/lock", ""), ("runs/sweep-1/lock", "runs/sweep-1"), ("runs/again.lock", "runs/again")]
)
def test_the_running_run_is_named_in_the_error(root, lock, folder):
    (root / lock).parent.mkdir(parents=True, exist_ok=True)
    running = locks.exclusive_lock((root / lock).parent, (root / lock).name)
    with running, mlflow_run.run(root, "busy", root / folder if folder else None) as run, pytest.raises(UserError) as error:
        free(root, "one")
    assert f"process {os.getpid()}, run {run.id[:8]} (busy) is running here" in str(error.value)


@pytest.fixture
def cut(root, monkeypatch):
    """Free run `one` and interrupt it at the first call of a function, or at the first whose command has `argument`."""

    def free_until(module, name, argument=""):
        real = getattr(module, name)

        def stop(*args):
            if not argument or argument in args[0]:
                raise KeyboardInterrupt
            return real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(module, name, stop)
            with pytest.raises(KeyboardInterrupt):
                free(root, "one")

    return free_until


def test_interrupted_before_its_experiment_is_removed_a_run_is_unchanged(root, cut):
    cut(launch, "output", "update-ref")
    assert experiments(root) == {"one", "two", "three"}
    free(root, "two")
    assert weights(root) == {"base", "1", "3", "4"}


def test_interrupted_before_it_is_tagged_as_freed_a_run_keeps_its_models(root, cut):
    cut(other_runs, "tag")
    assert experiments(root) == {"two", "three"}
    free(root, "two")
    assert weights(root) == {"base", "1", "3", "4"}
    free(root, "one")
    assert weights(root) == {"base", "3", "4"}


def test_interrupted_before_its_objects_are_removed_the_next_call_removes_them(root, cut):
    cut(launch, "output", "gc")
    assert weights(root) == {"base", "1", "2", "3", "4"}
    assert usage.survey(root).unused() > 100
    free(root, failed=True)
    assert weights(root) == {"base", "2", "3", "4"}


def test_without_a_terminal_gc_requires_yes(root):
    before = objects(root)
    with pytest.raises(UserError, match=r"To free these 1\d\d B without a question: --yes"):
        typed("one")
    with pytest.raises(UserError, match="nosuch: no run has this id or name"):
        typed("nosuch")
    with pytest.raises(UserError, match="in the checkout"):
        typed("three")
    dry = typed("one", "--dry-run").output
    assert dry.startswith("run ")
    assert dry.endswith(" B would be freed\n")
    assert typed("--dry-run").output == "nothing to free\n"
    assert objects(root) == before
    output = typed("one", "--yes").output
    assert "run " in output
    assert output.endswith(" freed\n")
    assert "1" not in weights(root)
    assert typed("--failed", "--yes").output == "nothing to free\n"


def test_on_a_terminal_gc_asks_with_the_amount_and_answering_no_frees_nothing(root, monkeypatch):
    before = objects(root)
    script = "import sys; from tunetrail.cli.gc import command; command()"
    done = subprocess.run(
        ["script", "--quiet", "--return", "--command", f"{sys.executable} -c '{script}' one", "/dev/null"],
        input="n\n",
        capture_output=True,
        text=True,
        cwd=root,
    )
    assert "Free 1" in done.stdout
    assert "B? [y/N]" in done.stdout
    assert objects(root) == before

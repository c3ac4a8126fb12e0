"""The disk space of runs, to the byte, in a real checkout."""

import json
import os
import shutil

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from tests import spaces
from tests.spaces import WEIGHTS, command, failing
from tunetrail import UserError
from tunetrail.cli import gc
from tunetrail.runs import usage
from tunetrail.tracking import connection, other_runs

pytestmark = pytest.mark.stage


@pytest.fixture
def root(spacious, tmp_path, monkeypatch):
    return spaces.copied(spacious, tmp_path, monkeypatch)


# The bytes of a folder's listing in the cache, with one file.
FOLDER = len(json.dumps([{"md5": 32 * "0", "relpath": "weights"}]))


def of(survey, run):
    (part,) = [part for part in survey.parts if part.kind == "run" and part.name == run]
    return part


def test_a_run_takes_its_own_model_and_shares_its_base_counted_once(root, ids):
    survey = usage.survey(root)
    assert [part.name for part in survey.parts] == list(ids.values())
    for name, seed in (("one", "1"), ("two", "2"), ("bare", "4")):
        assert survey.own(of(survey, ids[name])) == WEIGHTS[seed] + FOLDER
    # Objects in the checkout do not belong to `three` alone.
    assert survey.own(of(survey, ids["three"])) == 0
    assert survey.shared() == WEIGHTS["base"] + WEIGHTS["3"] + 2 * FOLDER
    assert survey.unused() == 0
    assert survey.total() == sum(spaces.objects(root).values())
    assert survey.total() == survey.shared() + sum(survey.own(part) for part in survey.parts)


def test_runs_that_are_promoted_or_registered_or_in_the_checkout_or_run_elsewhere_are_kept(root, ids):
    other_runs.tag(root, ids["one"], {"promoted": "demo/1"})
    client = MlflowClient(connection.uri(root))
    client.create_registered_model("by-hand")
    client.create_model_version("by-hand", (root / "made" / "2").as_uri(), ids["two"])
    client.set_tag(ids["bare"], "tunetrail.checkout", "elsewhere:/there")
    client.update_run(ids["bare"], status="RUNNING")
    assert usage.survey(root).kept == {
        ids["one"]: ["promoted as demo/1"],
        ids["two"]: ["promoted as by-hand/1"],
        ids["three"]: ["in the checkout"],
        ids["bare"]: ["running, elsewhere:/there"],
    }


def test_objects_named_by_a_commit_belong_to_no_run_alone(root, ids):
    assert usage.survey(root).own(of(usage.survey(root), ids["two"])) > 0
    spaces.finish(root, "two again", 2)
    command(root, "git", "add", "--force", "dvc.lock")
    command(root, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "kept")
    spaces.finish(root, "three again", 3)
    command(root, "git", "rm", "--quiet", "--cached", "dvc.lock")
    command(root, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "not")
    survey = usage.survey(root)
    assert survey.own(of(survey, ids["two"])) == 0
    assert not survey.unused()


def test_objects_that_nothing_names_are_counted_as_unused(root, ids):
    client = MlflowClient(connection.uri(root))
    name = client.get_run(ids["two"]).data.tags["dvc.experiment"]
    client.delete_run(ids["two"])
    survey = usage.survey(root)
    assert ids["two"] not in [part.name for part in survey.parts]
    assert survey.unused() == 0
    command(root, "dvc", "exp", "remove", name)
    assert usage.survey(root).unused() == WEIGHTS["2"] + FOLDER


def test_a_worktree_takes_its_own_files_without_links_and_the_objects_that_only_it_made(root, ids):
    checkout = failing(root)
    (root / "runs" / "sweep-1" / "job.json").write_text(json.dumps({"run": ids["one"]}))
    survey = usage.survey(root)
    (part,) = [part for part in survey.parts if part.kind == "worktree"]
    assert (part.name, part.run.id) == ("runs/sweep-1/job", ids["one"])
    files = [os.path.join(at, name) for at, _, names in os.walk(checkout) for name in names]
    single = sum(os.lstat(file).st_size for file in files if not os.path.islink(file) and os.lstat(file).st_nlink == 1)
    assert part.size == single > 0
    assert survey.own(part) == single + WEIGHTS["other"] + FOLDER
    largest = max(spaces.objects(root), key=lambda file: file.stat().st_size)
    os.link(largest, checkout / "hard")
    (checkout / "soft").symlink_to(largest)
    assert [part.size for part in usage.survey(root).parts if part.kind == "worktree"] == [single]


def test_a_survey_inside_a_runs_worktree_is_refused(root):
    with pytest.raises(UserError, match="a run's worktree"):
        usage.survey(failing(root))


def test_restored_models_and_tokenised_rows_are_copies(root, ids):
    for folder, size in ((root / "work" / "recorded" / ids["one"], 11), (root / "work" / "shared" / "tokens" / "ab", 13)):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x" * size)
    copies = [part for part in usage.survey(root).parts if part.kind == "copy"]
    assert [(part.name, part.size, part.run and part.run.id) for part in copies] == [
        (f"work/recorded/{ids['one']}", 11, ids["one"]),
        ("work/shared/tokens/ab", 13, None),
    ]


def test_the_table_lists_the_newest_run_last_with_the_commands_that_free_space_and_frees_nothing(root, ids):
    before = spaces.objects(root)
    other_runs.tag(root, ids["one"], {"promoted": "demo/1"})
    shown = CliRunner().invoke(gc.command, [], catch_exceptions=False)
    lines = [line for line in shown.output.splitlines() if line.startswith(tuple(run_id[:8] for run_id in ids.values()))]
    assert [line.split()[1] for line in lines] == list(ids)
    assert lines[0].endswith("promoted as demo/1")
    assert lines[-1].endswith("in the checkout")
    assert "tunetrail gc --failed" in shown.output
    assert spaces.objects(root) == before


def test_a_checkout_without_runs_has_a_table_too(root):
    shutil.rmtree(root / ".dvc" / "cache")
    assert "none" in CliRunner().invoke(gc.command, [], catch_exceptions=False).output

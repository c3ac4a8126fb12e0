"""Models stored in DVC's cache and restored from it, in a real DVC project with a real MLflow store."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.projects import flip
from tests.trained_runs import PARAMS, dvc, finish_run, project
from tunetrail import UserError
from tunetrail.checkout import integrity
from tunetrail.tracking import download, mlflow_run
from tunetrail.training import checkpoint

pytestmark = pytest.mark.stage


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Make a checkout with run `one` and then run `two`, whose models it holds; return it with their ids."""
    root = tmp_path_factory.mktemp("recorded") / "checkout"
    project(root)
    (root / "made" / "base" / "model").mkdir(parents=True)
    (root / "made" / "base" / "base.json").write_text('{"base_model": "outputs/base/model", "revision": null}')
    (root / "made" / "base" / "model" / "weights").write_text("base")
    for seed in (1, 2):
        (root / "made" / str(seed)).mkdir()
        (root / "made" / str(seed) / "weights").write_text(f"tuned {seed}")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
            patch.delenv(name, raising=False)
        patch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
        ids = {name: finish_run(root, name, seed) for name, seed in (("one", 1), ("two", 2))}
    return root, ids


@pytest.fixture
def checkout(finished, tmp_path, monkeypatch):
    """Copy it for each test."""
    shutil.copytree(finished[0], tmp_path / "checkout", symlinks=True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    monkeypatch.chdir(tmp_path / "checkout")
    return tmp_path / "checkout"


@pytest.fixture
def ids(finished):
    return finished[1]


def below(folder):
    """Return the text of every file of the folder."""
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def test_without_a_name_the_models_are_those_of_the_checkout(checkout):
    models = download.from_checkout(checkout)
    assert (models.base, models.revision) == (str(checkout / "outputs" / "base" / "model"), None)
    assert models.tuned == checkout / "outputs" / "model"
    assert models.params["train"]["seed"] == 2


@pytest.mark.parametrize("missing", ["params.yaml", "dvc.lock", "outputs/model", "outputs/base"])
def test_without_a_finished_run_the_error_says_how_to_get_one(checkout, missing):
    shutil.rmtree(checkout / missing) if (checkout / missing).is_dir() else (checkout / missing).unlink()
    with pytest.raises(UserError, match=rf"no finished run here \(no {missing}\).*tunetrail run.*tunetrail chat RUN"):
        download.from_checkout(checkout)


@pytest.mark.parametrize(
    ("stage", "part"), [("train", None), ("base", None), ("train", "outs"), ("base", "outs"), ("train", "params")]
)
def test_a_dvc_lock_without_the_models_records_no_finished_run(checkout, ids, stage, part):
    lock = yaml.safe_load((checkout / "dvc.lock").read_text())
    if part:
        del lock["stages"][stage][part]
    else:
        del lock["stages"][stage]
    (checkout / "dvc.lock").write_text(yaml.safe_dump(lock))
    with pytest.raises(UserError, match=r"no finished run here \(no model in dvc\.lock\)"):
        download.from_checkout(checkout)
    assert below(download.from_record(checkout, "one").tuned) == {"weights": "tuned 1"}


def test_a_run_whose_record_names_no_models_says_so(checkout):
    (checkout / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    with mlflow_run.run(checkout, "none") as run:
        run.artifacts(checkout, "params.yaml", "dvc.yaml", "dvc.lock")
    with pytest.raises(UserError, match=rf"dvc\.lock records no models\. .*tunetrail reproduce {run.id[:8]}"):
        download.from_record(checkout, "none")


@pytest.mark.parametrize(
    "text", ["", "7\n", "- a\n", "{}\n", "train: 3\n", "<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> b\n"]
)
def test_a_broken_params_yaml_is_an_error_with_its_name(checkout, text):
    (checkout / "params.yaml").write_text(text)
    with pytest.raises(UserError, match=rf"^{checkout}/params\.yaml: "):
        download.from_checkout(checkout)


def test_a_model_of_another_template_than_params_yaml_is_not_taken_for_this_runs(checkout):
    changed = PARAMS | {"train": {"seed": 2, "datasets": [{"type": {"no_input_format": "Q: {instruction}\n"}}]}}
    (checkout / "params.yaml").write_text(yaml.safe_dump(changed))
    with pytest.raises(UserError, match=r"another template.*Finish it: tunetrail run"):
        download.from_checkout(checkout)


def test_an_earlier_runs_models_are_restored_from_the_cache_into_a_folder_of_their_own(checkout, ids):
    before = below(checkout / "outputs")
    models = download.from_record(checkout, ids["one"][:10])
    folder = checkout / "work" / "recorded" / ids["one"]
    assert (models.base, models.tuned) == (str(folder / "outputs" / "base" / "model"), folder / "outputs" / "model")
    assert below(models.tuned) == {"weights": "tuned 1"}
    assert below(Path(models.base)) == {"weights": "base"}
    assert models.params["train"]["seed"] == 1
    assert ids["one"] in models.name
    assert "one" in models.name
    assert below(checkout / "outputs") == before
    assert dvc(checkout, "status").strip() == "Data and pipelines are up to date."
    assert download.from_record(checkout, "one") == models


def test_a_run_whose_models_are_in_the_checkout_uses_them_with_its_own_params(checkout, ids):
    finish_run(checkout, "three", 2, evaluate=PARAMS["evaluate"] | {"device": "cuda"})
    models = download.from_record(checkout, "two")
    assert models.tuned == checkout / "outputs" / "model"
    assert models.params["evaluate"]["device"] == "cpu"
    assert not (checkout / "work" / "recorded" / ids["two"] / "outputs").exists()


def test_removed_outputs_are_restored_although_dvc_lock_still_names_them(checkout):
    shutil.rmtree(checkout / "outputs" / "model")
    assert below(download.from_record(checkout, "two").tuned) == {"weights": "tuned 2"}


def cached(checkout, text):
    """Return the file of DVC's cache whose content is `text`."""
    files = (file for file in (checkout / ".dvc" / "cache" / "files").rglob("*") if file.is_file())
    (cached,) = [file for file in files if file.read_text() == text]
    return cached


def forget(checkout, text):
    """Remove the file with the content `text` from DVC's cache."""
    cached(checkout, text).unlink()


def test_a_flipped_bit_in_the_cache_is_detected_and_the_commands_in_the_error_fix_it(checkout, ids):
    damaged = cached(checkout, "tuned 1")
    flip(damaged)
    with pytest.raises(UserError, match=r"In DVC's cache it is damaged") as error:
        download.from_record(checkout, "one")
    message = str(error.value)
    assert message.startswith(f"run {ids['one']} (one): 1 file is not as recorded in ")
    wanted, here = (hashlib.md5(text).hexdigest() for text in (b"tuned 1", damaged.read_bytes()))
    assert f"  outputs/model/weights: md5 {wanted} is recorded, {here} is here\n" in message
    assert f"rm -r -f {damaged}\nThen: tunetrail reproduce {ids['one'][:8]}" in message
    dvc(checkout, "remote", "add", "--default", "Store", "../store")
    with pytest.raises(UserError, match=r"run this again, which gets it from the remote\. If it is damaged there too: tune"):
        download.from_record(checkout, "one")
    shutil.copytree(checkout / ".dvc" / "cache", checkout.parent / "store")
    (pushed,) = (checkout.parent / "store").rglob(damaged.name)
    pushed.chmod(0o644)
    pushed.write_text("tuned 1")
    subprocess.run(re.search(r"rm -r -f .*", message).group(), shell=True, check=True)
    assert below(download.from_record(checkout, "one").tuned) == {"weights": "tuned 1"}


def test_a_restored_copy_is_used_again_and_restored_once_more_if_it_is_damaged(checkout, ids):
    models = download.from_record(checkout, "one")
    weights = models.tuned / "weights"
    weights.unlink()  # it may be a link into the cache
    weights.write_text("tuned 3")
    assert below(download.from_record(checkout, "one").tuned) == {"weights": "tuned 1"}
    shutil.rmtree(checkout / ".dvc" / "cache")
    assert download.from_record(checkout, "one") == models  # the copy is complete


@pytest.mark.parametrize("path", ["outputs/model/weights", "outputs/base/model/weights", "outputs/base/base.json"])
def test_edited_or_damaged_outputs_are_not_taken_for_the_runs(checkout, ids, path):
    before = (checkout / path).read_text()
    flip(checkout / path)
    with pytest.raises(UserError, match=rf"{path}: md5 \w+ is recorded, \w+ is here") as error:
        download.from_checkout(checkout)
    command = re.search(r"Put it back: (rm -r -f outputs/\w+ && dvc checkout outputs/\w+)$", str(error.value)).group(1)
    models = download.from_record(checkout, "two")  # the run itself is in the cache
    assert models.tuned == checkout / "work" / "recorded" / ids["two"] / "outputs" / "model"
    assert below(models.tuned) == {"weights": "tuned 2"}
    assert below(Path(models.base)) == {"weights": "base"}
    path_with_dvc = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run(command, shell=True, check=True, env=os.environ | {"PATH": path_with_dvc}, cwd=checkout)
    assert (checkout / path).read_text() == before
    assert download.from_checkout(checkout).tuned == checkout / "outputs" / "model"


def test_an_additional_file_in_the_outputs_is_an_error(checkout):
    (checkout / "outputs" / "model" / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"outputs/model/adapter_config\.json: no such file is recorded"):
        download.from_checkout(checkout)


def test_a_damaged_listing_is_reported_with_its_folder(checkout, ids):
    download.from_record(checkout, "one")
    md5 = download._outs(checkout / "work" / "recorded" / ids["one"])["outputs/model"]
    shutil.rmtree(checkout / "work" / "recorded")
    listing = checkout / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
    flip(listing)
    with pytest.raises(UserError, match=rf"outputs/model: md5 {md5} is recorded") as error:
        download.from_record(checkout, "one")
    assert f"rm -r -f {listing}\nThen: tunetrail reproduce" in str(error.value)


def test_models_missing_from_dvcs_cache_are_an_error_with_the_run_and_the_fix(checkout, ids):
    forget(checkout, "tuned 1")
    with pytest.raises(UserError, match=r"dvc remote add.*tunetrail reproduce") as error:
        download.from_record(checkout, "one")
    assert ids["one"] in str(error.value)
    assert "outputs/model\nIs your cache up to date?" in str(error.value)


def test_pushed_models_are_restored_from_the_checkouts_remote(checkout, ids, capsys):
    dvc(checkout, "remote", "add", "--default", "Store", "../store")
    dvc(checkout, "remote", "add", "--local", "other", "s3://bucket/a,b #c")
    (checkout / ".dvc" / "cache").rename(checkout.parent / "store")  # as pushed after each run, and removed here
    dvc(checkout, "config", "cache.dir", "../cache")
    assert below(download.from_record(checkout, "one").tuned) == {"weights": "tuned 1"}
    assert "pulls them from the remote" in capsys.readouterr().err
    assert "tuned 1" in below(checkout.parent / "cache").values()
    config = checkout / "work" / "recorded" / ids["one"] / ".dvc" / "config"
    assert config.stat().st_mode & 0o077 == 0
    assert "s3://bucket/a,b #c" in dvc(config.parents[1], "config", "--list")


def test_a_name_of_several_runs_or_of_none_is_an_error_that_lists_them(checkout, ids):
    with mlflow_run.run(checkout, "two"):
        pass
    with pytest.raises(UserError, match="2 runs match") as error:
        download.from_record(checkout, "two")
    assert ids["two"] in str(error.value)
    assert ids["one"] not in str(error.value)
    with pytest.raises(UserError, match=r"nothing: no run has this id or name\. There are:") as error:
        download.from_record(checkout, "nothing")
    assert ids["one"] in str(error.value)


def test_a_run_that_did_not_finish_has_no_models(checkout):
    with contextlib.suppress(ValueError), mlflow_run.run(checkout, "half") as run:
        run.artifacts(checkout, "params.yaml", "dvc.yaml")
        raise ValueError
    with pytest.raises(UserError, match=r"\(half\), FAILED: its record has no dvc\.lock.*name another\. .* tunetrail show"):
        download.from_record(checkout, "half")


def test_a_sweep_has_no_models_and_its_jobs_are_named(checkout):
    with mlflow_run.run(checkout, "sweep-1") as parent:
        parent.tags({"sweep": "sweep-1"})
    with pytest.raises(UserError, match=r"\(sweep-1\) is a sweep"):
        download.from_record(checkout, "sweep-1")
    assert not (checkout / "work" / "recorded" / parent.id).exists()


def note_base(checkout, base):
    """Make the checkout's run refer to this base."""
    before = download._outs(checkout)["outputs/base"]
    (checkout / "outputs" / "base" / "base.json").write_text(json.dumps(base))
    now = integrity.digest(integrity.file_hashes(checkout / "outputs" / "base"))
    (checkout / "dvc.lock").write_text((checkout / "dvc.lock").read_text().replace(before, now))


def test_a_base_from_the_hub_keeps_its_name_and_revision(checkout):
    note_base(checkout, {"base_model": "org/name", "revision": "abc"})
    models = download.from_checkout(checkout)
    assert (models.base, models.revision) == ("org/name", "abc")


def test_a_base_in_a_folder_of_the_checkout_must_still_be_what_it_was(checkout):
    folder = checkout / "models" / "mine"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text("weights")
    base = {"base_model": "models/mine", "revision": None, "sha256": checkpoint.digest(folder)}
    note_base(checkout, base)
    assert download.from_checkout(checkout).base == str(folder)
    (folder / "model.safetensors").write_text("other weights")
    with pytest.raises(UserError, match="models/mine has changed since the run"):
        download.from_checkout(checkout)
    shutil.rmtree(folder)
    note_base(checkout, base | {"base_model": "./models/mine"})
    with pytest.raises(UserError, match="models/mine: no such folder"):
        download.from_checkout(checkout)

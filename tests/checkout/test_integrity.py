"""Files and the hashes that DVC itself gave them, in a real project."""

import json
import shutil

import pytest

from tests.projects import flip, run
from tunetrail.checkout import dvc, integrity

pytestmark = pytest.mark.stage

STAGES = """
stages:
  train:
    cmd: cp -r made/model model && cp made/one one && mkdir empty
    outs: [model, one, empty]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("integrity") / "checkout"
    (folder / "made" / "model" / "deep" / "größe").mkdir(parents=True)
    for name in ("model/weights", "model/deep/größe/b", "model/deep.txt", "model/Z", "one"):
        (folder / "made" / name).write_text(f"this is {name}\r\n")
    (folder / "dvc.yaml").write_text(STAGES)
    run(folder, "dvc", "init", "--quiet", "--no-scm")
    run(folder, "dvc", "repro", "--quiet")
    return folder


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path / "checkout", symlinks=True)
    return tmp_path / "checkout"


def outs(folder):
    return dvc.hashes(dvc.locked_stages(folder))


def wrong_files(folder):
    """Return the faults as (path, state of the cached object)."""
    others = integrity.changed(folder, outs(folder))
    faults = integrity.faults(outs(folder), others, folder / ".dvc" / "cache" / "files" / "md5")
    return [(fault.path, fault.state) for fault in faults]


def cached(folder, path):
    """Return the cached object of an output, or of a file in one."""
    out, _, name = path.partition("/")
    md5 = outs(folder)[out]
    objects = folder / ".dvc" / "cache" / "files" / "md5"
    if name:
        listing = json.loads((objects / md5[:2] / md5[2:]).read_bytes())
        md5 = next(entry["md5"] for entry in listing if entry["relpath"] == name)
    return objects / md5[:2] / md5[2:]


def test_files_have_the_hashes_that_dvc_gave_them(folder):
    assert set(outs(folder)) == {"model", "one", "empty"}
    assert {path: integrity.digest(integrity.file_hashes(folder / path)) for path in outs(folder)} == outs(folder)
    assert integrity.changed(folder, outs(folder)) == {}
    assert integrity.file_hashes(folder / "nothing") is integrity.digest(None) is None


def test_a_flipped_bit_that_dvc_misses_is_detected(folder):
    for path in ("model/weights", "one"):
        flip(folder / path)
    assert wrong_files(folder) == [("model/weights", "whole"), ("one", "whole")]


def test_every_other_difference_is_reported_with_the_state_of_the_cached_object(folder):
    (folder / "model" / "weights").unlink()
    (folder / "model" / "Z").write_text("edited by hand")
    (folder / "model" / "more").touch()
    (folder / "empty" / "more").touch()
    cached(folder, "model/Z").unlink()
    flip(cached(folder, "model/weights"))
    assert wrong_files(folder) == [
        ("empty/more", "whole"),
        ("model/Z", "missing"),
        ("model/more", "whole"),
        ("model/weights", "damaged"),
    ]


def test_a_missing_folder_is_listed_file_by_file_unless_its_listing_is_damaged(folder):
    shutil.rmtree(folder / "model")
    assert [path for path, _ in wrong_files(folder)] == ["model/Z", "model/deep.txt", "model/deep/größe/b", "model/weights"]
    flip(cached(folder, "model"))
    assert wrong_files(folder) == [("model", "damaged")]
    cached(folder, "model").unlink()
    assert wrong_files(folder) == [("model", "missing")]


def test_a_truncated_object_is_damaged(folder):
    file = cached(folder, "model/weights")
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:3])
    (folder / "model" / "weights").write_text("edited")
    assert wrong_files(folder) == [("model/weights", "damaged")]
    assert integrity.is_whole(cached(folder, "one"), outs(folder)["one"])


def test_a_summary_has_the_first_faults_and_counts_the_rest():
    faults = [integrity.Fault(f"f{number}", "a", None, None, "missing") for number in range(5)]
    assert integrity.summary(faults).splitlines() == [
        "  f0: md5 a is recorded, no file is here",
        "  f1: md5 a is recorded, no file is here",
        "  f2: md5 a is recorded, no file is here",
        "  and 2 more",
    ]

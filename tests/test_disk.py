"""A full disk, really full: the message names it and what to do, and nothing that is half written is taken for whole."""

import contextlib
import re
import shutil
import subprocess

import click
import pytest
from click.testing import CliRunner

from tests.checkout.conftest import root as root
from tunetrail import UserError, cli, disk, stages
from tunetrail.checkout import dvc, integrity, locks

SIZE = 2**20


@contextlib.contextmanager
def small_disk(folder):
    """Mount a disk of 1 MiB at `folder`, with what is in it."""
    content = {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount a disk")
    try:
        for name, text in content.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(text)
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work").mkdir()
    with small_disk(tmp_path / "work") as folder:
        yield folder


def write_too_much():
    with open("work/model", "wb") as file:
        file.write(bytes(2 * SIZE))


def test_a_stage_that_fills_the_disk_ends_with_one_message(work, capsys):
    with pytest.raises(SystemExit) as end:
        stages.run(write_too_much)
    said = f"error: No space left on device. The disk of {work} has 0 B free. Free space there: tunetrail gc shows what runs"
    assert end.value.code == 2
    assert capsys.readouterr().err == f"{said} take.\n"


def test_a_command_that_fills_the_disk_ends_with_one_message(work):
    group = cli.Commands(params=[click.Option(["--debug"], is_flag=True)])
    group.add_command(click.Command("write", callback=write_too_much))
    result = CliRunner().invoke(group, ["write"])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith(f"error: No space left on device. The disk of {work} has 0 B free.")


def test_a_disk_with_space_is_not_blamed(tmp_path):
    assert disk.full(tmp_path) == ""


def test_outputs_that_the_cache_had_no_space_for_are_stored_by_the_next_run(root, monkeypatch):
    """`dvc repro` prints an error and goes on, with code 0: the run would have no models to restore."""
    monkeypatch.chdir(root)
    text = (root / "dvc.yaml").read_text()
    files = "mkdir outputs/model && for name in 1 2 3 4 5 6 7 8 9; do yes $name | head -c 50000 > outputs/model/$name; done"
    (root / "dvc.yaml").write_text(re.sub("cat data/raw/.*", files, text))
    cache = root / ".dvc" / "cache"
    with small_disk(cache), locks.exclusive_lock(root) as descriptor:
        (cache / "filler").write_bytes(bytes(shutil.disk_usage(cache).free - 100_000))
        dvc.reproduce(root, descriptor)
        with pytest.raises(UserError) as error:
            integrity.store_outputs(root)
        assert re.sub(r"[0-9.]+ (KiB|B)", "SIZE", str(error.value)) == (
            f"DVC's cache ({cache}/files/md5) could not take outputs/model. The disk of {cache} has SIZE free. "
            "Free space there: tunetrail gc shows what runs take. Then run again."
        )
        (cache / "filler").unlink()
        dvc.reproduce(root, descriptor)
        integrity.store_outputs(root)
        shutil.rmtree(root / "outputs" / "model")
        dvc.checkout_outputs(root)
        assert len(list((root / "outputs" / "model").iterdir())) == 9

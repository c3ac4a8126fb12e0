"""What processes have started is found and ended, whichever of them is killed."""

import os
import signal
import subprocess
import sys

import pytest

from tests.started import DEAF, WRITES, ends, wait_for_ids
from tunetrail import processes
from tunetrail.checkout import locks


@pytest.mark.parametrize("killed", ["runner", "dvc", "stage", "launcher"])
def test_nothing_is_left_behind_whichever_process_is_killed(tmp_path, killed):
    """As `tunetrail` starts `dvc`, which starts a stage, which starts a launcher, which starts a trainer."""
    names = ("runner", "dvc", "stage", "launcher", "trainer")
    trainer = WRITES + "time.sleep(60)"
    launcher = WRITES + f"subprocess.run([sys.executable, '-c', {trainer!r}, 'trainer'])"
    stage = WRITES + (
        "from tunetrail import launch; "
        f"launch.run_tool([sys.executable, '-c', {launcher!r}, 'launcher'], pathlib.Path('log'), 'train', offline=True)"
    )
    dvc = WRITES + f"sys.exit(subprocess.run([sys.executable, '-c', {stage!r}, 'stage']).returncode)"
    runner = WRITES + (
        "from tunetrail import launch; from tunetrail.checkout import locks; "
        "lock = locks.exclusive_lock(pathlib.Path('.')); fd = lock.__enter__(); "
        f"sys.exit(launch.run([sys.executable, '-c', {dvc!r}, 'dvc'], [fd]) != 0)"
    )
    process = subprocess.Popen([sys.executable, "-c", runner, "runner"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    ids = dict(zip(names, wait_for_ids(*(tmp_path / name for name in names)), strict=True))
    os.kill(ids[killed], signal.SIGKILL)
    process.wait(timeout=15)
    with locks.exclusive_lock(tmp_path):  # it waits for what is being ended
        assert all(map(ends, ids.values()))
    assert process.returncode == (-9 if killed == "runner" else 1)


@pytest.mark.parametrize("trainer", [WRITES + "time.sleep(60)", DEAF])
def test_what_a_library_has_started_ends_with_this_process_although_it_is_killed(tmp_path, trainer):
    """As joblib's workers, which start the jobs of a sweep, each in a session of its own."""
    started = f"[sys.executable, '-c', {trainer!r}, 'trainer'], start_new_session=True"
    worker = WRITES + f"subprocess.run({started})"
    sweep = WRITES + (
        "from tunetrail import launch; from tunetrail.checkout import locks; "
        "lock = locks.exclusive_lock(pathlib.Path('.')); fd = lock.__enter__(); "
        "guarded = launch.children_end_with_this([fd]); guarded.__enter__(); "
        f"subprocess.run([sys.executable, '-c', {worker!r}, 'worker'])"
    )
    process = subprocess.Popen([sys.executable, "-c", sweep, "sweep"], cwd=tmp_path)
    ids = wait_for_ids(*(tmp_path / name for name in ("sweep", "worker", "trainer")))
    process.kill()
    process.wait(timeout=15)
    with locks.exclusive_lock(tmp_path):  # it waits for what is being ended
        assert all(map(ends, ids))


def test_the_holder_of_a_file_is_terminated_with_its_group_although_its_parent_is_dead(tmp_path):
    """As a job whose worker was killed: it has a session of its own."""
    leader = WRITES + f"subprocess.run([sys.executable, '-c', {WRITES + 'time.sleep(60)'!r}, sys.argv[2]])"
    words = [sys.executable, "-c", leader, str(tmp_path / "leader"), str(tmp_path / "trainer")]
    parent = f"import subprocess, sys; subprocess.Popen({words!r}, pass_fds=[int(sys.argv[1])], start_new_session=True)"
    with (tmp_path / "held").open("w") as file, (tmp_path / "other").open("w") as other:
        subprocess.run([sys.executable, "-c", parent, str(file.fileno())], pass_fds=[file.fileno()], check=True)
        beside = subprocess.Popen(
            [sys.executable, "-c", WRITES + "time.sleep(60)", str(tmp_path / "beside")], pass_fds=[other.fileno()]
        )
        leader, trainer, _ = wait_for_ids(tmp_path / "leader", tmp_path / "trainer", tmp_path / "beside")
        processes.terminate_holders([tmp_path / "held", tmp_path / "gone"])  # this process also holds it, and survives
        assert ends(leader)
        assert ends(trainer)
        assert beside.poll() is None
        beside.kill()
        beside.wait()


def test_the_holder_of_a_file_that_ignores_sigterm_is_killed(tmp_path):
    with (tmp_path / "held").open("w") as file:
        words = [sys.executable, "-c", DEAF, str(tmp_path / "deaf")]
        process = subprocess.Popen(words, pass_fds=[file.fileno()], start_new_session=True)
        wait_for_ids(tmp_path / "deaf")
        processes.terminate_holders([tmp_path / "held"], patience=0.5)
        assert process.wait(timeout=5) == -signal.SIGKILL

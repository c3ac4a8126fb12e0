import contextlib
import os
import subprocess
import sys
import threading

import pytest

from tunetrail import UserError
from tunetrail.checkout import locks


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_two_runs_at_once_are_refused_and_a_later_one_is_not(checkout):
    with (
        locks.exclusive_lock(checkout),
        pytest.raises(UserError, match=r"process \d+, or what it started, is running here"),
        locks.exclusive_lock(checkout),
    ):
        pass
    with locks.exclusive_lock(checkout):
        pass


def test_a_busy_error_has_the_id_of_the_holder(checkout):
    with locks.exclusive_lock(checkout), pytest.raises(locks.Busy) as error, locks.exclusive_lock(checkout):
        pass
    assert error.value.process == str(os.getpid())


def test_a_lock_is_taken_again_if_its_file_was_removed_meanwhile(checkout, monkeypatch):
    """The holder removes the file after the next process opens it and before that process locks it."""
    real, lock = locks.fcntl.flock, checkout / "work" / "lock"

    def removed_first(file, how):
        monkeypatch.setattr(locks.fcntl, "flock", real)
        lock.unlink()
        real(file, how)

    monkeypatch.setattr(locks.fcntl, "flock", removed_first)
    with locks.exclusive_lock(checkout):
        assert lock.read_text() == str(os.getpid())
        with pytest.raises(locks.Busy), locks.exclusive_lock(checkout):
            pass


def test_each_name_is_a_lock_of_its_own(checkout):
    with (
        locks.exclusive_lock(checkout),
        locks.exclusive_lock(checkout, "work/job.lock"),
        locks.exclusive_lock(checkout, "lock"),
    ):
        assert (checkout / "lock").read_text() == str(os.getpid())
        with (
            pytest.raises(UserError, match=rf"process {os.getpid()}, or"),
            locks.exclusive_lock(checkout, "work/job.lock"),
        ):
            pass


def test_the_second_process_is_notified_and_waits(checkout):
    order, turn = [], checkout / "work" / "turns" / "prepare"

    def second():
        with locks.wait_for_lock(turn, lambda: order.append("waiting")):
            order.append("second")

    with locks.wait_for_lock(turn, lambda: order.append("never")):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.3)
        order.append("first")
    thread.join()
    assert order == ["waiting", "first", "second"]


def test_a_lock_ends_with_an_exception_and_with_its_process(checkout):
    with contextlib.suppress(ValueError), locks.wait_for_lock(checkout / "turn"):
        raise ValueError
    script = (
        "import os, pathlib; from tunetrail.checkout import locks\n"
        "with locks.wait_for_lock(pathlib.Path('turn')): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    with locks.wait_for_lock(checkout / "turn"):
        pass


def test_a_lock_lasts_as_long_as_a_child_that_inherits_it(checkout):
    with locks.exclusive_lock(checkout) as descriptor:
        child = subprocess.Popen(["sleep", "30"], pass_fds=[descriptor])
    with pytest.raises(UserError, match="is running here"), locks.exclusive_lock(checkout):
        pass
    child.kill()
    child.wait()
    with locks.exclusive_lock(checkout):
        pass


def test_try_lock_and_is_locked_do_not_wait(checkout):
    path = checkout / "folder" / "lock"
    assert not locks.is_locked(path)
    assert not path.parent.exists()
    with locks.try_lock(path) as first, locks.try_lock(path) as second:
        assert first is not None
        assert second is None
        assert locks.is_locked(path)
    assert not locks.is_locked(path)


def test_after_waiting_for_a_file_that_its_holder_removed_the_new_file_is_locked(checkout):
    path, order = checkout / "turn", []

    def second():
        with locks.wait_for_lock(path, lambda: order.append("waiting")):
            order.append(locks.is_locked(path))

    with locks.wait_for_lock(path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.3)
        path.unlink()
    thread.join()
    assert order == ["waiting", True]

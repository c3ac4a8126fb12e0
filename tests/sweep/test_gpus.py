"""Real locks between real processes; the GPUs are only numbers."""

import select
import subprocess
import sys

import pytest

from tunetrail import UserError
from tunetrail.sweep import gpus

HOLD = """
import sys, time
from pathlib import Path
from tunetrail.sweep import gpus
gpus._SECONDS_BETWEEN_TRIES = 0.05
with gpus.lock(int(sys.argv[2]), "CUDA_VISIBLE_DEVICES", sys.argv[3].split(","), Path(sys.argv[1])) as (environment, _):
    print(environment["CUDA_VISIBLE_DEVICES"], flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def job(tmp_path):
    """Start a process that reserves GPUs until it reads a line; its first line names them."""
    started = []

    def start(count=1, among="0,1"):
        words = [sys.executable, "-c", HOLD, str(tmp_path / "shared" / "devices"), str(count), among]
        started.append(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def still_waits(process):
    """Return whether the process still has no GPU after several attempts."""
    return not select.select([process.stdout], [], [], 1.0)[0] and process.poll() is None


def test_jobs_side_by_side_get_different_gpus_and_the_third_waits_for_one(job):
    first, second = job(), job()
    devices = [process.stdout.readline().strip() for process in (first, second)]
    assert sorted(devices) == ["0", "1"]
    third = job()
    assert still_waits(third)
    first.stdin.write("\n")
    first.stdin.flush()
    assert third.stdout.readline().strip() == devices[0]
    assert first.wait() == 0


def test_a_job_that_is_killed_frees_its_gpu(job):
    first = job(2)
    assert first.stdout.readline().strip() == "0,1"
    second = job(2, "1,0")
    assert still_waits(second)
    first.kill()
    assert second.stdout.readline().strip() == "1,0"


def test_a_job_that_needs_two_gpus_takes_none_while_only_one_is_free(job):
    first = job(among="0")
    assert first.stdout.readline().strip() == "0"
    assert still_waits(job(2))
    third = job(among="0,1")
    assert third.stdout.readline().strip() == "1"


def test_asking_for_more_gpus_than_the_machine_has_is_an_error_with_both_numbers(tmp_path):
    with (
        pytest.raises(UserError, match=r"num_processes=3 GPUs, and this machine has 2 \(CUDA_VISIBLE_DEVICES\)"),
        gpus.lock(3, "CUDA_VISIBLE_DEVICES", ["0", "1"], tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("value", "devices"),
    [("2,3", ["2", "3"]), ("1, 0", ["1", "0"]), ("", []), ("-1", []), ("GPU-8f6c", ["GPU-8f6c"])],
)
def test_the_gpus_are_those_visible_to_this_process(monkeypatch, value, devices):
    """-1 hides them all."""
    monkeypatch.setattr("torch.version.hip", None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert gpus.visible() == ("CUDA_VISIBLE_DEVICES", devices)


def test_all_gpus_are_visible_without_the_variable_and_amd_has_its_own(monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.version.hip", None)
    assert gpus.visible() == ("CUDA_VISIBLE_DEVICES", ["0", "1"])
    monkeypatch.setattr("torch.version.hip", "6.2")
    assert gpus.visible() == ("HIP_VISIBLE_DEVICES", ["0", "1"])


def test_a_job_reserves_no_gpu_on_the_cpu_or_on_a_machine_without_one(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.version.hip", None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    with gpus.reserve({"num_processes": 1, "cpu": True}, tmp_path) as reserved:
        assert reserved == ({}, [])
    with gpus.reserve({"num_processes": 1}, tmp_path) as first, gpus.reserve({}, tmp_path) as second:
        assert [first[0], second[0]] == [{"CUDA_VISIBLE_DEVICES": "5"}, {"CUDA_VISIBLE_DEVICES": "7"}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with gpus.reserve({}, tmp_path) as reserved:
        assert reserved == ({}, [])

import os
import platform
import tempfile

import psutil
import pytest

from tunetrail import machine
from tunetrail.plan.estimate import hardware


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Put a driver's tool on PATH that does what the script says."""

    def add(name, script):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    return add


def test_the_processor_is_named_and_pythons_version(monkeypatch):
    found = machine.tags()
    assert found["versions.python"] == platform.python_version()
    count, _, name = found["hardware.cpu"].partition(" x ")
    assert int(count) > 0
    assert name


def test_gpus_are_what_their_driver_lists(tool):
    tool(
        "nvidia-smi",
        '[ "$1" = --query-gpu=name,memory.total ] && printf "NVIDIA H200, 143771 MiB\\nNVIDIA H200, 143771 MiB\\n"',
    )
    assert machine.tags()["hardware.gpu"] == "NVIDIA H200, 143771 MiB\nNVIDIA H200, 143771 MiB"


def test_a_drivers_tool_that_finds_no_driver_stops_no_run(tool):
    tool("nvidia-smi", "echo NVIDIA-SMI has failed because it cannot communicate with the NVIDIA driver; exit 9")
    tool("rocm-smi", "exit 2")
    found = machine.tags()
    assert "hardware.gpu" not in found
    assert found["hardware.cpu"]


def test_a_user_that_the_system_does_not_list_has_a_name_and_a_home_of_its_own(tmp_path, monkeypatch):
    nobody = 1_234_567
    name = f"tunetrail-{nobody}"
    assert machine.account() == {}
    monkeypatch.setattr(os, "getuid", lambda: nobody)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("USER", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert machine.account() == {"USER": name}
    monkeypatch.setenv("USER", "ann")
    assert machine.account() == {"USER": "ann"}
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    (tmp_path / name).mkdir()  # made by the one who really runs this, and so another user's
    given = machine.account()
    assert given["USER"] == "ann"
    assert given["HOME"].startswith(f"{tmp_path / name}-")
    assert os.access(given["HOME"], os.W_OK)
    if os.geteuid() == 0:  # only root gives folders away
        os.chown(tmp_path / name, nobody, -1)
        assert machine.account()["HOME"] == str(tmp_path / name)


def planned(device=None, cpu=True, otherwise="mi300x"):
    return machine.device({"plan": {"device": device, "default_device": otherwise}, "accelerate": {"cpu": cpu}})


def test_a_plan_is_for_the_device_that_is_named_or_for_this_machine():
    named, origin = planned("mi300x")
    assert (named.name, origin) == ("mi300x", "plan.device")
    here, origin = planned()
    assert (here.name, origin) == ("cpu", "this machine")
    assert here.memory == psutil.virtual_memory().total


def test_without_a_gpu_the_default_of_the_hardware_is_taken_and_it_is_said(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert planned(cpu=False) == (hardware.named("mi300x"), "no GPU here; plan.device names another")
    assert planned("CPU", cpu=False)[0].name == "cpu"


@pytest.mark.parametrize(
    ("program", "answer", "name", "like"),
    [
        ("nvidia-smi", "NVIDIA GeForce RTX 3090, 24576 MiB", "NVIDIA GeForce RTX 3090", "rtx_4090"),
        (
            "rocm-smi",
            '{"card0": {"Card Series": "Radeon 7900", "VRAM Total Memory (B)": "25753026560"}}',
            "Radeon 7900",
            "mi250",
        ),
    ],
)
def test_a_gpu_that_is_not_known_has_its_own_memory_and_the_speeds_of_a_slow_one(tool, program, answer, name, like):
    tool(program, f"echo '{answer}'")
    device, origin = planned(cpu=False)
    assert (device.name, origin) == (name, "this machine")
    assert 20e9 < device.memory < 30e9
    assert (device.flops, device.maker) == (hardware.named(like).flops, hardware.named(like).maker)
    assert f"as {like}" in device.mfu_source


@pytest.mark.parametrize(
    ("program", "answer"), [("nvidia-smi", "NVIDIA GB10, [N/A]"), ("rocm-smi", "no json"), ("rocm-smi", "[]")]
)
def test_an_answer_without_a_memory_is_as_good_as_none(tool, program, answer):
    tool(program, f"echo '{answer}'")
    assert planned(cpu=False)[1].startswith("no GPU here")


@pytest.mark.parametrize(
    ("program", "answer", "name", "memory"),
    [
        ("nvidia-smi", "NVIDIA H200, 143771 MiB", "h200", 143771 * 2**20),
        (
            "rocm-smi",
            '{"card0": {"Card Series": "MI300X", "VRAM Total Memory (B)": "206141652992"}}',
            "mi300x",
            206141652992,
        ),
    ],
)
def test_the_drivers_own_tool_says_which_gpu_is_here(tool, program, answer, name, memory):
    """The tools are their vendors' and not here; an H200 has answered so, ROCm's answer is after its documentation."""
    tool(program, f"echo '{answer}'")
    device, origin = planned(cpu=False)
    assert (device.name, device.memory, origin) == (name, memory, "this machine")

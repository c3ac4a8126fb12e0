import platform

import pytest

from tunetrail import machine


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

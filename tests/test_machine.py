import os
import tempfile

from tunetrail import machine


def test_the_processors_are_counted_and_named():
    count, _, name = machine.hardware()["cpu"].partition(" x ")
    assert int(count) > 0
    assert name


def test_the_gpus_are_those_that_the_driver_lists(tool):
    tool(
        "nvidia-smi",
        '[ "$1" = --query-gpu=name,memory.total ] && printf "NVIDIA H200, 143771 MiB\\nNVIDIA H200, 143771 MiB\\n"',
    )
    assert machine.hardware()["gpu"] == "NVIDIA H200, 143771 MiB\nNVIDIA H200, 143771 MiB"


def test_a_drivers_tool_without_a_driver_is_ignored(tool):
    tool("nvidia-smi", "echo NVIDIA-SMI has failed because it cannot communicate with the NVIDIA driver; exit 9")
    tool("rocm-smi", "exit 2")
    hardware = machine.hardware()
    assert "gpu" not in hardware
    assert hardware["cpu"]


def test_an_unlisted_user_gets_a_name_and_a_home(tmp_path, monkeypatch):
    nobody = 1_234_567
    name = f"tunetrail-{nobody}"
    assert machine.account_variables() == {}
    monkeypatch.setattr(os, "getuid", lambda: nobody)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("USER", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert machine.account_variables() == {"USER": name}
    monkeypatch.setenv("USER", "ann")
    assert machine.account_variables() == {"USER": "ann"}
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    (tmp_path / name).mkdir()  # made by the real user, and so not by `nobody`
    variables = machine.account_variables()
    assert variables["USER"] == "ann"
    assert variables["HOME"].startswith(f"{tmp_path / name}-")
    assert os.access(variables["HOME"], os.W_OK)
    if os.geteuid() == 0:  # only root gives folders away
        os.chown(tmp_path / name, nobody, -1)
        assert machine.account_variables()["HOME"] == str(tmp_path / name)

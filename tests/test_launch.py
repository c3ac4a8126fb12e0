import os
import signal
import subprocess
import sys
import time

import pytest

from tunetrail import UserError, launch

BARS = """
import sys, time
print("said this")
for i in range(4):
    sys.stderr.write(f"\\rPacking: {25 * (i + 1):3d}%|##   | {i + 1}/4 [00:0{i}<00:0{4 - i}, 1.00s/it]")
sys.stderr.write("\\n")
print("and that")
"""


def test_output_goes_to_the_log_and_progress_to_the_screen(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(launch, "_SECONDS_BETWEEN_LINES", -1)
    launch.tool([sys.executable, "-c", BARS], tmp_path / "log", "train", offline=True)
    assert (tmp_path / "log").read_text().splitlines() == ["said this", "and that"]
    screen = capsys.readouterr()
    assert screen.err.splitlines()[-1] == "train, Packing: 4/4, 00:03 gone, 00:01 left, 1.00s/it"
    assert "\r" not in screen.err
    assert str(tmp_path / "log") in screen.out


def test_where_nobody_watches_a_quick_bar_prints_nothing(tmp_path, capsys):
    launch.tool([sys.executable, "-c", BARS], tmp_path / "log", "train", offline=True)
    assert capsys.readouterr().err == ""


def test_a_failure_shows_the_end_of_the_log(tmp_path):
    script = "print('before'); raise SystemExit('the reason')"
    with pytest.raises(UserError, match=r"train failed with code 1[\s\S]*the reason"):
        launch.tool([sys.executable, "-c", script], tmp_path / "log", "train", offline=True)


def test_telemetry_is_off_unless_the_person_turned_it_on(monkeypatch):
    for name in launch.TELEMETRY_OFF:
        monkeypatch.delenv(name, raising=False)
    assert launch.environment().items() >= launch.TELEMETRY_OFF.items()
    monkeypatch.setenv("AXOLOTL_DO_NOT_TRACK", "0")
    assert launch.environment()["AXOLOTL_DO_NOT_TRACK"] == "0"


def test_a_model_that_is_here_needs_no_hub(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert launch.environment(offline=True)["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in launch.environment()


def test_a_stopped_run_leaves_no_process_behind(tmp_path):
    """SIGTERM to the runner ends the grandchild, as it would end a trainer."""
    ignores = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    grandchild = ignores + f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    runner = f"""
import signal, sys
from tunetrail import launch
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
launch.run([sys.executable, "-c", {child!r}], held=1)
"""
    process = subprocess.Popen([sys.executable, "-c", runner])
    deadline = time.monotonic() + 30
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    pid = int((tmp_path / "pid").read_text())
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143
    while time.monotonic() < deadline and os.path.exists(f"/proc/{pid}"):
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{pid}")


def test_accelerate_gets_its_own_options(tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(launch, "tool", lambda command, log, label, offline: called.append(command))
    options = {"cpu": True, "multi_gpu": False, "num_processes": 2, "main_process_port": None}
    launch.accelerated(["-m", "axolotl.cli.train", "a.yaml"], options, tmp_path / "log", "train", offline=True)
    (command,) = called
    assert command[1:] == [
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "-m",
        "axolotl.cli.train",
        "a.yaml",
    ]

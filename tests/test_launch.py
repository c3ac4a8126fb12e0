import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.checkouts import begin
from tests.started import DEAF, ends, wait_for_ids
from tunetrail import UserError, events, launch, telemetry

BARS = """
import sys, time
print("said this")
for i in range(4):
    sys.stderr.write(f"\\rPacking: {25 * (i + 1):3d}%|##   | {i + 1}/4 [00:0{i}<00:0{4 - i}, 1.00s/it]")
sys.stderr.write("\\n")
print("and that")
"""


def test_output_goes_to_the_log_and_progress_to_the_screen(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(events, "_SECONDS_BETWEEN_LINES", -1)
    launch.run_tool([sys.executable, "-c", BARS], tmp_path / "log", "train", offline=True)
    assert (tmp_path / "log").read_text().splitlines() == ["said this", "and that"]
    screen = capsys.readouterr()
    assert screen.err.splitlines()[-1] == "train, Packing: 4/4, 00:03 elapsed, 00:01 left, 1.00s/it"
    assert "\r" not in screen.err
    assert str(tmp_path / "log") in screen.out


def test_verbose_shows_what_the_tool_prints_and_quiet_no_progress(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(events, "_SECONDS_BETWEEN_LINES", -1)
    monkeypatch.setenv(launch.VERBOSE, "1")
    monkeypatch.setenv(events.QUIET, "1")
    launch.run_tool([sys.executable, "-c", BARS], tmp_path / "log", "train", offline=True)
    assert (tmp_path / "log").read_text().splitlines() == ["said this", "and that"]
    screen = capsys.readouterr()
    assert screen.out.splitlines()[-2:] == ["train: said this", "train: and that"]
    assert screen.err == ""


def test_without_a_terminal_a_quick_bar_prints_nothing(tmp_path, capsys):
    launch.run_tool([sys.executable, "-c", BARS], tmp_path / "log", "train", offline=True)
    assert capsys.readouterr().err == ""


STEPS = """
import sys
bars = ["Tokenizing: 100%|#| 9/9 [00:10<00:00, 900.00it/s]", " 50%|#| 4/8 [00:36<00:21, 8.00it/s]"]
bars += [" 60%|#| 5/8 [00:40<00:21, abc]", " 70%|#| 6/8 [::<?, ?it/s]", " 70%|#| 6/8 [1::3<00:21, 1.2.3it/s]"]
bars += [" 50%|#| 1/2 [00:02<00:02, 1.00it/s]", "100%|#| 8/8 [1:00:36<00:00, 20.00s/it]"]
print("\\r".join(bars), file=sys.stderr)
"""


def test_only_the_steps_of_the_stages_own_bar_are_events(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(events, "_SECONDS_BETWEEN_EVENTS", 0)
    launch.run_tool([sys.executable, "-c", STEPS], tmp_path / "log", "train", offline=True)
    lines = [json.loads(line) for line in events.FILE.read_text().splitlines()]
    assert [(line["stage"], line["done"], line["total"], line["rate"]) for line in lines] == [
        ("train", 4, 8, 8.0),
        ("train", 5, 8, None),
        ("train", 6, 8, 1.2),
        ("train", 8, 8, 0.05),
    ]


def test_a_failure_shows_the_end_of_the_log(tmp_path):
    script = "print('before'); raise SystemExit('the reason')"
    with pytest.raises(UserError, match=r"train failed with code 1[\s\S]*the reason"):
        launch.run_tool([sys.executable, "-c", script], tmp_path / "log", "train", offline=True)


def test_telemetry_is_off_unless_the_user_turned_it_on(monkeypatch):
    for name in telemetry.OFF:
        monkeypatch.delenv(name, raising=False)
    assert launch.environment().items() >= telemetry.OFF.items()
    monkeypatch.setenv("AXOLOTL_DO_NOT_TRACK", "0")
    assert launch.environment()["AXOLOTL_DO_NOT_TRACK"] == "0"


@pytest.fixture
def environ():
    """Restore the environment after the test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_a_child_process_uses_the_git_repository_of_its_folder(tmp_path, monkeypatch, environ):
    """In a hook, where git sets these variables, and in a shell where somebody set GIT_DIR."""
    for name in ("other", "own"):
        subprocess.run(["git", "init", "-q", str(tmp_path / name)], check=True)
    listed = subprocess.run(["git", "rev-parse", "--local-env-vars"], capture_output=True, text=True).stdout.split()
    settings = {"GIT_CONFIG", "GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT"}
    assert set(listed) - settings <= set(launch.GIT_VARIABLES)
    for name in launch.GIT_VARIABLES:
        monkeypatch.setenv(name, str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "a.b")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "kept")
    git = ["git", "-C", str(tmp_path / "own")]
    assert launch.output([*git, "rev-parse", "--absolute-git-dir"]) == str(tmp_path / "own" / ".git")
    assert launch.output([*git, "config", "a.b"]) == "kept"
    other = {"GIT_DIR": str(tmp_path / "other" / ".git")}
    assert launch.output([*git, "rev-parse", "--git-dir"], other) == other["GIT_DIR"]  # set explicitly
    launch.clean_environment()
    assert not set(launch.GIT_VARIABLES) & set(os.environ)


STANDING_IN = ("datasets", "json", "torch", "random", "mlflow", "yaml", "sitecustomize", "transformers/__init__")


def test_no_child_process_imports_a_module_from_the_current_folder(tmp_path, monkeypatch, environ):
    for name in STANDING_IN:
        (tmp_path / f"{name}.py").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text("raise SystemExit(f'{__file__} was imported')")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "mine.py").write_text("mine = 1")
    monkeypatch.chdir(tmp_path)
    code = [
        sys.executable,
        "-c",
        "import json, random, yaml, mine; from importlib.util import find_spec as f; print(f('datasets'))",
    ]
    module = [sys.executable, "-m", "json.tool", "--help"]
    for entry in ("", os.curdir, "./"):
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([entry, str(tmp_path / "kept"), entry]))
        assert str(tmp_path) not in launch.output(code)
        assert "json.tool" in launch.output(module)
        assert launch.environment()["PYTHONPATH"] == str(tmp_path / "kept")
    assert launch.python_path(tmp_path) == {"PYTHONPATH": f"{tmp_path}{os.pathsep}{tmp_path / 'kept'}"}
    monkeypatch.setenv("PYTHONPATH", os.curdir)
    assert "PYTHONPATH" not in launch.environment()
    launch.clean_environment()
    assert (os.environ.get("PYTHONPATH"), os.environ["PYTHONSAFEPATH"]) == (None, "1")


def test_the_current_folder_in_pythonpath_is_removed_from_this_process_too(tmp_path):
    (tmp_path / "datasets.py").touch()
    code = "import sys; from tunetrail import launch; launch.clean_environment(); print(sys.path)"
    for entry in (os.pathsep, ".", "./"):
        path = os.pathsep.join([entry, str(Path(launch.__file__).parents[1])])
        words = [sys.executable, "-P", "-c", code]
        done = subprocess.run(words, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
        assert str(tmp_path) not in done.stdout, entry
        assert str(Path(launch.__file__).parents[1]) in done.stdout


@pytest.mark.parametrize("command", [["-m", "tunetrail"], ["-P", "-m", "tunetrail"]])
def test_the_command_itself_imports_no_module_from_the_current_folder(tmp_path, command):
    for name in ("click", "json", "shlex", "typing", "torch", "yaml", "datasets"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(f'{__file__} was imported')")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    environment["PYTHONPATH"] = str(Path(launch.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, *command, "score", "--help"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_local_model_needs_no_hub(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert launch.environment(offline=True)["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in launch.environment()


def test_a_stopped_run_leaves_no_process_behind(tmp_path):
    """SIGTERM to the runner ends the grandchild, as it ends a trainer."""
    ignores = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    grandchild = ignores + f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    runner = f"""
import signal, sys
from tunetrail import launch
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
launch.run([sys.executable, "-c", {child!r}], fds=[1], patience=1)
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
    monkeypatch.setattr(launch, "run_tool", lambda command, log, label, offline: called.append(command))
    options = {"cpu": True, "multi_gpu": False, "num_processes": 2, "main_process_port": None}
    launch.accelerate_launch(["-m", "axolotl.cli.train", "a.yaml"], options, tmp_path / "log", "train", offline=True)
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


def test_a_command_runs_in_a_folder_with_variables_and_appends_to_a_log(tmp_path, capfd):
    log = tmp_path / "job.log"
    log.write_text("earlier\n")
    script = "import os, sys; print(os.getcwd(), os.environ['MORE']); print(sys.stdin.read() == '', file=sys.stderr)"
    more = {"MORE": "given", "PYTHONUNBUFFERED": "1"}
    with (tmp_path / "held").open("w") as file:
        assert launch.run([sys.executable, "-c", script], [file.fileno()], tmp_path, more, log) == 0
        assert launch.run([sys.executable, "-c", "raise SystemExit(3)"], [file.fileno()], log=log) == 3
    assert log.read_text() == f"earlier\n{tmp_path} given\nTrue\n"
    assert capfd.readouterr() == ("", "")


def test_without_a_log_a_command_writes_to_the_screen(tmp_path, capfd):
    with (tmp_path / "held").open("w") as file:
        assert launch.run([sys.executable, "-c", "print('said')"], [file.fileno()]) == 0
    assert capfd.readouterr().out == "said\n"


def test_the_return_code_of_a_killed_command_is_its_negative_signal(tmp_path):
    with (tmp_path / "held").open("w") as file:
        assert launch.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], [file.fileno()]) == -9


def test_a_stopped_run_with_a_log_leaves_no_process_behind(tmp_path):
    """Ctrl-C here ends the command's children, although it has a session of its own."""
    child = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    runner = f"""
import pathlib
from tunetrail import launch
with open({str(tmp_path / "held")!r}, "w") as held:
    launch.run(["sh", "-c", "{sys.executable} -c \\"$CHILD\\"; true"], [held.fileno()], variables={{"CHILD": {child!r}}},
               log=pathlib.Path({str(tmp_path / "log")!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", runner], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    pid = int((tmp_path / "pid").read_text())
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) != 0
    while time.monotonic() < deadline and os.path.exists(f"/proc/{pid}"):
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{pid}")


def test_a_second_signal_also_leaves_no_process_behind(tmp_path):
    """The second signal arrives while the first still waits for the command."""
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {DEAF!r}, {str(tmp_path / 'deaf')!r}])"
    runner = f"""
import signal, sys
from tunetrail import launch
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
launch.run([sys.executable, "-c", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + {child!r}], fds=[1])
"""
    process = subprocess.Popen([sys.executable, "-c", runner])
    (deaf,) = wait_for_ids(tmp_path / "deaf")
    process.send_signal(signal.SIGTERM)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=15) == 143
    assert ends(deaf)


def test_ctrl_c_just_as_the_command_ends_is_still_a_keyboard_interrupt(tmp_path, monkeypatch):
    """Python waits a quarter of a second for the child before it raises; by then its process group may be gone."""

    def interrupted(process, timeout=None):
        wait(process)
        raise KeyboardInterrupt

    wait = subprocess.Popen.wait
    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with (tmp_path / "held").open("w") as file, pytest.raises(KeyboardInterrupt):
        launch.run([sys.executable, "-c", ""], [file.fileno()])


def test_output_is_stripped():
    script = "import os; print(f\"\\n {os.environ['MORE']} größer \\n\")"
    assert launch.output([sys.executable, "-c", script], {"MORE": "given"}) == "given größer"


def test_the_error_of_a_failed_command_is_its_own_and_of_a_missing_one_says_so():
    with pytest.raises(UserError, match=r"-c .*failed: the reason$"):
        launch.output([sys.executable, "-c", "raise SystemExit('the reason')"])
    with pytest.raises(UserError, match="no-such-tool is not installed"):
        launch.output(["no-such-tool"])


def test_invalid_utf8_in_a_commands_output_is_replaced():
    assert launch.output([sys.executable, "-c", "import sys; sys.stdout.buffer.write(b'gr\\xf6sse')"]).startswith("gr")


def test_a_checkouts_own_code_is_run_whichever_environment_the_command_is_from(tmp_path, monkeypatch):
    begin(tmp_path, monkeypatch)
    package = tmp_path / "src" / "tunetrail"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import sys; print('its own code:', sys.argv[1:], sys.flags.safe_path)")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    words = ["run", "train.learning_rate=1e-3", "name=a b"]
    done = subprocess.run([sys.executable, "-m", "tunetrail", *words], env=environment, capture_output=True, text=True)
    assert done.stdout == f"its own code: {words} True\n"
    assert f"the code of {tmp_path / 'src'} is run instead" in done.stderr
    other = environment | {"PYTHONPATH": os.pathsep.join([str(Path(launch.__file__).parents[1]), str(tmp_path / "src")])}
    done = subprocess.run([sys.executable, "-m", "tunetrail", *words], env=other, capture_output=True, text=True)
    assert done.stdout == f"its own code: {words} True\n"
    (package / "__init__.py").unlink()  # not the package: a small project of a test, or of a person who installed this one
    done = subprocess.run([sys.executable, "-m", "tunetrail", "plan"], env=environment, capture_output=True, text=True)
    assert "its own code" not in done.stdout

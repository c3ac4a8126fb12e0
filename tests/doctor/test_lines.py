"""The command as a person types it, in a checkout of its own; torch is this machine's, or a package that stands for it."""

import json
import os
import pty
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.conftest import ROOT
from tunetrail import launch, machine
from tunetrail.doctor import lines
from tunetrail.doctor.lines import Asked, Line

COMMAND = [sys.executable, "-c", "from tunetrail.cli.doctor import command; command(prog_name='tunetrail doctor')"]
OF_A_PERSON = re.compile(r"(?i)^(HF_|MLFLOW_|AWS_|NLTK_|TRANSFORMERS_)|_proxy$|TRACK$|ANALYTICS$")
HERE = machine.build().kind
ELSEWHERE = "rocm" if HERE == "cpu" else "cpu"


@pytest.fixture
def checkout(tmp_path):
    """A checkout with this project's conf/, lock files and pyproject.toml, committed, and DVC in it."""
    folder = tmp_path / "checkout"
    for name in ("conf", "requirements"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("dvc.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / ".dvc").mkdir()
    (folder / ".dvc" / "config").touch()
    for words in (["init", "-q"], ["add", "--all"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "start"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


def environment(folder, **more):
    """A person's without settings, the hub switched off and its cache empty."""
    kept = {name: value for name, value in os.environ.items() if not OF_A_PERSON.search(name)}
    own = {"HF_HOME": str(folder.parent / "hub"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT / "src")}
    return kept | own | more


def run(folder, *words, **more):
    return subprocess.run([*COMMAND, *words], cwd=folder, env=environment(folder, **more), capture_output=True, text=True)


def checked(done):
    """The JSON of a run, by check."""
    return {line.pop("check"): line for line in json.loads(done.stdout)}


@pytest.fixture
def line(checkout):
    """The line of one check, in this process."""
    return lambda name: lines.CHECKS[name](Asked(checkout))


def standing_for_torch(folder, **version):
    """A folder for PYTHONPATH with a package that has torch's version.py and nothing else."""
    (folder / "torch").mkdir(parents=True)
    (folder / "torch" / "__init__.py").touch()
    given = {"__version__": "2.13.0+of.somebody", "cuda": None, "hip": None} | version
    (folder / "torch" / "version.py").write_text("".join(f"{name} = {value!r}\n" for name, value in given.items()))
    return os.pathsep.join([str(folder), str(ROOT / "src")])


def test_a_machine_that_can_run_the_demo_has_no_red_line_and_every_line_is_told(checkout):
    done = run(checkout, "--json")
    found = checked(done)
    assert list(found) == [
        *("python", "git", "lock", "tools", "punkt_tab", "disk", "telemetry", "torch", "devices", "attention"),
        *("hub", "tokens", "tracking", "remote"),
    ]
    assert (done.returncode, done.stderr) == (0, "")
    assert {line["mark"] for line in found.values()} <= {"ok", "warn"}
    assert all(line["found"] for line in found.values())
    assert all(line["fix"] for line in found.values() if line["mark"] == "warn")
    assert f"mlflow {lines._version('mlflow')}," in found["tools"]["found"]


def test_the_table_has_a_line_a_check_and_ends_with_what_to_do_about_those_that_are_not_well(checkout):
    done = run(checkout, "tokens", "remote", "telemetry")
    told, _, fixes = done.stdout.partition("\nwhat to do:\n")
    assert re.findall(r"^(\w+) +(\w+)", told, re.MULTILINE) == [("warn", "tokens"), ("warn", "remote"), ("ok", "telemetry")]
    assert [line.split()[0] for line in fixes.splitlines()] == ["tokens", "remote"]
    assert "dvc remote add --default storage" in fixes
    assert max(map(len, told.splitlines())) <= 120


def test_what_mends_two_checks_is_said_once(checkout):
    fixes = run(checkout, "torch", "devices", "--expect", "rocm").stdout.partition("\nwhat to do:\n")[2].splitlines()
    assert [line.split("  ")[1] for line in fixes] == ["torch, devices"]


def test_marks_are_coloured_on_a_terminal_alone(checkout):
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        command = [*COMMAND, "telemetry"]
        subprocess.run(command, cwd=checkout, env=environment(checkout), stdin=theirs, stdout=theirs, check=True)
        os.close(theirs)
        assert b"\x1b[32mok  \x1b[0m  telemetry" in screen.read(4096)
    assert "\x1b" not in run(checkout, "telemetry").stdout


def test_a_check_that_is_not_there_is_refused_with_those_that_are(checkout):
    done = run(checkout, "trackign")
    assert done.returncode == 2
    assert "'tracking'" in done.stderr


def test_the_build_that_is_here_may_be_expected_and_no_other(checkout):
    assert checked(run(checkout, "torch", "--json", "--expect", HERE))["torch"]["mark"] == "ok"
    done = run(checkout, "torch", "--expect", ELSEWHERE)
    assert done.returncode == 1
    assert re.match(rf"fail  torch  .*; {ELSEWHERE} is expected", done.stdout)


@pytest.mark.skipif(HERE != "cpu", reason="torch is built for a GPU here")
def test_a_gpu_that_is_expected_and_not_here_is_a_red_line(checkout):
    done = run(checkout, "--expect", "cuda", "--json")
    assert done.returncode == 1
    assert [name for name, line in checked(done).items() if line["mark"] == "fail"] == ["torch", "devices"]


@pytest.mark.parametrize(
    ("version", "kind", "told"),
    [
        ({"cuda": "13.0"}, "cuda", "2.13.0+of.somebody, built for CUDA 13.0"),
        ({"hip": "7.15.2"}, "rocm", "2.13.0+of.somebody, built for ROCm (HIP 7.15.2)"),
        ({}, "cpu", "2.13.0+of.somebody, built for CPUs"),
    ],
)
def test_a_build_is_known_by_torchs_version_file(checkout, tmp_path, version, kind, told):
    path = standing_for_torch(tmp_path / "other", **version)
    done = run(checkout, "torch", "--expect", kind, PYTHONPATH=path)
    assert (done.returncode, done.stdout) == (0, f"ok    torch  {told}\n")


def test_a_package_that_is_not_the_locks_is_yellow_and_named_and_one_that_the_project_cannot_use_is_red(checkout, line):
    lock, project = checkout / "requirements" / "default.txt", checkout / "pyproject.toml"
    assert line("lock").mark != "fail"
    lock.write_text("# pins\nmatplotlib==0.1\nno-such-package==1.0\npyyaml==0.1 ; python_version < '3'\n")
    found = line("lock")
    assert found.mark == "warn"
    assert found.found == (
        f"2 of 2 packages differ from requirements/default.txt: matplotlib {lines._version('matplotlib')} (==0.1), "
        "no-such-package missing (==1.0)"
    )
    assert found.fix.endswith("uv pip install --requirement requirements/default.txt")
    project.write_text(re.sub(r"mlflow==[\d.]+", "mlflow==0.1", project.read_text()))
    assert line("lock").mark == "fail"
    assert line("lock").found.startswith(f"not what pyproject.toml asks for: mlflow {lines._version('mlflow')} (==0.1)")


def test_many_packages_that_differ_are_counted_and_the_first_named(checkout, line):
    (checkout / "requirements" / "default.txt").write_text("".join(f"no-such-{number}==1\n" for number in range(9)))
    found = line("lock").found
    assert found.startswith("9 of 9 packages differ")
    assert found.endswith("no-such-4 missing (==1) and 4 more")


def test_amds_torch_goes_with_its_own_lock_which_is_installed_without_resolving(checkout, line, monkeypatch):
    (checkout / "requirements" / "rocm.txt").write_text("no-such-package==1.0\n")
    monkeypatch.setattr(machine, "build", lambda: machine.Build("rocm", ""))
    assert line("lock").found.startswith("1 of 1 packages differ from requirements/rocm.txt")
    assert line("lock").fix.endswith("uv pip install --no-deps --requirement requirements/rocm.txt")


def test_a_tool_or_a_torch_that_is_not_installed_is_red_with_the_command_that_brings_it(line, monkeypatch):
    monkeypatch.setattr(lines, "TOOLS", ("mlflow", "no-such-tool"))
    monkeypatch.setattr(machine, "build", lambda: None)
    assert line("tools").mark == line("torch").mark == "fail"
    assert line("tools").found.endswith("no-such-tool missing")
    assert line("torch").fix == lines.BRINGS_TORCH["cpu"]


def test_a_python_that_the_project_does_not_take_is_red(checkout, line):
    assert line("python").mark == "ok"
    project = checkout / "pyproject.toml"
    project.write_text(re.sub(r'requires-python = ".*"', 'requires-python = ">=3.99"', project.read_text()))
    assert (line("python").mark, line("python").fix) == ("fail", "make PYTHON=python3.12 setup")
    assert line("python").found.endswith("asks for >=3.99")


def test_a_checkout_without_a_commit_is_red(checkout, line):
    assert line("git").mark == "ok"
    shutil.rmtree(checkout / ".git")
    subprocess.run(["git", "init", "-q"], cwd=checkout, check=True)
    assert line("git").mark == "fail"
    asks = line("git").fix.removesuffix(" says why")
    assert "does not have any commits" in subprocess.run(asks, shell=True, capture_output=True, text=True).stderr


def test_telemetry_that_a_person_switched_on_is_yellow_and_named(line, monkeypatch):
    for name in launch.TELEMETRY_OFF:
        monkeypatch.delenv(name, raising=False)
    assert line("telemetry").mark == "ok"
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    told = "telemetry of MLflow is on by the environment"
    assert line("telemetry") == Line("warn", told, "unset MLFLOW_DISABLE_TELEMETRY")


def test_punkt_tab_is_found_where_nltk_looks_for_it(line, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NLTK_DATA", f"/nowhere{os.pathsep}{tmp_path / 'nltk'}")
    if line("punkt_tab").mark == "warn":  # unless the whole machine has it
        assert "nltk.downloader punkt_tab" in line("punkt_tab").fix
        assert f"in NLTK_DATA ({os.environ['NLTK_DATA']})" in line("punkt_tab").found
    (tmp_path / "nltk" / "tokenizers" / "punkt_tab").mkdir(parents=True)
    assert line("punkt_tab") == Line("ok", str(tmp_path / "nltk"))


@pytest.mark.stage
def test_the_folders_of_nltk_are_those_that_nltk_has(monkeypatch, tmp_path):
    monkeypatch.setenv("NLTK_DATA", f"~/mine{os.pathsep}{tmp_path}")
    script = "import nltk; print(*nltk.data.path, sep='\\n')"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split("\n")
    assert [str(folder) for folder in lines.nltk_folders()] == found[:-1]


@pytest.mark.parametrize(("little", "gib", "mark"), [(2**60, 1, "warn"), (2**60, 2**60, "fail"), (1, 1, "ok")])
def test_little_room_is_yellow_and_hardly_any_red(monkeypatch, tmp_path, little, gib, mark):
    monkeypatch.setattr(lines, "_LITTLE", little)
    monkeypatch.setattr(lines, "GIB", gib)
    assert lines.disk(Asked(tmp_path)).mark == mark


def test_a_check_that_breaks_is_a_red_line_with_the_exceptions_name_and_nothing_of_its_message(checkout):
    def odd(_):
        raise LookupError("sesame")

    found = lines.examine({"odd": odd, "even": lambda _: Line("ok", "well")}, Asked(checkout))
    assert found["odd"].found.startswith("the check broke: LookupError in test_lines.py, line ")
    assert found["even"] == Line("ok", "well")
    (checkout / "pyproject.toml").write_text("sesame = = 1")
    done = run(checkout, "python", "telemetry")
    assert done.returncode == 1
    assert re.search(r"fail  python +the check broke: TOMLDecodeError in \w+.py, line \d+", done.stdout)
    assert "ok    telemetry" in done.stdout
    assert "sesame" not in done.stdout
    assert done.stderr == ""


def test_checks_run_at_once(checkout):
    together = threading.Barrier(8, timeout=20)

    def waits(_):
        together.wait()
        return Line("ok", "met")

    assert set(lines.examine({str(number): waits for number in range(8)}, Asked(checkout)).values()) == {Line("ok", "met")}


SECRETS = {
    "HF_TOKEN": "hf_Zyzzyva1",
    "MLFLOW_TRACKING_TOKEN": "Zyzzyva2",
    "MLFLOW_TRACKING_USERNAME": "Zyzzyva3",
    "MLFLOW_TRACKING_PASSWORD": "Zyzzyva4",
    "AWS_ACCESS_KEY_ID": "Zyzzyva5",
    "AWS_SECRET_ACCESS_KEY": "Zyzzyva6",
    "AWS_SESSION_TOKEN": "Zyzzyva7",
}


class Refuses(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500)
        self.end_headers()
        self.wfile.write(b"Zyzzyva8")

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def refusing():
    """The host and port of a server that answers 500."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    "shape",
    [
        "http://me:Zyzzyva@{}",
        "http://Zyzzyva@{}/Zyzzyva?key=Zyzzyva",
        "http://me:Zyz/Zyzzyva@{}",
        "http://me:Zyzzyva@word@{}",
        "http://me:Zyzzyva@[{}",
        "http://{}:Zyzzyva",
        "postgresql://me:Zyzzyva@{}/mlflow",
        "Zyzzyva@{}",
    ],
)
@pytest.mark.stage
def test_no_secret_is_ever_told(checkout, refusing, shape):
    url = shape.format(refusing)
    (checkout.parent / "hub").mkdir(exist_ok=True)
    (checkout.parent / "hub" / "token").write_text("hf_Zyzzyva9")
    config = f"[core]\n    remote = far\n['remote \"far\"']\n    url = {url.split('[')[0]}\n    password = Zyzzyva\n"
    (checkout / ".dvc" / "config.local").write_text(config)
    given = SECRETS | {"MLFLOW_TRACKING_URI": url, "HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0"}
    proxies = {
        "http_proxy": url,
        "HTTPS_PROXY": url,
        "MLFLOW_TRACKING_URI": f"http://{refusing}",
        "HF_ENDPOINT": "http://hub",
    }
    for words, more in (
        (["hub", "tokens", "tracking", "remote"], {}),
        (["hub", "tracking"], proxies),
        (["tracking", "--json"], {"MLFLOW_TRACKING_URI": f"sqlite:///x.db?key={url}"}),
    ):
        done = run(checkout, *words, **(given | more))
        assert all(word in done.stdout for word in words if word != "--json")
        assert "zyz" not in (done.stdout + done.stderr).lower()  # a host is told in small letters
        assert done.stderr == ""


def test_nothing_waits_long_for_a_network_that_does_not_answer(checkout):
    """Servers that take the connection and say nothing, for the hub and the tracking store at once."""
    started = time.monotonic()
    run(checkout, "telemetry")
    alone = time.monotonic() - started  # Python's own start, on this machine as busy as it is
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        done = run(checkout, "hub", "tracking", HF_HUB_OFFLINE="0", HF_ENDPOINT=url, MLFLOW_TRACKING_URI=url)
        spent = time.monotonic() - started
    assert done.stdout.count("no answer within 3 s") == 2
    assert spent - alone < 5.5

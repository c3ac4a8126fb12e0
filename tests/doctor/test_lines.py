"""The command as a user types it, in a checkout of its own."""

import importlib.metadata
import json
import os
import pty
import re
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.commands import tunetrail
from tests.conftest import ROOT
from tests.doctor.conftest import COMMAND, environment, run
from tunetrail import machine
from tunetrail.cli import doctor
from tunetrail.doctor import lines
from tunetrail.doctor.lines import Asked, Line

HERE = machine.torch_build().kind
ELSEWHERE = "rocm" if HERE == "cpu" else "cpu"


def checked(done):
    """Return the lines of the JSON output by check."""
    return {line.pop("check"): line for line in json.loads(done.stdout)}


def test_a_machine_that_can_run_the_demo_has_every_line_and_no_red_one(checkout):
    done = run(checkout, "--json")
    checks = checked(done)
    assert list(checks) == [
        *("python", "git", "lock", "tools", "punkt_tab", "disk", "telemetry", "torch", "devices", "attention"),
        *("hub", "tokens", "tracking", "remote"),
    ]
    assert (done.returncode, done.stderr) == (0, "")
    assert {line["mark"] for line in checks.values()} <= {"ok", "warn"}
    assert all(line["found"] for line in checks.values())
    assert all(line["fix"] for line in checks.values() if line["mark"] == "warn")
    assert f"mlflow {importlib.metadata.version('mlflow')}," in checks["tools"]["found"]


def test_the_docs_name_every_check_and_every_mark():
    page = (ROOT / "docs" / "doctor.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == [*doctor._CHECKS, *doctor._COLOURS]


def test_the_table_has_one_line_per_check_and_ends_with_the_fixes(checkout, without_settings):
    done = tunetrail(checkout, "doctor", "tokens", "remote", "telemetry")
    rows, _, fixes = done.stdout.partition("\nwhat to do:\n")
    assert re.findall(r"^(\w+) +(\w+)", rows, re.MULTILINE) == [("warn", "tokens"), ("warn", "remote"), ("ok", "telemetry")]
    assert [line.split()[0] for line in fixes.splitlines()] == ["tokens", "remote"]
    assert "dvc remote add --default storage" in fixes
    assert max(map(len, rows.splitlines())) <= 120


def test_a_fix_of_two_checks_is_printed_once(checkout):
    fixes = (
        tunetrail(checkout, "doctor", "torch", "devices", "--expect", "rocm")
        .stdout.partition("\nwhat to do:\n")[2]
        .splitlines()
    )
    assert [line.split("  ")[1] for line in fixes] == ["torch, devices"]


def test_marks_are_coloured_only_on_a_terminal(checkout):
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        command = [*COMMAND, "telemetry"]
        subprocess.run(command, cwd=checkout, env=environment(checkout), stdin=theirs, stdout=theirs, check=True)
        os.close(theirs)
        assert b"\x1b[32mok  \x1b[0m  telemetry" in screen.read(4096)
    assert "\x1b" not in run(checkout, "telemetry").stdout


def test_an_unknown_check_is_refused_with_the_known_ones(checkout):
    done = tunetrail(checkout, "doctor", "trackign")
    assert done.returncode == 2
    assert "'tracking'" in done.stderr


def test_only_the_installed_build_may_be_expected(checkout):
    assert checked(tunetrail(checkout, "doctor", "torch", "--json", "--expect", HERE))["torch"]["mark"] == "ok"
    done = tunetrail(checkout, "doctor", "torch", "--expect", ELSEWHERE)
    assert done.returncode == 1
    assert re.match(rf"fail  torch  .*; {ELSEWHERE} is expected", done.stdout)


@pytest.mark.skipif(HERE != "cpu", reason="torch is built for a GPU here")
def test_an_expected_gpu_that_is_missing_is_red(checkout):
    done = run(checkout, "--expect", "cuda", "--json")
    assert done.returncode == 1
    assert [name for name, line in checked(done).items() if line["mark"] == "fail"] == ["torch", "devices"]


def test_a_check_that_raises_is_a_red_line_with_the_exceptions_type_and_not_its_message(checkout):
    def odd(_):
        raise LookupError("sesame")

    checks = lines.examine({"odd": odd, "even": lambda _: Line("ok", "well")}, Asked(checkout))
    assert checks["odd"].found.startswith("the check broke: LookupError in test_lines.py, line ")
    assert checks["even"] == Line("ok", "well")
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


SHAPES = (  # more, each in three processes
    "http://Zyzzyva@{}/Zyzzyva?key=Zyzzyva",
    "http://me:Zyz/Zyzzyva@{}",
    "http://me:Zyzzyva@word@{}",
    "http://{}:Zyzzyva",
    "postgresql://me:Zyzzyva@{}/mlflow",
    "Zyzzyva@{}",
)


class Refuses(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500)
        self.end_headers()
        self.wfile.write(b"Zyzzyva8")

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def refusing():
    """Return the host and port of a server that answers 500."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    "shape",
    [
        "http://me:Zyzzyva@{}",
        "http://me:Zyzzyva@[{}",
        *(pytest.param(shape, marks=pytest.mark.slow) for shape in SHAPES),
    ],
)
@pytest.mark.stage
def test_no_secret_is_ever_printed(checkout, refusing, shape):
    url = shape.format(refusing)
    (checkout.parent / "hub").mkdir(exist_ok=True)
    (checkout.parent / "hub" / "token").write_text("hf_Zyzzyva9")
    config = f"[core]\n    remote = far\n['remote \"far\"']\n    url = {url.split('[')[0]}\n    password = Zyzzyva\n"
    (checkout / ".dvc" / "config.local").write_text(config)
    variables = SECRETS | {"MLFLOW_TRACKING_URI": url, "HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0"}
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
        done = run(checkout, *words, **(variables | more))
        assert all(name in done.stdout for name in words if name != "--json")
        assert "zyz" not in (done.stdout + done.stderr).lower()  # a host is printed in lower case
        assert done.stderr == ""


def test_nothing_waits_long_for_a_network_that_does_not_answer(checkout):
    """The hub and the tracking store both accept the connection and never answer."""

    def ask(url):
        started = time.monotonic()
        done = run(checkout, "hub", "tracking", HF_HUB_OFFLINE="0", HF_ENDPOINT=url, MLFLOW_TRACKING_URI=url)
        return done.stdout, time.monotonic() - started

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        printed, waited = ask(url)
    refused, at_once = ask(url)  # the time without a network, under the present load of this machine
    assert printed.count("no answer within 3 s") == 2
    assert refused.count("Connection refused") == 2
    assert waited - at_once < 5.5

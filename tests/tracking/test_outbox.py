"""A real MLflow server that fails in the middle of a run: no point and no run is lost, and nothing waits for it."""

import http.client
import http.server
import os
import subprocess
import sys
import threading
import time

import pytest
from mlflow import MlflowClient

from tests import servers
from tunetrail.tracking import mlflow_run, outbox
from tunetrail.training import history

pytestmark = pytest.mark.slow  # seconds of outage

POINTS = 60


class Proxy(http.server.ThreadingHTTPServer):
    """Passes requests on to the server. `fault` says which fail: "" none, "third" each third before it is passed on, "done"
    each third after the server has done it, "dead" all, "stopped" all wait until there is no fault."""

    def __init__(self, port):
        super().__init__(("127.0.0.1", 0), Handler)
        self.port, self.fault, self.count = port, "", 0
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.uri = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def pass_on(self):
        proxy = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        while proxy.fault == "stopped":
            time.sleep(0.05)
        proxy.count += 1
        is_third = proxy.count % 3 == 0
        status, content = 500, b'{"error_code": "INTERNAL_ERROR", "message": "a fault"}'
        if not (proxy.fault == "dead" or (proxy.fault == "third" and is_third)):
            server = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=60)
            headers = {name: value for name, value in self.headers.items() if name != "Host"}
            server.request(self.command, self.path, body, headers)
            answer = server.getresponse()
            answered = answer.status, answer.read()
            if not (proxy.fault == "done" and is_third):
                status, content = answered
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("server"), servers.free_port()
    words = [
        "--backend-store-uri",
        f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        *words,
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    check = [sys.executable, "-c", f"import urllib.request as r; r.urlopen('http://127.0.0.1:{port}/health', timeout=2)"]
    assert servers.healthy(check, os.environ, lambda: process.poll() is None, 120), (folder / "log").read_text()[-2000:]
    yield port
    os.killpg(process.pid, 9)
    process.wait()


@pytest.fixture
def proxy(server, tmp_path, monkeypatch):
    proxy = Proxy(server)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", tmp_path.name)
    yield proxy
    proxy.fault = ""
    proxy.shutdown()


def train(run, file, fault, proxy, lasts):
    """Log points as a training does, with the fault for some of the time; return the seconds that logging took of it."""
    with file.open("a") as lines:
        for step in range(1, POINTS + 1):
            if step == POINTS // 3:
                proxy.fault = fault
                ends = time.monotonic() + lasts
            lines.write(f'{{"step": {step}, "time": {step}.0, "train/loss": {1 / step}}}\n')
            lines.flush()
            time.sleep(0.05)
    run.tags({"during": "the fault"})
    if fault in ("dead", "stopped"):
        time.sleep(max(0, ends - time.monotonic()))
        proxy.fault = ""


@pytest.mark.parametrize(("fault", "lasts"), [("third", 0), ("done", 0), ("dead", 4), ("stopped", 6)])
def test_no_point_and_no_run_is_lost(proxy, tmp_path, capsys, fault, lasts):
    file = tmp_path / "history.jsonl"
    proxy.fault = fault if fault in ("third", "done") else ""
    with mlflow_run.run(tmp_path, "unlucky", params={"name": "unlucky"}) as run:
        run.params({"name": "unlucky"})
        with run.following(file):
            train(run, file, fault, proxy, lasts)
        run.steps(history.read(file)[0])  # as `record.upload`
        run.metrics({"ifeval/tuned/prompt_strict": 0.5})
    proxy.fault = ""
    client = MlflowClient(proxy.uri)
    assert not run.store_failed
    (saved,) = client.search_runs([run.experiment_id])
    assert (saved.info.run_id, saved.info.status) == (run.id, "FINISHED")
    assert saved.data.tags["during"] == "the fault"
    assert saved.data.metrics["ifeval/tuned/prompt_strict"] == 0.5
    points = client.get_metric_history(run.id, "train/loss")
    assert [(point.step, point.value) for point in points] == [(step, 1 / step) for step in range(1, POINTS + 1)]
    said = capsys.readouterr().out
    assert ("answers again" in said) == ("does not store the record" in said)
    assert fault not in ("dead", "stopped") or "answers again" in said


def test_a_server_that_stays_away_is_given_up_after_the_stated_time(proxy, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(outbox, "_SECONDS_AT_THE_END", 3.0)
    began = time.monotonic()
    with mlflow_run.run(tmp_path, "unlucky") as run:
        proxy.fault = "dead"
        run.metrics({"a": 1.0})
    assert run.store_failed
    assert time.monotonic() - began < 20
    said = capsys.readouterr().out
    assert "2 entries of the record wait for" in said
    assert "3 s at most" in said
    assert said.count("Run the same command again later") == 1

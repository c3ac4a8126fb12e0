"""The stack of compose.yaml, really run without containers: PostgreSQL from the system's packages, and `mlflow server` with
the command line, the environment and the health checks that the file gives them. What a run leaves is recorded there through
the package's own code and read back by a client of its own.

The last test kills the server.
"""

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest
import yaml
from mlflow import MlflowClient

from tests.conftest import ROOT
from tests.stage_outputs import left_by_a_run
from tunetrail import UserError, launch
from tunetrail.config import check
from tunetrail.tracking import connection, mlflow_run, record
from tunetrail.training import history

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

SERVICES = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
PASSWORD = "p@ss/w:rd %40"  # nothing that an address could hold unescaped


@dataclass
class Server:
    """A started `mlflow server`: its process leads a session of its own."""

    process: subprocess.Popen
    port: int
    database: int  # PostgreSQL's port
    artifacts: Path

    @property
    def uri(self):
        return f"http://127.0.0.1:{self.port}"

    def workers(self):
        """Every process of the server's session that is alive."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def stop(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        psutil.wait_procs(self.workers(), timeout=20)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=1)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def program(name):
    """PostgreSQL's program `name`; Debian keeps those of the server out of PATH."""
    found = shutil.which(name) or max(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), default=None)
    if not found:
        pytest.skip(f"no {name}: install PostgreSQL's server (Debian's package postgresql)")
    return found


def filled(service):
    """The environment that compose.yaml gives `service`, with the password in its place."""
    wanted = re.compile(r"\$\{POSTGRES_PASSWORD:\?[^}]*\}")
    return {key: wanted.sub(lambda _: PASSWORD, value) for key, value in SERVICES[service]["environment"].items()}


def healthy(command, environment, running, patience):
    """Ask a service's health check until it passes; False when `running` says no or `patience` (seconds) is used up."""
    deadline = time.monotonic() + patience
    while running() and time.monotonic() < deadline:
        if subprocess.run(command, env=environment, capture_output=True).returncode == 0:
            return True
        time.sleep(0.5)
    return False


@pytest.fixture(scope="module")
def database():
    """The port of a new PostgreSQL with the account and the database that compose.yaml asks the image for."""
    account = filled("postgres")
    initdb, pg_ctl = program("initdb"), program("pg_ctl")
    # PostgreSQL refuses to run as root, and pytest's own folders are closed to other users.
    other = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="tunetrail-postgres-") as name:
        folder, port = Path(name), free_port()
        secret = folder / "password"
        secret.write_text(account["POSTGRES_PASSWORD"])
        if other:
            shutil.chown(folder, "postgres", "postgres")
            shutil.chown(secret, "postgres", "postgres")

        def run(*words):
            done = subprocess.run(words, cwd=folder, capture_output=True, text=True, **other)
            assert done.returncode == 0, done.stdout + done.stderr

        cluster = ("--pgdata", str(folder / "cluster"))
        user = account["POSTGRES_USER"]
        run(initdb, *cluster, "--no-sync", "--username", user, "--auth=scram-sha-256", "--pwfile", str(secret))
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        # Its output goes to the log: the server would hold the pipe open.
        run(pg_ctl, *cluster, "--wait", "--silent", "--log", str(folder / "log"), "--options", options, "start")
        try:
            at = {"host": "127.0.0.1", "port": port, "user": user, "password": PASSWORD}
            with psycopg.connect(**at, dbname="postgres", autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {account['POSTGRES_DB']}")
            where = os.environ | {"PGHOST": "127.0.0.1", "PGPORT": str(port)}
            _, ask, *words = SERVICES["postgres"]["healthcheck"]["test"]
            assert healthy([program(ask), *words], where, lambda: True, 20)
            yield port
        finally:
            run(pg_ctl, *cluster, "--wait", "--silent", "--mode=immediate", "stop")


@pytest.fixture(scope="module")
def server(database, tmp_path_factory):
    """The service mlflow of compose.yaml, with this machine's ports and a folder of the test's."""
    service, folder, port = SERVICES["mlflow"], tmp_path_factory.mktemp("server"), free_port()
    here = {
        "postgres:5432": f"127.0.0.1:{database}",
        "=/mlartifacts": f"={folder}/mlartifacts",
        "0.0.0.0": "127.0.0.1",
        "5000": str(port),
    }

    def moved(word):
        for inside, outside in here.items():
            assert inside in " ".join(service["command"]), inside
            word = word.replace(inside, outside)
        return word

    environment = launch.environment() | filled("mlflow")
    command = [moved(word) for word in service["entrypoint"] + service["command"]]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    started = Server(process, port, database, folder / "mlartifacts")
    try:
        _, *check = map(moved, service["healthcheck"]["test"])
        up = healthy(check, environment, lambda: process.poll() is None, 180)
        assert up, (folder / "log").read_text()[-3000:]
        yield started
    finally:
        started.stop(signal.SIGTERM)
        started.stop(signal.SIGKILL)
        assert not started.workers()


@pytest.fixture
def root(tmp_path, server, monkeypatch):
    """What a run leaves, in a folder whose tracking store is the server."""
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    left_by_a_run(tmp_path)
    return tmp_path


def answer(server, host):
    """The status with which the server answers a request that calls it by the name `host`."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", "/api/2.0/mlflow/experiments/get?experiment_id=0", headers={"Host": host})
    return connection.getresponse().status


def test_a_run_is_recorded_and_read_back_whole(root, server, composed, tmp_path_factory):
    values = composed()
    with mlflow_run.run(root, "demo") as run:
        run.params(check.flatten(values))
        record.upload(run, root, values)
        assert not run.store_failed

    client = MlflowClient(server.uri)
    found = client.get_run(run.id)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "demo"
    assert found.data.params == {key: str(value) for key, value in check.flatten(values).items()}
    assert found.data.tags["model.md5"] == "model"
    assert found.inputs.dataset_inputs[0].dataset.digest == found.data.tags["data.md5"]

    steps, _ = history.read(root / "outputs" / "train" / "history.jsonl")
    for name in ("train/loss", "train/learning_rate"):
        points = [(point.step, point.timestamp, point.value) for point in client.get_metric_history(run.id, name)]
        assert points == [(row["step"], 1000 * row["time"], row[name]) for row in steps if name in row]
        assert len(points) == 2
    assert found.data.metrics["ifeval/tuned/prompt_strict"] == pytest.approx(2 / 3)
    assert found.data.metrics["time/train_s"] == 5.0

    assert found.info.artifact_uri.startswith("mlflow-artifacts:")  # the server's to serve: the trainer sees no disk of it
    copy = Path(client.download_artifacts(run.id, "report", str(tmp_path_factory.mktemp("copy"))))
    sent = sorted(file.name for file in (root / "report").iterdir())
    assert sorted(file.name for file in copy.iterdir()) == sent
    assert all((copy / name).read_bytes() == (root / "report" / name).read_bytes() for name in sent)
    assert list(server.artifacts.rglob("dvc.lock"))


def test_the_record_is_in_postgresql_and_the_password_in_no_command_line(root, server):
    with mlflow_run.run(root, "kept") as run:
        run.metrics({"a": 0.5})
    with psycopg.connect(host="127.0.0.1", port=server.database, user="mlflow", password=PASSWORD, dbname="mlflow") as store:
        assert store.execute("SELECT value FROM metrics WHERE run_uuid = %s", [run.id]).fetchall() == [(0.5,)]
        assert store.execute("SELECT status FROM runs WHERE run_uuid = %s", [run.id]).fetchall() == [("FINISHED",)]
    commands = [" ".join(worker.cmdline()) for worker in server.workers()]
    assert any("postgresql+psycopg://" in command for command in commands)
    assert not [command for command in commands if PASSWORD in command]


def test_a_password_that_postgresql_does_not_take_is_one_message_without_it(database, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql+psycopg://mlflow:wr%40ng@127.0.0.1:{database}/mlflow")
    with pytest.raises(UserError, match="password authentication failed") as error, connection.open_client(tmp_path):
        pass
    assert "wr" not in str(error.value).replace("correct", "")


def test_the_trainers_and_this_machine_are_let_in_and_a_stranger_is_not(server):
    called = re.fullmatch(r"http://(\w+):5000", SERVICES["trainer-cpu"]["environment"]["MLFLOW_TRACKING_URI"])[1]
    for host in (called, "localhost", "127.0.0.1"):
        assert answer(server, f"{host}:{server.port}") == 200
    assert answer(server, f"elsewhere.example:{server.port}") == 403


def test_a_server_killed_in_the_middle_costs_the_record_and_not_the_run(root, server, composed, capsys):
    values = composed()
    with mlflow_run.run(root, "unlucky") as run:
        run.params(check.flatten(values))
        assert not run.store_failed
        server.stop(signal.SIGKILL)
        began = time.monotonic()
        record.upload(run, root, values)
    assert run.store_failed
    assert run.sent == set()
    assert time.monotonic() - began < 60  # MLflow's own patience is minutes
    said = capsys.readouterr().out
    assert said.count("failed to store the record") == 1
    assert "uploads the whole record" in said

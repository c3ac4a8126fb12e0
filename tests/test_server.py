"""The stack of compose.yaml, really run without containers: PostgreSQL from the system's packages, and `mlflow server` with
the command line, the environment and the health checks of the file. The package's own code records the outputs of a run
there, and a separate client reads them back.

The last test kills the server.
"""

import contextlib
import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
import pytest
import yaml
from mlflow import MlflowClient

from tests import checkouts, first_runs
from tests.conftest import ROOT
from tests.servers import free_port, healthy
from tests.stage_outputs import left_by_a_run
from tunetrail import UserError, launch
from tunetrail.config import check
from tunetrail.tracking import connection, mlflow_run, outbox, record
from tunetrail.training import history

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

SERVICES = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
PASSWORD = "p@ss/w:rd %40"  # characters that an address must escape


@dataclass
class Server:
    """`mlflow server`, whose process leads a session of its own."""

    command: list[str]
    check: list[str]  # the health check
    environment: dict[str, str]
    folder: Path
    port: int
    database: int  # PostgreSQL's port
    process: subprocess.Popen | None = None

    def start(self):
        with (self.folder / "log").open("a") as log:
            streams = {"stdout": log, "stderr": subprocess.STDOUT, "start_new_session": True}
            self.process = subprocess.Popen(self.command, cwd=self.folder, env=self.environment, **streams)
        up = healthy(self.check, self.environment, lambda: self.process.poll() is None, 180)
        assert up, (self.folder / "log").read_text()[-3000:]

    @property
    def artifacts(self):
        return self.folder / "mlartifacts"

    @property
    def uri(self):
        return f"http://127.0.0.1:{self.port}"

    def workers(self):
        """Return every live process of the server's session."""
        alive = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    alive.append(process)
        return alive

    def stop(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        psutil.wait_procs(self.workers(), timeout=20)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=1)


def program(name):
    """Return the path of PostgreSQL's program `name`; Debian's server programs are not on PATH."""
    path = shutil.which(name) or max(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), default=None)
    if not path:
        pytest.skip(f"no {name}: install PostgreSQL's server (Debian's package postgresql)")
    return path


def filled(service):
    """Return the environment of `service` in compose.yaml, with the password filled in."""
    wanted = re.compile(r"\$\{POSTGRES_PASSWORD:\?[^}]*\}")
    return {key: wanted.sub(lambda _: PASSWORD, value) for key, value in SERVICES[service]["environment"].items()}


@pytest.fixture(scope="module")
def database():
    """Start PostgreSQL with the account and the database of compose.yaml; yield its port."""
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
        # Its output goes to the log, since the server would keep a pipe open.
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
    """Start the service mlflow of compose.yaml, with this machine's ports and a folder of the test."""
    service, folder, port = SERVICES["mlflow"], tmp_path_factory.mktemp("server"), free_port()
    here = {
        "postgres:5432": f"127.0.0.1:{database}",
        "=/mlartifacts": f"={folder}/mlartifacts",
        "0.0.0.0": "127.0.0.1",
        "5000": str(port),
    }

    def moved(argument):
        for inside, outside in here.items():
            assert inside in " ".join(service["command"]), inside
            argument = argument.replace(inside, outside)
        return argument

    command = [moved(part) for part in service["entrypoint"] + service["command"]]
    _, *check = map(moved, service["healthcheck"]["test"])
    server = Server(command, check, launch.environment() | filled("mlflow"), folder, port, database)
    try:
        server.start()
        yield server
    finally:
        server.stop(signal.SIGTERM)
        server.stop(signal.SIGKILL)
        assert not server.workers()


@pytest.fixture
def root(tmp_path, server, monkeypatch):
    """Write the outputs of a run into a folder whose tracking store is the server."""
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    left_by_a_run(tmp_path)
    return tmp_path


def answer(server, host):
    """Return the status of the server's answer to a request with `host` as its name."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", "/api/2.0/mlflow/experiments/get?experiment_id=0", headers={"Host": host})
    return connection.getresponse().status


def test_a_run_is_recorded_and_read_back_completely(root, server, composed, tmp_path_factory):
    values = composed()
    with mlflow_run.run(root, "demo") as run:
        run.params(check.flatten(values))
        record.upload(run, root, values)
        assert not run.store_failed

    client = MlflowClient(server.uri)
    recorded = client.get_run(run.id)
    assert recorded.info.status == "FINISHED"
    assert recorded.info.run_name == "demo"
    assert recorded.data.params == {key: str(value) for key, value in check.flatten(values).items()}
    assert recorded.data.tags["model.md5"] == "model"
    assert recorded.inputs.dataset_inputs[0].dataset.digest == recorded.data.tags["data.md5"]

    steps, _ = history.read(root / "outputs" / "train" / "history.jsonl")
    for name in ("train/loss", "train/learning_rate"):
        points = [(point.step, point.timestamp, point.value) for point in client.get_metric_history(run.id, name)]
        assert points == [(row["step"], 1000 * row["time"], row[name]) for row in steps if name in row]
        assert len(points) == 2
    assert recorded.data.metrics["ifeval/tuned/prompt_strict"] == pytest.approx(2 / 3)
    assert recorded.data.metrics["time/train_s"] == 5.0

    # The server serves the files itself: the trainer needs no access to its disk.
    assert recorded.info.artifact_uri.startswith("mlflow-artifacts:")
    copy = Path(client.download_artifacts(run.id, "report", str(tmp_path_factory.mktemp("copy"))))
    sent = sorted(file.name for file in (root / "report").iterdir())
    assert sorted(file.name for file in copy.iterdir()) == sent
    assert all((copy / name).read_bytes() == (root / "report" / name).read_bytes() for name in sent)
    assert list(server.artifacts.rglob("dvc.lock"))


def test_the_record_is_in_postgresql_and_no_command_line_has_the_password(root, server):
    with mlflow_run.run(root, "kept") as run:
        run.metrics({"a": 0.5})
    with psycopg.connect(host="127.0.0.1", port=server.database, user="mlflow", password=PASSWORD, dbname="mlflow") as store:
        assert store.execute("SELECT value FROM metrics WHERE run_uuid = %s", [run.id]).fetchall() == [(0.5,)]
        assert store.execute("SELECT status FROM runs WHERE run_uuid = %s", [run.id]).fetchall() == [("FINISHED",)]
    commands = [" ".join(worker.cmdline()) for worker in server.workers()]
    assert any("postgresql+psycopg://" in command for command in commands)
    assert not [command for command in commands if PASSWORD in command]


def test_16_first_runs_at_once_in_a_fresh_database_are_all_recorded(database, tmp_path, monkeypatch):
    at = {"host": "127.0.0.1", "port": database, "user": "mlflow", "password": PASSWORD}
    with psycopg.connect(**at, dbname="mlflow", autocommit=True) as connected:
        connected.execute("CREATE DATABASE fresh")
    address = f"postgresql+psycopg://mlflow:{quote(PASSWORD, safe='')}@127.0.0.1:{database}/fresh"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)
    succeeded, runs = first_runs.made_at_once(tmp_path, 16)
    assert succeeded == len(runs) == 16
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_a_wrong_postgresql_password_is_one_message_that_does_not_contain_it(database, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql+psycopg://mlflow:wr%40ng@127.0.0.1:{database}/mlflow")
    with pytest.raises(UserError, match="password authentication failed") as error, connection.open_client(tmp_path):
        pass
    assert "wr" not in str(error.value).replace("correct", "")


def test_the_server_accepts_the_trainers_and_this_machine_and_no_other_host(server):
    called = re.fullmatch(r"http://(\w+):5000", SERVICES["trainer-cpu"]["environment"]["MLFLOW_TRACKING_URI"])[1]
    for host in (called, "localhost", "127.0.0.1"):
        assert answer(server, f"{host}:{server.port}") == 200
    assert answer(server, f"elsewhere.example:{server.port}") == 403


def test_the_record_of_a_real_training_is_whole_although_the_server_hangs_and_is_killed(trained, server, tmp_path):
    checkout, log = checkouts.branch(trained, tmp_path), tmp_path / "work" / "train" / "history.jsonl"
    environment = checkouts.environment(checkout) | {"MLFLOW_TRACKING_URI": server.uri}
    words = [sys.executable, "-m", "tunetrail", "run", *checkouts.SHRUNKEN, "train.seed=7", "train.logging_steps=1"]
    with (tmp_path / "screen.txt").open("w") as screen:
        process = subprocess.Popen(words, cwd=checkout, env=environment, stdout=screen, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 180
    while not log.is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    before = len(log.read_text().splitlines())
    os.killpg(server.process.pid, signal.SIGSTOP)
    time.sleep(5)
    assert len(log.read_text().splitlines()) > before, "training went on"
    os.killpg(server.process.pid, signal.SIGCONT)
    server.stop(signal.SIGKILL)
    server.start()
    assert process.wait(timeout=300) == 0, (tmp_path / "screen.txt").read_text()
    rows, _ = history.read(checkout / "outputs" / "train" / "history.jsonl")
    client = MlflowClient(server.uri)
    (run,) = client.search_runs(
        [experiment.experiment_id for experiment in client.search_experiments()],
        filter_string=f"tags.`tunetrail.checkout` LIKE '%:{checkout}'",
    )
    assert run.info.status == "FINISHED"
    for name in ("train/loss", "validation/loss", "train/grad_norm"):
        stored = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
        assert stored == [(row["step"], row[name]) for row in rows if name in row]
    assert len(rows) > 62


def test_a_run_continues_without_a_record_if_the_server_is_killed(root, server, composed, capsys, monkeypatch):
    values = composed()
    monkeypatch.setattr(outbox, "_SECONDS_AT_THE_END", 5.0)
    with mlflow_run.run(root, "unlucky") as run:
        run.params(check.flatten(values))
        assert not run.store_failed
        server.stop(signal.SIGKILL)
        began = time.monotonic()
        record.upload(run, root, values)
    assert run.store_failed
    assert time.monotonic() - began < 60  # MLflow's own timeout is minutes
    output = capsys.readouterr().out
    assert output.count("failed to store the record") == 1
    assert "uploads the whole record" in output

"""The store's address, the creation of its file, and the experiment of runs, with real stores."""

import base64
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from mlflow import MlflowClient

from tests import first_runs
from tunetrail import UserError
from tunetrail.tracking import connection, mlflow_run, other_runs, store


def test_a_relative_file_is_made_absolute_whatever_the_driver(root, monkeypatch):
    for uri, absolute in (
        ("sqlite:///a/b.db", f"sqlite:///{root}/a/b.db"),
        ("sqlite+pysqlite:///b.db", f"sqlite+pysqlite:///{root}/b.db"),
        ("sqlite:////b.db", "sqlite:////b.db"),
        ("./mlruns", f"{root}/mlruns"),
        ("postgresql://a:b@c/d", "postgresql://a:b@c/d"),
        ("", f"sqlite:///{root}/mlflow.db"),
        (" \n", f"sqlite:///{root}/mlflow.db"),
        (" sqlite:///a b.db\n", f"sqlite:///{root}/a b.db"),
        (" http://host:5000 ", "http://host:5000"),
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert connection.uri(root) == absolute == os.environ["MLFLOW_TRACKING_URI"]


@pytest.mark.parametrize(
    ("login", "user", "password"),
    [
        ("me:word@", "me", "word"),
        ("bob:p@ssw0rd@", "bob", "p@ssw0rd"),
        ("me:p%40ss%2Fw%3Ard%20%25@", "me", "p@ss/w:rd %"),
        ("me:gr%C3%BC%C3%9Fe@", "me", "grüße"),
    ],
)
def test_a_servers_user_and_password_leave_its_address_and_reach_the_server(root, monkeypatch, capfd, login, user, password):
    headers = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers.append(self.headers["Authorization"])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        do_GET = do_POST

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{login}{address}/")
        assert store.every(root) == []
        server.shutdown()
    assert os.environ["MLFLOW_TRACKING_URI"] == f"http://{address}/"
    assert set(headers) == {f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


OPEN = "import pathlib; from tunetrail.tracking import store; print(store.every(pathlib.Path.cwd()))"


def opening(folder):
    """Start a process that opens the folder's store as its first user."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", OPEN], cwd=folder, env=environ, text=True, **streams)


@pytest.mark.stage
@pytest.mark.slow
def test_a_new_store_is_complete_or_absent_after_kill_9_and_eight_processes_at_once_make_one(tmp_path):
    file, partial = tmp_path / "mlflow.db", tmp_path / "mlflow.db.partial"
    killed = opening(tmp_path)
    while not (partial.is_file() and partial.stat().st_size) and killed.poll() is None:
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    assert partial.is_file()
    assert not file.exists()
    for process in [opening(tmp_path) for _ in range(8)]:
        assert process.communicate() == ("[]\n", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db"]
    assert [experiment.name for experiment in MlflowClient(f"sqlite:///{file}").search_experiments()] == ["Default"]


@pytest.mark.slow
def test_64_first_runs_at_once_are_all_recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)
    succeeded, runs = first_runs.made_at_once(tmp_path, 64)
    assert succeeded == len(runs) == 64
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_an_empty_file_becomes_a_store(root):
    (root / "mlflow.db").write_bytes(b"")
    assert store.every(root) == []


def test_a_link_to_a_file_that_does_not_exist_yet_remains_a_link(root):
    target = root / "elsewhere" / "shared.db"
    (root / "mlflow.db").unlink()
    (root / "mlflow.db").symlink_to(target)
    assert store.every(root) == []
    assert (root / "mlflow.db").is_symlink()
    assert target.stat().st_size


def test_an_experiment_that_another_run_creates_meanwhile_is_used(root):
    client = MlflowClient(connection.uri(root))

    class Late(MlflowClient):
        """A client that creates the experiment just after another one did."""

        def create_experiment(self, name, **more):
            client.create_experiment(name)
            return super().create_experiment(name, **more)

    number = connection.experiment(Late(connection.uri(root)), root)
    assert client.get_experiment(number).name == "tunetrail"


def recorded(root):
    """Return the one experiment of a run, of a run made for another process, and of a sweep."""
    with mlflow_run.run(root, "demo") as run, mlflow_run.run(root, "sweep-1", folder=root / "runs") as sweep:
        sweep.tags({"sweep": "sweep-1"})
    made = other_runs.create(root, "again", {})
    ids = {run.experiment_id, sweep.experiment_id, MlflowClient(connection.uri(root)).get_run(made).info.experiment_id}
    (number,) = ids
    return number


def test_runs_belong_to_the_experiment_that_the_environment_names(root, monkeypatch):
    client = MlflowClient(connection.uri(root))
    assert client.get_experiment(recorded(root)).name == "tunetrail"
    other = client.create_experiment("other")
    assert other_runs.sweep(root, "sweep-1")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", other)
    assert other_runs.sweep(root, "sweep-1") is None  # the earlier one belongs to another experiment
    assert recorded(root) == other
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "other")
    assert recorded(root) == other
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "new")
    assert other_runs.sweep(root, "sweep-1") is None
    assert client.get_experiment(recorded(root)).name == "new"


@pytest.mark.parametrize("number", ["99", "x y"])
def test_a_missing_experiment_is_an_error(root, monkeypatch, number):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", number)
    with pytest.raises(UserError, match=f"MLFLOW_EXPERIMENT_ID={number}: .* no such experiment.*unset MLFLOW_EXPERIMENT_ID"):
        recorded(root)


def test_a_name_and_an_id_of_different_experiments_are_an_error(root, monkeypatch):
    MlflowClient(connection.uri(root)).create_experiment("other")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "other")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")
    with pytest.raises(
        UserError, match=r"MLFLOW_EXPERIMENT_NAME=other is experiment .*, and MLFLOW_EXPERIMENT_ID=0 another"
    ):
        recorded(root)


def test_a_deleted_experiment_is_an_error_with_the_command_that_restores_it(root, monkeypatch):
    client = MlflowClient(connection.uri(root))
    number = recorded(root)
    client.delete_experiment(number)
    for name, value in (("NAME", ""), ("NAME", "tunetrail"), ("ID", number)):
        monkeypatch.setenv(f"MLFLOW_EXPERIMENT_{name}", value)
        with pytest.raises(UserError) as error:
            recorded(root)
        restore = f"MLFLOW_TRACKING_URI=sqlite:///{root}/mlflow.db mlflow experiments restore -x {number}"
        assert restore in str(error.value)
        assert "export MLFLOW_EXPERIMENT_NAME=NAME" in str(error.value)
        monkeypatch.setenv(f"MLFLOW_EXPERIMENT_{name}", "")
    words = [sys.executable, "-m", "mlflow", *restore.split()[2:]]
    subprocess.run(words, check=True, capture_output=True, env=os.environ | {"MLFLOW_TRACKING_URI": connection.uri(root)})
    assert recorded(root) == number

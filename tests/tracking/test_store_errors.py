"""Stores that really fail: within seconds there is one message with the store, the error and the fix."""

import contextlib
import shutil
import socket
import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import sqlalchemy
from mlflow import MlflowClient
from mlflow.store.tracking.dbmodels.initial_models import Base

from tunetrail import UserError
from tunetrail.tracking import connection, store, store_errors


def fault(root, monkeypatch, address, limit=30.0):
    """Return the error of opening the store at `address`: one line, no password, within `limit` seconds."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    started = time.monotonic()
    with pytest.raises(UserError) as error:
        store.every(root)
    assert time.monotonic() - started < limit
    message = str(error.value)
    assert message.startswith("tracking store ")
    assert "\n" not in message
    assert "hunter2" not in message
    return message


@pytest.mark.parametrize(
    ("address", "says"),
    [
        (
            "mysql+pymysql://me:hunter2@host/db",
            "store mysql+pymysql://host/db: its driver, the package PyMySQL, is not installed",
        ),
        ("mysql://me:hunter2@host/db", "the package mysqlclient, is not installed. Install it: "),
        ("mssql+pyodbc://me:hunter2@host/db", "the package pyodbc, is not installed"),
        ("postgresql://me:hunter2@127.0.0.1:9/db", "store postgresql://127.0.0.1:9/db: connection failed: "),
        ("postgresql+psycopg://me:hun/ter2@127.0.0.1:9/db", "postgresql+psycopg://127.0.0.1:9/db: "),
        ("postgresql://me:hunter2@nowhere.invalid/db", "nowhere.invalid"),
        ("postgresql://me:hunter2@127.0.0.1:port/db", "port"),
        ("oracle://me:hunter2@host/db", "oracle://host/db: MLflow has no store at such an address. Give"),
        ("foo://me:hunter2@host", "foo://host: MLflow has no store at such an address"),
        ("ftp://host/x?password=hunter2", "ftp://host/x?password=...: MLflow has no store"),
        ("./mlruns", "/mlruns: MLflow takes no new records in a folder of files"),
        ("file:///nowhere/mlruns", "MLflow takes no new records in a folder of files"),
        ("http://me:hunter2@127.0.0.1:9", "store http://127.0.0.1:9: "),
        ("http://me:hun/ter2@127.0.0.1:9", "A / in a password is written %2F"),
        ("http://bob:12/hunter2@127.0.0.1:9/", "correct MLFLOW_TRACKING_URI"),
        ("https://bob:12?hun ter#hunter2@127.0.0.1:9", "nothing was asked"),
        ('postgresql://me:hun ter"hunter2@127.0.0.1:9/db', "store postgresql://127.0.0.1:9/db: connection failed: "),
        ("127.0.0.1:9", "http:// is missing before 127.0.0.1:9. Give MLFLOW_TRACKING_URI=http://127.0.0.1:9"),
        ("me:hunter2@host:5000/mlflow", "http:// is missing before host:5000. Give"),
        ("sqlite:///:memory:", "in memory, where each process has its own"),
        ("sqlite://", "in memory, where each process has its own"),
        ("sqlite+pysqlite:///file:x?mode=memory&uri=true", "in memory, where each process has its own"),
        ("sqlite:////proc/nowhere/x.db", "Make /proc/nowhere writable"),
        ("sqlite:////dev/null/x.db", "Make /dev/null writable"),
    ],
)
def test_a_store_that_cannot_be_reached_is_an_error_with_the_fix(root, monkeypatch, address, says):
    message = fault(root, monkeypatch, address)
    assert says in message, message
    assert not (root / "mlruns").exists()


@contextlib.contextmanager
def server(status, body, seconds=0.0):
    """Start a server that is not MLflow's and answers every request so after `seconds`; yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            time.sleep(seconds)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, b"who are you", "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"),
        (403, b'{"error_code": "PERMISSION_DENIED", "message": "no"}', "no. Set MLFLOW_TRACKING_USERNAME"),
        (404, b"<html>no such page</html>", "404"),
        (500, b"", "500"),
        (403, b"", "403"),
        (200, b"<html>another page</html>", ""),
        (200, b"[1]", ""),
    ],
)
def test_a_server_that_is_not_mlflows_is_an_error(root, monkeypatch, status, body, says):
    with server(status, body) as address:
        message = fault(root, monkeypatch, address)
    assert says in message
    assert "correct MLFLOW_TRACKING_URI" in message


@pytest.mark.parametrize("address", ["http://{}", "postgresql://me:hunter2@{}/db"])
def test_a_server_that_accepts_the_connection_and_never_answers_times_out(root, monkeypatch, address):
    monkeypatch.setattr(connection, "_SECONDS", 2)
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "2")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        fault(root, monkeypatch, address.format(f"127.0.0.1:{silent.getsockname()[1]}"), 20)


def broken(root, content):
    (root / "mlflow.db").write_bytes(content)
    return "sqlite:///mlflow.db"


def test_a_file_that_is_no_database_or_is_truncated_is_an_error_with_the_command_that_moves_it(root, monkeypatch):
    database = (root / "mlflow.db").read_bytes()
    for content in (b"hello", database[:100], database[: len(database) // 2], database[:5000] + b"\0" * 20_000):
        message = fault(root, monkeypatch, broken(root, content))
        assert "no SQLite database, or a damaged one" in message
        assert f"mv {root}/mlflow.db {root}/mlflow.db.broken" in message
    shutil.move(root / "mlflow.db", root / "mlflow.db.broken")
    assert store.every(root) == []


def test_an_incomplete_store_is_an_error_with_the_command_that_moves_it(root, monkeypatch):
    (root / "mlflow.db").unlink()
    engine = sqlalchemy.create_engine(f"sqlite:///{root}/mlflow.db")
    Base.metadata.create_all(engine)  # MLflow's first step; its second, adding columns, was stopped after one
    with engine.begin() as half:
        half.execute(sqlalchemy.text("ALTER TABLE metrics ADD COLUMN step BIGINT DEFAULT 0 NOT NULL"))
    engine.dispose()
    message = fault(root, monkeypatch, "sqlite:///mlflow.db")
    assert "incomplete: MLflow was stopped while it created or upgraded the tables (duplicate column" in message
    assert f"mv {root}/mlflow.db {root}/mlflow.db.broken" in message


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "could not be opened (MemoryError). The file is left"),
        (ImportError("cannot import name x"), "could not be opened (ImportError: cannot import name x)"),
        (RuntimeError("can't start new thread"), "could not be opened (RuntimeError: can't start new thread)"),
        (TypeError("table is full"), "could not be opened (TypeError: table is full)"),
        (KeyError("no such table"), "could not be opened (KeyError: 'no such table')"),
    ],
)
def test_an_error_of_the_process_does_not_blame_or_move_the_file(error, says):
    message = str(store_errors.explained("sqlite:////x/mlflow.db", error))
    assert message.startswith(f"tracking store sqlite:////x/mlflow.db: {says}")
    assert "mv " not in message


def test_a_file_that_the_body_cannot_open_is_not_reported_as_an_error_of_the_store(root):
    missing = root / "config" / "none.yaml"
    with pytest.raises(UserError, match=f"^{missing}: No such file or directory$"), connection.open_client(root):
        missing.read_text()
    with pytest.raises(UserError, match=r"^tracking store .*"), connection.open_client(root):
        raise PermissionError(13, "Permission denied", str(root / "mlflow.db-journal"))


def test_a_locked_file_a_folder_and_a_newer_schema_are_errors(root, monkeypatch):
    monkeypatch.setattr(connection, "_SECONDS", 1)
    with contextlib.closing(sqlite3.connect(root / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "database is locked: another process keeps it locked" in fault(root, monkeypatch, "sqlite:///mlflow.db")
        other.rollback()
        other.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        other.commit()
    assert "schema ffffffffffff, which MLflow " in fault(root, monkeypatch, "sqlite:///mlflow.db")
    assert f"{root} is a folder. Give a file in it" in fault(root, monkeypatch, f"sqlite:///{root}")


def test_a_full_disk_is_an_error(root, monkeypatch):
    connection.uri(root)
    with pytest.raises(UserError, match="Free space on its disk"), connection.open_client(root):
        raise OSError(28, "No space left on device")


def test_a_missing_entry_of_a_store_is_an_error_without_advice_to_make_a_store(root):
    with pytest.raises(UserError, match="No Experiment with id=99 exists") as error, connection.open_client(root) as client:
        client.get_experiment("99")
    assert "Make" not in str(error.value)


def test_the_newest_schema_is_that_of_a_new_store(root):
    MlflowClient(connection.uri(root))
    with contextlib.closing(sqlite3.connect(root / "mlflow.db")) as made:
        assert made.execute("SELECT version_num FROM alembic_version").fetchone()[0] == store_errors.schemas()[0]

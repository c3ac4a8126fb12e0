"""A checkout -> an open tracking store: its address, its client, and the experiment that new runs belong to.

    python -m tunetrail.tracking.connection   creates the store of the current folder's checkout unless there is one

A store that does not answer is reported within seconds, once, with the fix (`store_errors`). `store` finds runs.
"""

import contextlib
import logging
import os
import re
import sys
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Any

import sqlalchemy
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tunetrail import UserError
from tunetrail.checkout import locks
from tunetrail.tracking import store_errors

EXPERIMENT = "tunetrail"
FAULTS = (MlflowException, sqlalchemy.exc.SQLAlchemyError, OSError)  # what a failing store raises; requests' are OSErrors
_SECONDS = 10  # for the first answer
_LOCK = 0x74756E65747261  # of PostgreSQL, by its number: "tunetra"
_answered: set[str] = set()  # addresses that have answered this process


def uri(root: Path) -> str:
    """Return the tracking URI: MLFLOW_TRACKING_URI, or the checkout's own SQLite file. A file's path is made absolute; the
    user and password of a server's address move into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.

    Child processes inherit it. A server gets three tries of 20 seconds; MLflow's own defaults block for minutes.

    Raises:
        UserError: it cannot be a store's address.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # its line has the password
    os.environ.setdefault("PGCONNECT_TIMEOUT", str(_SECONDS))
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip() or "sqlite:///mlflow.db"
    store_errors.check_address(uri)
    scheme, relative, path = re.fullmatch(r"(sqlite(?:\+\w+)?:///)?(?=(/)?)(.*)", uri, re.DOTALL).groups()
    if scheme and not relative:
        uri = f"{scheme}{root / path}"
    elif uri.startswith(("http://", "https://")):
        uri = _without_user(uri)
    elif uri.startswith("."):  # a folder of MLflow's older kind
        uri = str((root / uri).resolve())
    os.environ["MLFLOW_TRACKING_URI"] = uri
    return uri


def _without_user(address: str) -> str:
    """Return a server's address without its user and password, which MLflow then takes from the environment."""
    with contextlib.suppress(ValueError):
        parts = urllib.parse.urlsplit(address)
        login, _, host = parts.netloc.rpartition("@")
        user, _, password = login.partition(":")
        if user and password:
            os.environ["MLFLOW_TRACKING_USERNAME"] = urllib.parse.unquote(user)
            os.environ["MLFLOW_TRACKING_PASSWORD"] = urllib.parse.unquote(password)
            return parts._replace(netloc=host).geturl()
    return address


@contextlib.contextmanager
def open_client(root: Path) -> Iterator[MlflowClient]:
    """Yield a client of the store.

    Raises:
        UserError: the store cannot be opened, or fails in the body; the message has the fix.
    """
    address = uri(root)
    for name in ("mlflow.store.db.utils", "urllib3.connectionpool"):  # they log every table, attempt and error, with the SQL
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        client = _answering_client(address)
    except UserError:
        raise
    except Exception as error:  # a driver's, alembic's, SQLAlchemy's, the system's: each has its own family
        raise store_errors.explained(address, error) from error
    try:
        yield client
    except FAULTS as error:
        path, file = getattr(error, "filename", None), store_errors.file(address)
        if path and not (file and str(path).startswith(str(file))):  # the body's own file, not the store's
            raise UserError(f"{path}: {error.strerror or error}") from error
        raise store_errors.explained(address, error) from error


def _answering_client(address: str) -> MlflowClient:
    """Return a client of a store that has answered. MLflow's own retries, which take minutes, are not used."""
    file = store_errors.file(address)
    if file:
        _create(file)
        if address not in _answered:
            store_errors.check(file, _SECONDS)
    elif address not in _answered and address.startswith(("http://", "https://")):
        with _short_timeout():
            MlflowClient(address).search_experiments(max_results=1)
    elif address not in _answered and "://" in address and not address.startswith(("file:", "databricks", "uc")):
        _connect(address)
    with contextlib.nullcontext() if address in _answered else _tables_made_once(address):
        client = MlflowClient(address)
    _answered.add(address)
    return client


@contextlib.contextmanager
def _tables_made_once(address: str) -> Iterator[None]:
    """Let one process at a time make the tables of a PostgreSQL database: MLflow does not, and all but one would fail."""
    if not address.startswith("postgresql"):
        yield
        return
    with sqlalchemy.create_engine(address, poolclass=sqlalchemy.pool.NullPool).connect() as connection:
        connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:number)"), {"number": _LOCK})  # ends with the session
        MlflowClient(address).search_experiments(max_results=1)
        yield


@contextlib.contextmanager
def _short_timeout() -> Iterator[None]:
    """Let MLflow retry once, for ten seconds, unless the user has set less."""
    before = {name: os.environ[name] for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT")}
    for name, most in zip(before, (1, _SECONDS), strict=True):
        with contextlib.suppress(ValueError):
            os.environ[name] = str(min(int(before[name]), most))
    try:
        yield
    finally:
        os.environ.update(before)


def _connect(address: str) -> None:
    """Connect to a database once.

    Raises:
        Exception: the driver's, or a TimeoutError.
    """
    if sqlalchemy.make_url(address).get_backend_name() not in ("postgresql", "mysql", "mssql"):
        return  # MLflow's own error names the databases that it supports
    answer: Future[None] = Future()

    def connect() -> None:
        try:
            sqlalchemy.create_engine(address, poolclass=sqlalchemy.pool.NullPool).connect().close()
            answer.set_result(None)
        except Exception as error:
            answer.set_exception(error)

    Thread(target=connect, daemon=True).start()  # DNS and some drivers have no timeout of their own
    try:
        answer.result(2 * _SECONDS)
    except TimeoutError:
        raise TimeoutError(f"no answer within {2 * _SECONDS} s") from None


def _create(file: Path) -> None:
    """Create the store's SQLite file if it is missing or empty: under another name first, until it is complete.

    MLflow creates its tables one by one, and several processes at once would create the same ones.
    """
    file = file.resolve()  # a link stays a link
    if file.is_dir() or (file.is_file() and file.stat().st_size):
        return
    lock, partial = (file.with_name(f"{file.name}.{suffix}") for suffix in ("lock", "partial"))
    with locks.wait_for_lock(lock):
        if not (file.is_file() and file.stat().st_size):  # else another process has created it meanwhile
            partial.unlink(missing_ok=True)  # left by a process that was killed
            MlflowClient(f"sqlite:///{partial}").search_experiments()
            partial.replace(file)
        lock.unlink()


def wanted_experiment(client: MlflowClient) -> str | None:
    """Return the id of the experiment that the environment names; "" if it does not exist yet, None if none is named."""
    name, number = _environment()
    if not name:
        return number or None
    named = client.get_experiment_by_name(name)
    return named.experiment_id if named else ""


def experiment(client: MlflowClient, root: Path) -> str:
    """Return the id of the experiment that new runs belong to, created if its name is new.

    It is named by MLFLOW_EXPERIMENT_NAME, else by MLFLOW_EXPERIMENT_ID, as in MLflow; else it is "tunetrail".

    Raises:
        UserError: the two variables contradict each other, no experiment has the id, or it was deleted.
    """
    name, number = _environment()
    existing = _by_id(client, number) if number and not name else client.get_experiment_by_name(name or EXPERIMENT)
    if existing and existing.lifecycle_stage == "deleted":
        raise UserError(
            f"the experiment {existing.name} was deleted, so it takes no runs. Restore it: "
            f"{store_errors.command(client.tracking_uri, root)}mlflow experiments restore -x {existing.experiment_id}    "
            "or record in another: export MLFLOW_EXPERIMENT_NAME=NAME"
        )
    if existing and name and number not in ("", existing.experiment_id):
        raise UserError(
            f"MLFLOW_EXPERIMENT_NAME={name} is experiment {existing.experiment_id}, and MLFLOW_EXPERIMENT_ID={number} "
            "another. Set one of them: unset MLFLOW_EXPERIMENT_ID"
        )
    if existing:
        return existing.experiment_id
    # A server has its own artifact store; with SQLite, artifacts would go to whatever folder is current.
    local = (root / "mlartifacts").as_uri() if client.tracking_uri.startswith("sqlite:") else None
    try:
        return client.create_experiment(name or EXPERIMENT, artifact_location=local)
    except MlflowException:
        # Another first run has created it meanwhile, or the store has and then failed to say so.
        if made := client.get_experiment_by_name(name or EXPERIMENT):
            return made.experiment_id
        raise


def _environment() -> tuple[str, str]:
    return os.environ.get("MLFLOW_EXPERIMENT_NAME", "").strip(), os.environ.get("MLFLOW_EXPERIMENT_ID", "").strip()


def _by_id(client: MlflowClient, number: str) -> Any:
    try:
        return client.get_experiment(number)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise UserError(
            f"MLFLOW_EXPERIMENT_ID={number}: {store_errors.store_title(client.tracking_uri)} has no such experiment. Give "
            "the id of one that it has (mlflow experiments search lists them), or: unset MLFLOW_EXPERIMENT_ID"
        ) from None


if __name__ == "__main__":
    try:
        with open_client(Path.cwd()):
            pass
    except UserError as error:
        sys.exit(f"error: {error}")

"""A checkout -> an open tracking store: its address, its client, and the experiment that new runs belong to.

    python -m tunetrail.tracking.connection   makes the store of the checkout that is the current folder, where there is none

One of the few files that talk to MLflow. A store that cannot be opened or asked is said once, with the fix, after seconds.
Not covered: finding runs, which is `store`'s, and how a store can fail, which is `outage`'s.
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
from tunetrail.tracking import outage

EXPERIMENT = "tunetrail"
FAULTS = (MlflowException, sqlalchemy.exc.SQLAlchemyError, OSError)  # of a store that is asked; requests' are OSErrors
_SECONDS = 10  # for an answer the first time
_asked: set[str] = set()  # the addresses that have answered this process


def uri(root: Path) -> str:
    """The tracking URI: MLFLOW_TRACKING_URI, or the checkout's own SQLite file. A file's path is made absolute, and the
    user and password of a server's address move into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.

    It is handed to children. A server gets three tries of 20 seconds, where MLflow's own patience blocks for minutes.

    Raises:
        UserError: it can be no store's address.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # its line has the address as it was given
    os.environ.setdefault("PGCONNECT_TIMEOUT", str(_SECONDS))
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip() or "sqlite:///mlflow.db"
    outage.check_address(uri)
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
    """A server's address, its user and password handed on as MLflow takes them from the environment."""
    with contextlib.suppress(ValueError):
        parts = urllib.parse.urlsplit(address)
        given, _, host = parts.netloc.rpartition("@")
        user, _, password = given.partition(":")
        if user and password:
            os.environ["MLFLOW_TRACKING_USERNAME"] = urllib.parse.unquote(user)
            os.environ["MLFLOW_TRACKING_PASSWORD"] = urllib.parse.unquote(password)
            return parts._replace(netloc=host).geturl()
    return address


@contextlib.contextmanager
def open_client(root: Path) -> Iterator[MlflowClient]:
    """A client of the store; what the store cannot do is said with the fix.

    Raises:
        UserError: the store cannot be opened, or does not have what the body asks of it.
    """
    address = uri(root)
    for name in ("mlflow.store.db.utils", "urllib3.connectionpool"):  # they log every table, try and fault, with the SQL
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        client = _opened(address)
    except UserError:
        raise
    except Exception as error:  # a driver's, alembic's, SQLAlchemy's, the system's: each has its own family
        raise outage.explained(address, error) from error
    try:
        yield client
    except FAULTS as error:
        path, file = getattr(error, "filename", None), outage.file(address)
        if path and not (file and str(path).startswith(str(file))):  # of the body, and none of the store's
            raise UserError(f"{path}: {error.strerror or error}") from error
        raise outage.explained(address, error) from error


def _opened(address: str) -> MlflowClient:
    """A client that has had an answer, without MLflow's own retries, which take minutes."""
    file = outage.file(address)
    if file:
        _made(file)
        if address not in _asked:
            outage.check(file, _SECONDS)
    elif address not in _asked and address.startswith(("http://", "https://")):
        with _impatient():
            MlflowClient(address).search_experiments(max_results=1)
    elif address not in _asked and "://" in address and not address.startswith(("file:", "databricks", "uc")):
        _connect(address)
    client = MlflowClient(address)
    _asked.add(address)
    return client


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """One repeated try of ten seconds, unless the person has set less."""
    kept = {name: os.environ[name] for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT")}
    for name, most in zip(kept, (1, _SECONDS), strict=True):
        with contextlib.suppress(ValueError):
            os.environ[name] = str(min(int(kept[name]), most))
    try:
        yield
    finally:
        os.environ.update(kept)


def _connect(address: str) -> None:
    """Connect to a database once.

    Raises:
        Exception: the driver's, or a TimeoutError.
    """
    if sqlalchemy.make_url(address).get_backend_name() not in ("postgresql", "mysql", "mssql"):
        return  # MLflow says what it takes
    answer: Future[None] = Future()

    def ask() -> None:
        try:
            sqlalchemy.create_engine(address, poolclass=sqlalchemy.pool.NullPool).connect().close()
            answer.set_result(None)
        except Exception as error:
            answer.set_exception(error)

    Thread(target=ask, daemon=True).start()  # looking up a name, and some drivers, have no limit of their own
    try:
        answer.result(2 * _SECONDS)
    except TimeoutError:
        raise TimeoutError(f"no answer within {2 * _SECONDS} s") from None


def _made(file: Path) -> None:
    """Make the store's SQLite file where there is none or an empty one: beside its place, and whole before it is there.

    MLflow makes its tables one by one, and several processes at once make the same ones.
    """
    file = file.resolve()  # a link stays one
    if file.is_dir() or (file.is_file() and file.stat().st_size):
        return
    lock, partial = (file.with_name(f"{file.name}.{suffix}") for suffix in ("lock", "partial"))
    with locks.wait_for_lock(lock):
        if not (file.is_file() and file.stat().st_size):  # else another process has made it meanwhile
            partial.unlink(missing_ok=True)  # of one that was killed
            MlflowClient(f"sqlite:///{partial}").search_experiments()
            partial.replace(file)
        lock.unlink()


def asked_for(client: MlflowClient) -> str | None:
    """The id of the experiment that the environment names; "" where it is not there yet, None where none is named."""
    name, number = _environment()
    if not name:
        return number or None
    found = client.get_experiment_by_name(name)
    return found.experiment_id if found else ""


def experiment(client: MlflowClient, root: Path) -> str:
    """The id of the experiment that new runs belong to, made where there is none of its name.

    As MLflow takes it: MLFLOW_EXPERIMENT_NAME, else MLFLOW_EXPERIMENT_ID, else our own name.

    Raises:
        UserError: the two contradict each other, there is none of this id, or it was deleted.
    """
    name, number = _environment()
    found = _by_id(client, number) if number and not name else client.get_experiment_by_name(name or EXPERIMENT)
    if found and found.lifecycle_stage == "deleted":
        raise UserError(
            f"the experiment {found.name} was deleted, so it takes no runs. Bring it back: "
            f"{outage.command(client.tracking_uri, root)}mlflow experiments restore -x {found.experiment_id}    "
            "or record in another: export MLFLOW_EXPERIMENT_NAME=NAME"
        )
    if found and name and number not in ("", found.experiment_id):
        raise UserError(
            f"MLFLOW_EXPERIMENT_NAME={name} is experiment {found.experiment_id}, and MLFLOW_EXPERIMENT_ID={number} "
            "another. Set one of them: unset MLFLOW_EXPERIMENT_ID"
        )
    if found:
        return found.experiment_id
    # A server keeps artifacts where it was told to; beside our own SQLite file they would else go to the current folder.
    local = (root / "mlartifacts").as_uri() if client.tracking_uri.startswith("sqlite:") else None
    try:
        return client.create_experiment(name or EXPERIMENT, artifact_location=local)
    except MlflowException as error:  # another first run has made it since
        if error.error_code == "RESOURCE_ALREADY_EXISTS" and (made := client.get_experiment_by_name(name or EXPERIMENT)):
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
            f"MLFLOW_EXPERIMENT_ID={number}: {outage.named(client.tracking_uri)} has no such experiment. Give the id of one "
            "that it has (mlflow experiments search lists them), or: unset MLFLOW_EXPERIMENT_ID"
        ) from None


if __name__ == "__main__":
    try:
        with open_client(Path.cwd()):
            pass
    except UserError as error:
        sys.exit(f"error: {error}")

"""A tracking store's exception -> one message: which store, what is wrong with it, and the fix.

Of the stores only SQLite files are read, without MLflow.
"""

import contextlib
import functools
import importlib.metadata
import importlib.util
import re
import shlex
import sqlite3
import sys
import urllib.parse
from pathlib import Path

from tunetrail import UserError, redaction

_LONGEST = 400  # characters of a tool's own message
_PACKAGES = {"MySQLdb": "mysqlclient", "pymysql": "PyMySQL", "psycopg2": "psycopg2-binary", "psycopg": "'psycopg[binary]'"}
_HALF = ("already exists", "duplicate column", "no such table", "no such column")  # SQLite's, after a broken migration
_REFUSED = ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED")  # MLflow's words for 401 and 403
_IN_MEMORY = re.compile(r"sqlite(?:\+\w+)?:(?://)?/?(?:$|\?|(?:file:)?:memory:(?:\?|$)|file:[^?]*\?(?:.*&)?mode=memory)")
_NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_PARAMETER_VALUE", "INVALID_STATE")
_OWN = "unset MLFLOW_TRACKING_URI, which keeps the record in this checkout"


def store_title(address: str) -> str:
    """Return the store's name in messages."""
    return f"tracking store {redaction.redact_address(' '.join(address.split()))}"


def check_address(address: str) -> None:
    """Raise UserError, without the password, if this cannot be a store's address. No connection is made."""
    if redaction.is_ambiguous(address):
        raise UserError(
            "tracking store MLFLOW_TRACKING_URI: an @ is after a /, ? or #, so where its password ends is not known, "
            "and nothing was asked. A / in a password is written %2F, a ? %3F, a # %23: correct MLFLOW_TRACKING_URI."
        )
    if _IN_MEMORY.match(address):
        raise UserError(
            "tracking store MLFLOW_TRACKING_URI: SQLite would keep it in memory, where each process has its own and loses "
            "it when it ends. Give a file: MLFLOW_TRACKING_URI=sqlite:///mlflow.db"
        )
    if server := re.fullmatch(r"(?!.*://)(?:.*@)?((?:\[[\da-fA-F:.]+\]|[\w.-]+):\d{1,5})(?:/.*)?", address):
        raise UserError(
            f"tracking store MLFLOW_TRACKING_URI: http:// is missing before {server[1]}. Give "
            f"MLFLOW_TRACKING_URI=http://{server[1]}"
        )


def file(address: str) -> Path | None:
    """Return the file of an SQLite address; None for any other address."""
    path = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]+)(?:\?.*)?", address)
    return Path(path[1]) if path and not path[1].startswith("file:") else None


def command(address: str, root: Path) -> str:
    """Return the prefix with which a `mlflow` command uses this store; "" if the environment names it already."""
    own = f"sqlite:///{root / 'mlflow.db'}"
    return f"MLFLOW_TRACKING_URI={shlex.quote(own)} " if address == own else ""


def check(store: Path, patience: float) -> None:
    """Raise UserError if SQLite cannot read the file, waiting `patience` seconds for a lock, or if this MLflow does not know
    its schema."""
    if store.is_dir():
        raise UserError(
            f"tracking store {store} is a folder. Give a file in it: MLFLOW_TRACKING_URI=sqlite:///{store}/mlflow.db"
        )
    revision = None
    try:
        address = f"file:{urllib.parse.quote(str(store))}?mode=rw"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=patience)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            ((health,),) = database.execute("PRAGMA quick_check(1)")
            if health != "ok":
                raise sqlite3.DatabaseError(f"malformed ({health})")
            if "alembic_version" in tables:
                revision = (database.execute("SELECT version_num FROM alembic_version").fetchone() or [None])[0]
    except sqlite3.Error as error:
        raise explained(f"sqlite:///{store}", error) from error
    if revision and revision not in schemas()[1]:
        here = importlib.metadata.version("mlflow")
        raise UserError(
            f"tracking store {store} has schema {revision}, which MLflow {here} does not know: a newer MLflow wrote it. "
            f"Use that MLflow, or another store: {_OWN}"
        )


@functools.cache
def schemas() -> tuple[str, set[str]]:
    """Return the newest revision of MLflow's database schema, and all of them, as its own migrations name them."""
    folder = Path(importlib.util.find_spec("mlflow").origin).parent / "store" / "db_migrations" / "versions"
    text = "\n".join(file.read_text(encoding="utf-8") for file in folder.glob("*.py"))
    known = set(re.findall(r'^revision = "(\w+)"', text, re.MULTILINE))
    (newest,) = known - set(re.findall(r'^down_revision = "(\w+)"', text, re.MULTILINE))
    return newest, known


def is_refusal(error: Exception) -> bool:
    """Return whether the store answered, and will not answer otherwise if it is asked again."""
    return getattr(error, "error_code", "") in (*_REFUSED, *_NOT_THERE)


def explained(address: str, error: Exception) -> UserError:
    """Return the error as a message with the fix."""
    title = store_title(address)
    text = _text(error, address)
    if isinstance(error, ModuleNotFoundError):
        package = _PACKAGES.get(error.name or "", error.name)
        install = f"{shlex.quote(sys.executable)} -m uv pip install {package}"
        return UserError(
            f"{title}: its driver, the package {package}, is not installed. Install it: {install}    or {_OWN}."
        )
    if "filesystem tracking backend" in text:
        return UserError(
            f"{title}: MLflow takes no new records in a folder of files. Keep the record in a database, "
            f"MLFLOW_TRACKING_URI=sqlite:///mlflow.db, into which `mlflow migrate-filestore` copies the old one; or {_OWN}."
        )
    if not re.match(r"(https?|postgresql|mysql|mssql|sqlite)[:+]", address):
        return UserError(
            f"{title}: MLflow has no store at such an address. Give MLFLOW_TRACKING_URI one that starts with http://, "
            f"https://, sqlite:///, postgresql://, mysql:// or mssql://; or {_OWN}."
        )
    if getattr(error, "error_code", "") in _REFUSED:
        return UserError(
            f"{title}: {text}. Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, to what "
            f"it accepts, or correct MLFLOW_TRACKING_URI, or {_OWN}."
        )
    if getattr(error, "error_code", "") in _NOT_THERE:
        return UserError(f"{title}: {text}.")
    if store := file(address):
        return UserError(f"{title}: {_file_fault(store, text, error)}")
    return UserError(f"{title}: {text}. Start it, or correct MLFLOW_TRACKING_URI, or {_OWN}.")


def _file_fault(store: Path, text: str, error: Exception) -> str:
    move = f"mv {shlex.quote(str(store))} {shlex.quote(f'{store}.broken')}    A new one is made by the next command."
    family, kind = type(error).__module__.partition(".")[0], type(error).__name__
    if family == "builtins" and not isinstance(error, OSError):  # the file is not the reason
        reason = kind if text == kind else f"{kind}: {text}"
        return f"could not be opened ({reason}). The file is left as it is. Try again."
    if family == "alembic" or any(phrase in text for phrase in _HALF):
        return f"incomplete: MLflow was stopped while it created or upgraded the tables ({text}). Move it away: {move}"
    if "not a database" in text or "malformed" in text:
        return f"{text}: no SQLite database, or a damaged one. Restore a copy, or move it away: {move}"
    if "locked" in text:
        return f"{text}: another process keeps it locked. Try again when that process has ended."
    if "full" in text or "No space" in text:
        return f"{text}. Free space on its disk: tunetrail gc shows what runs take"
    return f"{text}. Make {store.parent} writable, or give MLFLOW_TRACKING_URI another file."


def _text(error: Exception, address: str) -> str:
    """Return a tool's message on one line, without the address's password, the SQL and links."""
    text = str(getattr(error, "orig", None) or getattr(error, "message", None) or error) or type(error).__name__
    text = re.sub(r"\[SQL: .*|\(Background on this error.*", "", text, flags=re.DOTALL).replace(
        address, store_title(address)
    )
    text = " ".join(redaction.redact(text).split()).rstrip(". ")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"

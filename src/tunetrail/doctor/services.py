"""Checks of the hub, of tokens, of the tracking store and of DVC's remotes -> a line of `doctor` each.

No answer is waited for longer than three seconds. Of an address only the host is printed, of a token only that it is set.
Tokens are not tried, and DVC's remotes are not asked: `dvc status --cloud` does that.
"""

import base64
import contextlib
import importlib.metadata
import importlib.util
import os
import re
import shlex
import sqlite3
import ssl
import threading
import urllib.parse
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import yaml

from tunetrail import UserError
from tunetrail.checkout import dvc
from tunetrail.data import hub
from tunetrail.doctor.lines import PYTHON, Asked, Check, Line
from tunetrail.redaction import host
from tunetrail.tracking import store_errors
from tunetrail.training import checkpoint

_PATIENCE = 3.0  # seconds
# Useful only together.
_PAIRS = (("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"), ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
_TOKENS = ("HF_TOKEN", "MLFLOW_TRACKING_TOKEN", *_PAIRS[0], *_PAIRS[1], "AWS_SESSION_TOKEN")
_SILENT = f"no answer within {_PATIENCE:.0f} s"
_UNTRUSTED = "its certificate is not trusted by this Python"
_OWN_STORE = "unset MLFLOW_TRACKING_URI to keep the record in this checkout"


def check_hub(asked: Asked) -> Line:
    """Check whether the hub answers, and list what conf/ pins of it that is in its cache here."""
    from huggingface_hub import constants

    pinned = _pinned_and_cached(asked.root)
    cached = f"in its cache: {', '.join(pinned) or 'nothing that conf/ pins'}"
    if constants.HF_HUB_OFFLINE:
        fix = "unset HF_HUB_OFFLINE TRANSFORMERS_OFFLINE, or copy the cache from another machine: HF_HOME=FOLDER"
        return Line("ok" if pinned else "warn", f"not asked (HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE); {cached}", fix)
    ((status, answer),) = _get(constants.ENDPOINT)
    if 0 < status < 500 and status not in (403, 407):  # a mirror may have nothing at its root
        return Line("ok", f"{host(constants.ENDPOINT)} answers; {cached}")
    fix = "HF_ENDPOINT=MIRROR or HTTPS_PROXY=PROXY; without the hub: model=local base.base_model=FOLDER "
    fix += "prepare=file prepare.path=FILE evaluate=ifeval evaluate.path=FILE evaluate.hub=null"
    why = answer if status == 0 else f"refused ({status})"
    return Line("warn", f"{host(constants.ENDPOINT)}: {why}; {cached}", fix)


def _pinned_and_cached(root: Path) -> list[str]:
    """Return the options of conf/ (`model=llama3_8b`) that pin something of the hub of which all is in its cache here."""
    options = []
    for group in ("model", "prepare", "evaluate"):
        for file in sorted((root / "conf" / group).glob("*.yaml")):
            option = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
            base, pin = option.get("base") or {}, option.get("hub")
            cached = False
            if pin:
                cached = hub.cached(pin["repo_id"], pin["filename"], pin["revision"], "dataset") is not None
            elif "/" in str(base.get("base_model")) and not checkpoint.is_path(base["base_model"]):
                cached = hub.has_weights(base["base_model"], base["revision_of_model"])
            if cached:
                options.append(f"{group}={file.stem}")
    return options


def check_tokens(_: Asked) -> Line:
    """List which tokens and passwords are set. Neither their values nor their lengths are printed."""
    from huggingface_hub import constants

    token_file = Path(constants.HF_TOKEN_PATH)
    is_set = {name: bool(os.environ.get(name, "").strip()) for name in _TOKENS}
    is_set["the hub's token file"] = token_file.is_file() and bool(token_file.read_text(encoding="utf-8").strip())
    present = ", ".join(name for name in is_set if is_set[name]) or "none"
    absent = ", ".join(name for name in is_set if not is_set[name]) or "none"
    found = f"set: {present}; not set: {absent}"
    for first, second in _PAIRS:
        if is_set[first] != is_set[second]:
            return Line("warn", found, f"set {first} and {second}, or neither: one alone is not used")
    if is_set["HF_TOKEN"] or is_set["the hub's token file"]:
        return Line("ok", found)
    return Line("warn", found, "for gated weights, such as Llama's: hf auth login, or export HF_TOKEN=...")


def check_tracking(asked: Asked) -> Line:
    """Check the store that MLFLOW_TRACKING_URI names, or the checkout's own, without importing MLflow."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip() or "sqlite:///mlflow.db"
    try:
        store_errors.check_address(uri)
    except UserError as error:
        return Line("fail", str(error), _OWN_STORE)
    if uri.startswith("sqlite:///"):
        return _database(asked.root / uri.removeprefix("sqlite:///").partition("?")[0])
    if uri.startswith(("http://", "https://")):
        return _server(uri.rstrip("/"))
    return Line(
        "warn", "neither a server nor an SQLite file, so MLFLOW_TRACKING_URI is not checked", "tunetrail ls tries it"
    )


def _server(uri: str) -> Line:
    (status, answer), (_, version) = _get(f"{uri}/health", f"{uri}/version", headers=_credentials())
    installed = importlib.metadata.version("mlflow")
    if status == 200 and answer == "OK":
        version = version if re.fullmatch(r"\d[\w.+-]{1,30}", version) else "of an unknown version"
        found = f"{host(uri)} answers: MLflow {version} (here {installed})"
        if version.partition(".")[0] == installed.partition(".")[0]:
            return Line("ok", found)
        return Line("warn", found, "install the same major version on the server as here")
    if status in (401, 403):
        fix = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD or MLFLOW_TRACKING_TOKEN, or start it with "
        return Line("fail", f"{host(uri)} refuses ({status})", f"{fix}--allowed-hosts; or {_OWN_STORE}")
    if answer == _UNTRUSTED:
        return Line(
            "warn", f"{host(uri)}: {answer}", "MLFLOW_TRACKING_SERVER_CERT_PATH=FILE names it; tunetrail ls tries it"
        )
    why = answer if status == 0 else f"answers {status}, and not as MLflow does"
    is_running = 0 < status < 500  # another server, or another path of one
    fix = "set MLFLOW_TRACKING_URI to MLflow's address, what its page has before /#" if is_running else "start it"
    return Line("fail", f"{host(uri)}: {why}", f"{fix}; or {_OWN_STORE}")


def _database(file: Path) -> Line:
    if not (file.parent.is_dir() and os.access(file.parent, os.W_OK)):
        return Line("fail", f"{file.parent} is not a folder that can be written to", _OWN_STORE)
    if not file.exists() or file.stat().st_size == 0:
        return Line("ok", f"{file}, which the first run makes")
    if not os.access(file, os.W_OK):
        return Line("fail", f"{file} cannot be written to", f"chmod u+w {shlex.quote(str(file))}; or {_OWN_STORE}")
    try:
        with contextlib.closing(sqlite3.connect(f"file:{urllib.parse.quote(str(file))}?mode=ro", uri=True)) as store:
            ((schema,),) = store.execute("SELECT version_num FROM alembic_version")
            ((runs,),) = store.execute("SELECT COUNT(*) FROM runs")
    except (sqlite3.Error, ValueError):
        return Line("fail", f"{file} is not an MLflow store", f"move it away; or {_OWN_STORE}")
    newest, known = store_errors.schemas()
    if schema == newest:
        return Line("ok", f"{file}, {runs} runs, schema {schema}")
    upgrade = f"mlflow db upgrade {shlex.quote(f'sqlite:///{file}')}"
    fix = upgrade if schema in known else "install the packages of the lock: see lock"
    return Line("fail", f"{file} has schema {schema}, and MLflow here {newest}", fix)


def check_remote(asked: Asked) -> Line:
    """Read DVC's remotes from its config, without asking them, and check that DVC's package for each is installed."""
    if not importlib.util.find_spec("dvc"):
        return Line("fail", "not checked: DVC is not installed", "see lock")
    try:
        settings = dvc.remotes(asked.root)
    except UserError:
        return Line("fail", "DVC cannot read its config", "dvc config --list says why")
    urls = {key[len("remote.") : -len(".url")]: url for key, url in settings.items() if key.endswith(".url")}
    if not urls:
        found = "none, so data and models are on this machine only"
        return Line("warn", found, "dvc remote add --default storage s3://BUCKET/PATH (or ssh://, gs://, a folder)")
    found = ", ".join(f"{name} ({host(url)})" for name, url in urls.items())
    for url in urls.values():
        package = f"dvc_{url.partition('://')[0]}"
        if package in ("dvc_s3", "dvc_gs", "dvc_azure", "dvc_ssh", "dvc_oss") and not importlib.util.find_spec(package):
            fix = f"{PYTHON} -m uv pip install {package.replace('_', '-')}"
            return Line("fail", f"{found}: DVC's package for it is missing", fix)
    if settings.get("core.remote") in urls:
        return Line("ok", f"{found}, by default {settings['core.remote']}")
    return Line("warn", f"{found}, none of them the default", f"dvc remote default {next(iter(urls))}")


CHECKS: dict[str, Check] = {
    "hub": check_hub,
    "tokens": check_tokens,
    "tracking": check_tracking,
    "remote": check_remote,
}


def _credentials() -> dict[str, str]:
    """Return the header with the credentials that MLflow sends, from the environment; nothing if none are set."""
    user, password = (os.environ.get(name, "") for name in _PAIRS[0])
    if user and password:
        return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _get(*urls: str, headers: dict[str, str] | None = None) -> list[tuple[int, str]]:
    """Return for each address the status and the start of the body; 0 and the reason if there is no answer.

    The time limit is kept from outside, since looking up a name has none.
    """
    import requests

    session = requests.Session()
    answers: Future[list[tuple[int, str]]] = Future()

    def ask() -> None:
        answers.set_result([_answer(session, url, headers) for url in urls])

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.result(_PATIENCE)
    except TimeoutError:
        return [(0, _SILENT)] * len(urls)


def _answer(session: Any, url: str, headers: dict[str, str] | None) -> tuple[int, str]:
    try:
        with session.get(url, headers=headers, timeout=_PATIENCE, stream=True) as response:
            body = next(response.iter_content(100), b"") if response.ok else b""
            return response.status_code, body.decode(errors="replace").strip()
    except Exception as error:
        cause: BaseException = error
        while cause.__context__:
            cause = cause.__context__
        if isinstance(cause, TimeoutError):
            return 0, _SILENT
        if isinstance(cause, ssl.SSLCertVerificationError):
            return 0, _UNTRUSTED
        reason = cause.strerror if isinstance(cause, OSError) else None  # the system's words, which quote nothing
        return 0, f"no answer ({reason or type(cause).__name__})"

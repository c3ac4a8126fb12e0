"""The services of a run -> for `doctor`: whether the hub, the tracking store and DVC's remote are there, and with what keys.

No answer is waited for longer than three seconds. What is told of an address is `address`, of a token that it is there. Not
covered: whether a token is good, and whether a DVC remote answers, which `dvc status --cloud` says.
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
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import Future
from pathlib import Path

import yaml

from tunetrail import UserError
from tunetrail.checkout import dvc
from tunetrail.data import hub
from tunetrail.doctor.lines import PYTHON, Asked, Check, Line
from tunetrail.redaction import address
from tunetrail.tracking import outage
from tunetrail.training import checkpoint

_PATIENCE = 3.0  # seconds
# Those that are of use together only, then the others.
_PAIRS = (("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"), ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
_TOKENS = ("HF_TOKEN", "MLFLOW_TRACKING_TOKEN", *_PAIRS[0], *_PAIRS[1], "AWS_SESSION_TOKEN")
_SILENT = f"no answer within {_PATIENCE:.0f} s"
_UNTRUSTED = "its certificate is not known to this Python"
_OWN_STORE = "unset MLFLOW_TRACKING_URI, which keeps the record in this checkout"


def hub_reached(asked: Asked) -> Line:
    """Whether it answers, and which models and files that conf/ pins are here without it."""
    from huggingface_hub import constants

    here = [name for name, there in _pinned(asked.root) if there]
    cached = f"in its cache: {', '.join(here) or 'nothing that conf/ pins'}"
    if constants.HF_HUB_OFFLINE:
        fix = "unset HF_HUB_OFFLINE TRANSFORMERS_OFFLINE, or bring the cache from elsewhere: HF_HOME=FOLDER"
        return Line("ok" if here else "warn", f"not asked (HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE); {cached}", fix)
    ((status, said),) = _get(constants.ENDPOINT)
    if 0 < status < 500 and status not in (403, 407):  # a mirror may have nothing at its root
        return Line("ok", f"{address(constants.ENDPOINT)} answers; {cached}")
    fix = "HF_ENDPOINT=MIRROR or HTTPS_PROXY=PROXY; without it: model=local base.base_model=FOLDER "
    fix += "prepare=file prepare.path=FILE evaluate=ifeval evaluate.path=FILE evaluate.hub=null"
    return Line("warn", f"{address(constants.ENDPOINT)}: {said if status == 0 else f'refused ({status})'}; {cached}", fix)


def _pinned(root: Path) -> list[tuple[str, bool]]:
    """The options of conf/ that pin something of the hub (`model=llama3_8b`), and whether all of it is in its cache here."""
    found = []
    for group in ("model", "prepare", "evaluate"):
        for file in sorted((root / "conf" / group).glob("*.yaml")):
            option = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
            base, pin = option.get("base") or {}, option.get("hub")
            if pin:
                there = hub.cached(pin["repo_id"], pin["filename"], pin["revision"], "dataset") is not None
                found.append((f"{group}={file.stem}", there))
            elif "/" in str(base.get("base_model")) and not checkpoint.is_path(base["base_model"]):
                found.append((f"{group}={file.stem}", hub.has_weights(base["base_model"], base["revision_of_model"])))
    return found


def tokens(_: Asked) -> Line:
    """Which are there. Their values are not told, nor how long they are."""
    from huggingface_hub import constants

    kept = Path(constants.HF_TOKEN_PATH)
    there = {name: bool(os.environ.get(name, "").strip()) for name in _TOKENS}
    there["the hub's token file"] = kept.is_file() and bool(kept.read_text(encoding="utf-8").strip())
    told = "; ".join(
        f"{word}: {', '.join(name for name, yes in there.items() if yes == wanted) or 'none'}"
        for word, wanted in (("there", True), ("not there", False))
    )
    for one, other in _PAIRS:
        if there[one] != there[other]:
            return Line("warn", told, f"set {one} and {other}, or neither: one is of no use alone")
    if there["HF_TOKEN"] or there["the hub's token file"]:
        return Line("ok", told)
    return Line("warn", told, "for gated weights, such as Llama's: hf auth login, or export HF_TOKEN=...")


def tracking(asked: Asked) -> Line:
    """The store that MLFLOW_TRACKING_URI names, or the checkout's own, as `store.uri` has it. MLflow is not imported."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip() or "sqlite:///mlflow.db"
    try:
        outage.check_address(uri)
    except UserError as error:
        return Line("fail", str(error), _OWN_STORE)
    if uri.startswith("sqlite:///"):
        return _database(asked.root / uri.removeprefix("sqlite:///").partition("?")[0])
    if uri.startswith(("http://", "https://")):
        return _server(uri.rstrip("/"))
    return Line("warn", "neither a server nor an SQLite file, so MLFLOW_TRACKING_URI is not asked", "tunetrail ls asks it")


def _server(uri: str) -> Line:
    (status, said), (_, version) = _get(f"{uri}/health", f"{uri}/version", credentials=_credentials())
    here = importlib.metadata.version("mlflow")
    if status == 200 and said == "OK":
        there = version if re.fullmatch(r"\d[\w.+-]{1,30}", version) else "of an unknown version"
        found = f"{address(uri)} answers: MLflow {there} (here {here})"
        if there.partition(".")[0] == here.partition(".")[0]:
            return Line("ok", found)
        return Line("warn", found, "bring the server to the major version that is here")
    if status in (401, 403):
        refused = "give it MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD or MLFLOW_TRACKING_TOKEN, or start it with "
        refused += "--allowed-hosts"
        return Line("fail", f"{address(uri)} refuses ({status})", f"{refused}; or {_OWN_STORE}")
    if said == _UNTRUSTED:
        return Line("warn", f"{address(uri)}: {said}", "MLFLOW_TRACKING_SERVER_CERT_PATH=FILE names it; tunetrail ls asks")
    why = said if status == 0 else f"answers {status}, and not as MLflow does"
    answers = 0 < status < 500  # another server, or another path of one
    fix = "set MLFLOW_TRACKING_URI to MLflow's address, what its page has before /#" if answers else "start it"
    return Line("fail", f"{address(uri)}: {why}", f"{fix}; or {_OWN_STORE}")


def _database(file: Path) -> Line:
    if not (file.parent.is_dir() and os.access(file.parent, os.W_OK)):
        return Line("fail", f"{file.parent} is no folder that can be written to", _OWN_STORE)
    if not file.exists() or file.stat().st_size == 0:
        return Line("ok", f"{file}, which the first run makes")
    if not os.access(file, os.W_OK):
        return Line("fail", f"{file} cannot be written to", f"chmod u+w {shlex.quote(str(file))}; or {_OWN_STORE}")
    try:
        with contextlib.closing(sqlite3.connect(f"file:{urllib.parse.quote(str(file))}?mode=ro", uri=True)) as store:
            ((found,),) = store.execute("SELECT version_num FROM alembic_version")
            ((runs,),) = store.execute("SELECT COUNT(*) FROM runs")
    except (sqlite3.Error, ValueError):
        return Line("fail", f"{file} is no MLflow store", f"move it away; or {_OWN_STORE}")
    newest, known = outage.schemas()
    if found == newest:
        return Line("ok", f"{file}, {runs} runs, schema {found}")
    fix = (
        f"mlflow db upgrade {shlex.quote(f'sqlite:///{file}')}"
        if found in known
        else "bring the environment in step with the lock"
    )
    return Line("fail", f"{file} has schema {found}, and MLflow here {newest}", fix)


def remote(asked: Asked) -> Line:
    """DVC's remotes by DVC's own config, without asking them, and whether DVC's package for such a place is here."""
    if not importlib.util.find_spec("dvc"):
        return Line("fail", "not looked for: DVC is not installed", "see lock")
    try:
        settings = dvc.remotes(asked.root)
    except UserError:
        return Line("fail", "DVC does not read its config", "dvc config --list says why")
    urls = {key[len("remote.") : -len(".url")]: url for key, url in settings.items() if key.endswith(".url")}
    if not urls:
        found = "DVC has none, so data and models are on this machine alone"
        return Line("warn", found, "dvc remote add --default storage s3://BUCKET/PATH (or ssh://, gs://, a folder)")
    told = ", ".join(f"{name} ({address(url)})" for name, url in urls.items())
    for url in urls.values():
        package = f"dvc_{url.partition('://')[0]}"
        if package in ("dvc_s3", "dvc_gs", "dvc_azure", "dvc_ssh", "dvc_oss") and not importlib.util.find_spec(package):
            fix = f"{PYTHON} -m uv pip install {package.replace('_', '-')}"
            return Line("fail", f"{told}: DVC's package for it is missing", fix)
    if settings.get("core.remote") in urls:
        return Line("ok", f"{told}, by default {settings['core.remote']}")
    return Line("warn", f"{told}, none of them the default", f"dvc remote default {next(iter(urls))}")


CHECKS: dict[str, Check] = {"hub": hub_reached, "tokens": tokens, "tracking": tracking, "remote": remote}


def _credentials() -> str:
    """The Authorization header that MLflow sends, from the environment; empty without."""
    user, password = (os.environ.get(name, "") for name in _PAIRS[0])
    if user and password:
        return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return f"Bearer {token}" if token else ""


def _get(*urls: str, credentials: str = "") -> list[tuple[int, str]]:
    """For each address the status and the beginning of the body; 0 and why where there is no answer.

    The limit is kept from outside, since looking up a name has none of its own.
    """
    answers: Future[list[tuple[int, str]]] = Future()

    def ask() -> None:
        answers.set_result([_answer(url, credentials) for url in urls])

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.result(_PATIENCE)
    except TimeoutError:
        return [(0, _SILENT)] * len(urls)


def _answer(url: str, credentials: str) -> tuple[int, str]:
    try:
        parts = urllib.parse.urlsplit(url)
        given, _, host = parts.netloc.rpartition("@")
        request = urllib.request.Request(parts._replace(netloc=host).geturl())
        if given:
            credentials = f"Basic {base64.b64encode(urllib.parse.unquote(given).encode()).decode()}"
        if credentials:
            request.add_unredirected_header("Authorization", credentials)
        with urllib.request.urlopen(request, timeout=_PATIENCE) as response:
            return response.status, response.read(100).decode(errors="replace").strip()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except Exception as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            return 0, _SILENT
        if isinstance(reason, ssl.SSLCertVerificationError):
            return 0, _UNTRUSTED
        system = reason.strerror if isinstance(reason, OSError) else None  # the system's words, which quote nothing
        return 0, f"no answer ({system or type(reason).__name__})"

"""The checks against real servers, stores and DVC configs."""

import base64
import importlib.metadata
import importlib.util
import json
import shutil
import socket
import sqlite3
import ssl
import subprocess
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants

from tests.conftest import ROOT
from tunetrail.doctor import services
from tunetrail.doctor.lines import Asked
from tunetrail.tracking import store_errors

MLFLOW = {"/health": (200, "OK"), "/version": (200, importlib.metadata.version("mlflow"))}
REVISION = "a" * 40


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    """Remove the user's settings and the proxies from the environment."""
    for name in (*services._TOKENS, "MLFLOW_TRACKING_URI", "http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


class Server(ThreadingHTTPServer):
    """Answer by path as `answers` says: a status and a body, or with 302 an address. Record the credentials sent."""

    def __init__(self, answers):
        self.answers, self.credentials = dict(answers), []
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.credentials.append(self.headers["Authorization"])
        status, body = self.server.answers.get(self.path, (404, ""))
        self.send_response(status)
        if status == 302:
            self.send_header("Location", body)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    """Start a server that gives these answers."""
    servers = []

    def start(answers):
        servers.append(Server(answers))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def tracked(monkeypatch, tmp_path):
    """Return a function that checks the tracking store at an address, or the checkout's own."""

    def line(uri=None):
        if uri:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        return services.check_tracking(Asked(tmp_path))

    return line


def test_the_line_of_a_tracking_server_has_its_version_and_the_one_here(tracked, serve):
    server, here = serve(MLFLOW), importlib.metadata.version("mlflow")
    line = tracked(f"http://{server.address}/")
    assert (line.mark, line.found) == ("ok", f"http://{server.address} answers: MLflow {here} (here {here})")
    server.answers["/version"] = (200, "2.22.0")
    assert tracked().mark == "warn"
    server.answers["/version"] = (200, "<html>\x1b[31m")
    assert "MLflow of an unknown version" in tracked().found


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("http://bob:12/s3cret@{}/", "A / in a password is written %2F"),
        ("{}", "http:// is missing before 127.0.0.1:"),
        ("sqlite:///:memory:", "in memory"),
    ],
)
def test_an_invalid_store_address_is_red_and_its_password_is_not_printed(tracked, serve, address, says):
    line = tracked(address.format(serve(MLFLOW).address))
    assert line.mark == "fail"
    assert says in line.found
    assert "s3cret" not in line.found


def test_white_space_around_an_address_is_ignored(tracked, serve):
    assert tracked(f" http://{serve(MLFLOW).address}\n").mark == "ok"


@pytest.mark.parametrize(
    ("answers", "message", "fix"),
    [
        ({}, "answers 404, and not as MLflow does", "set MLFLOW_TRACKING_URI to"),
        ({"/health": (200, "hello")}, "answers 200, and not as MLflow does", "set MLFLOW_TRACKING_URI to"),
        ({"/health": (503, "")}, "answers 503, and not as MLflow does", "start it"),
        (
            {"/health": (403, "")},
            "refuses (403)",
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD or MLFLOW_TRACKING_TOKEN",
        ),
    ],
)
def test_another_server_or_one_that_refuses_is_red(tracked, serve, answers, message, fix):
    line = tracked(f"http://{serve(answers).address}")
    assert line.mark == "fail"
    assert message in line.found
    assert line.fix.startswith(fix)
    assert "unset MLFLOW_TRACKING_URI" in line.fix


def test_a_port_where_nobody_listens_is_red_with_the_systems_reason(tracked):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = "{}:{}".format(*listener.getsockname())
    line = tracked(f"http://{address}")
    assert line.found == f"http://{address}: no answer (Connection refused)"
    assert line.fix.startswith("start it")


def test_a_name_server_that_does_not_answer_is_not_waited_for(tracked, monkeypatch):
    """The system resolves a host name without a timeout; here it takes long."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(20))
    monkeypatch.setattr(services, "_PATIENCE", 0.5)
    started = time.monotonic()
    assert tracked("http://host.invalid").found == "http://host.invalid: no answer within 3 s"
    assert time.monotonic() - started < 15


def test_the_tracking_server_gets_the_credentials_that_mlflow_would_send(tracked, serve, monkeypatch):
    server = serve(MLFLOW)

    def credentials(uri=f"http://{server.address}"):
        server.credentials.clear()
        assert tracked(uri).mark == "ok"
        (header,) = set(server.credentials)
        return header

    def basic(text):
        return f"Basic {base64.b64encode(text.encode()).decode()}"

    assert credentials() is None
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "a-token")
    assert credentials() == "Bearer a-token"
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "word")
    assert credentials() == basic("me:word")
    assert credentials(f"http://you:w%40rd@{server.address}") == basic("you:w@rd")


def test_credentials_do_not_follow_a_redirection_to_another_server(tracked, serve, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "a-token")
    other = serve(MLFLOW)
    server = serve({path: (302, f"http://{other.address}{path}") for path in MLFLOW})
    assert tracked(f"http://{server.address}").mark == "ok"
    assert set(server.credentials) == {"Bearer a-token"}
    assert set(other.credentials) == {None}


def test_an_untrusted_certificate_is_yellow(tracked, serve, tmp_path):
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate with")
    words = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=127.0.0.1 -keyout key.pem -out cert.pem"
    subprocess.run(["openssl", *words.split()], cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server = serve(MLFLOW)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    line = tracked(f"https://{server.address}")
    assert (line.mark, line.found) == ("warn", f"https://{server.address}: its certificate is not trusted by this Python")


def test_the_line_of_a_database_server_says_that_it_is_not_contacted(tracked):
    line = tracked("postgresql://me:secret@host/mlflow")
    assert (line.mark, line.fix) == ("warn", "tunetrail ls tries it")


def test_the_checkouts_own_store_is_made_by_the_first_run(tracked, tmp_path):
    line = tracked()
    assert (line.mark, line.found) == ("ok", f"{tmp_path / 'mlflow.db'}, which the first run makes")
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.stage
def test_a_store_of_another_mlflow_is_red_with_the_fix(root):
    file, newest = root / "mlflow.db", store_errors.schemas()[0]
    line = services.check_tracking(Asked(root))
    assert (line.mark, line.found) == ("ok", f"{file}, 0 runs, schema {newest}")
    for version, fix in (
        ("0584bdc529eb", f"mlflow db upgrade sqlite:///{file}"),  # a schema of 2024
        ("of-a-later-mlflow", "install the packages of the lock: see lock"),
    ):
        with closing(sqlite3.connect(file)) as store, store:
            store.execute("UPDATE alembic_version SET version_num = ?", [version])
        line = services.check_tracking(Asked(root))
        assert (line.mark, line.fix) == ("fail", fix)
        assert version in line.found


def test_a_file_that_is_not_a_store_and_a_missing_folder_are_red(tracked, tmp_path):
    (tmp_path / "mlflow.db").write_text("no database at all, but long enough to look at")
    assert "is not an MLflow store" in tracked().found
    with closing(sqlite3.connect(tmp_path / "other.db")) as store, store:
        store.execute("CREATE TABLE runs (id TEXT)")
    assert "is not an MLflow store" in tracked("sqlite:///other.db").found
    line = tracked(f"sqlite:///{tmp_path}/nowhere/mlflow.db")
    assert (line.mark, line.found) == ("fail", f"{tmp_path}/nowhere is not a folder that can be written to")


@pytest.fixture
def hub(monkeypatch, tmp_path, serve):
    """Point the hub to a local server with an empty cache; return a function that gives the server and its line."""
    server = serve({"": (200, ""), "/": (200, "")})
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    monkeypatch.setattr(constants, "ENDPOINT", f"http://{server.address}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return lambda: (server, services.check_hub(Asked(tmp_path)))


def keep(folder, repo_id, revision, files):
    """Put files into the hub's cache, as its client stores them."""
    snapshot = folder / "hub" / repo_id / "snapshots" / revision
    snapshot.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (snapshot / name).write_text(text)


@pytest.mark.parametrize(("status", "mark"), [(200, "ok"), (401, "ok"), (404, "ok"), (403, "warn"), (502, "warn")])
def test_a_hub_that_answers_is_ok_unless_a_proxy_refuses(hub, status, mark):
    server, _ = hub()
    server.answers["/"] = server.answers[""] = (status, "")
    assert hub()[1].mark == mark


def test_an_unreachable_hub_is_yellow_with_what_works_without_it(hub, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr(constants, "ENDPOINT", "http://{}:{}".format(*listener.getsockname()))
    line = hub()[1]
    assert line.mark == "warn"
    assert "no answer (Connection refused); in its cache: nothing that conf/ pins" in line.found
    assert "model=local" in line.fix


def test_offline_the_hub_is_not_contacted_and_its_complete_cached_files_are_listed(hub, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    server, line = hub()
    assert (line.mark, server.credentials) == ("warn", [])
    smollm2 = ("models--HuggingFaceTB--SmolLM2-135M", "93efa2f097d58c2a74874c7e644dbc9b0cee75a2")
    llama3 = ("models--meta-llama--Meta-Llama-3-8B", "8cde5ca8380496c9a6cc7ef3a8b46a0372a1d920")
    index = json.dumps({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}})
    keep(tmp_path, *smollm2, {"config.json": "{}", "model.safetensors": ""})
    keep(tmp_path, *llama3, {"config.json": "{}", "model.safetensors.index.json": index, "1.safetensors": ""})
    keep(tmp_path, "datasets--google--IFEval", "966cd89545d6b6acfd7638bc708b98261ca58e84", {"ifeval_input_data.jsonl": ""})
    keep(tmp_path, "models--HuggingFaceTB--SmolLM2-135M", REVISION, {})
    line = hub()[1]
    assert line.mark == "ok"
    assert line.found.endswith("in its cache: model=smollm2_135m, evaluate=ifeval")
    keep(tmp_path, *llama3, {"2.safetensors": ""})
    assert "model=llama3_8b, model=smollm2_135m" in hub()[1].found


def test_tokens_are_listed_as_set_or_not_and_a_pair_must_be_complete(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    line = services.check_tokens(Asked(tmp_path))
    assert line.mark == "warn"
    assert line.found.startswith("set: none; not set: HF_TOKEN, ")
    assert "hf auth login" in line.fix
    (tmp_path / "token").write_text("\n")
    assert services.check_tokens(Asked(tmp_path)).mark == "warn"
    (tmp_path / "token").write_text("hf_x\n")
    line = services.check_tokens(Asked(tmp_path))
    assert (line.mark, line.found.split(";")[0]) == ("ok", "set: the hub's token file")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    line = services.check_tokens(Asked(tmp_path))
    assert (line.mark, "AWS_SECRET_ACCESS_KEY" in line.fix) == ("warn", True)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    assert services.check_tokens(Asked(tmp_path)).mark == "ok"


@pytest.fixture
def remote(tmp_path):
    """Return a function that writes DVC's config and checks the checkout's remotes."""
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / ".dvc").mkdir()

    def line(config):
        (tmp_path / ".dvc" / "config").write_text(config)
        return services.check_remote(Asked(tmp_path))

    return line


def test_the_fix_of_a_missing_remote_adds_one(remote, tmp_path):
    line = remote("")
    assert line.mark == "warn"
    words = line.fix.partition(" s3://")[0].split()
    assert words == ["dvc", "remote", "add", "--default", "storage"]
    subprocess.run([*words, str(tmp_path / "far")], cwd=tmp_path, check=True, capture_output=True)
    assert services.check_remote(Asked(tmp_path)).found == f"storage ({tmp_path / 'far'}), by default storage"


def test_remotes_are_listed_without_passwords_and_one_should_be_the_default(remote):
    far = "['remote \"far.away\"']\n    url = https://me:secret@host/secret\n    password = secret\n"
    line = remote(far)
    assert (line.mark, line.found) == ("warn", "far.away (https://host), none of them the default")
    assert line.fix == "dvc remote default far.away"
    line = remote(f"[core]\n    remote = far.away\n{far}")
    assert (line.mark, line.found) == ("ok", "far.away (https://host), by default far.away")


def test_a_remote_whose_package_is_missing_is_red(remote):
    package = "dvc_oss"
    assert not importlib.util.find_spec(package)
    line = remote("['remote \"far\"']\n    url = oss://bucket/path\n")
    assert (line.mark, line.fix.endswith("uv pip install dvc-oss")) == ("fail", True)


def test_a_config_that_dvc_cannot_read_is_red_and_none_of_it_is_printed(remote):
    line = remote("['remote \"far\"']\n    url = secret\n    url = secret\n")
    assert (line.mark, line.found) == ("fail", "DVC cannot read its config")

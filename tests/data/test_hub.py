"""The hub's own client with a local server that answers as the hub does."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants

from tunetrail import UserError
from tunetrail.data import hub

COMMIT = "a" * 40
ROWS = b'[{"instruction": "i", "input": "", "output": "o"}]'
PLACE = "/datasets/org/rows/resolve"
ERRORS = {
    "/gated/model": (403, "GatedRepo"),
    "/no/such": (404, "RepoNotFound"),
    f"{PLACE}/old": (404, "RevisionNotFound"),
    f"{PLACE}/{COMMIT}/other": (404, "EntryNotFound"),
}


class Hub(BaseHTTPRequestHandler):
    def do_HEAD(self):
        if self.path in (f"{PLACE}/{COMMIT}/rows.json", f"{PLACE}/main/rows.json"):
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha1(ROWS).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(ROWS)))
            self.end_headers()
            return
        status, code = next(answer for start, answer in ERRORS.items() if self.path.startswith(start))
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(ROWS)

    def log_message(self, *_):
        pass


@pytest.fixture
def served(monkeypatch, tmp_path):
    """Start the local hub with an empty cache; yield a function that stops it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    def close():
        server.shutdown()
        server.server_close()

    yield close
    close()


def test_a_file_is_fetched_unchanged_and_the_second_time_from_the_cache(served):
    file = hub.fetch("org/rows", "rows.json", COMMIT, repo_type="dataset")
    assert file.read_bytes() == ROWS
    assert file.parent.name == COMMIT
    served()
    assert hub.fetch("org/rows", "rows.json", COMMIT, repo_type="dataset") == file


def test_the_path_of_an_unpinned_file_has_its_commit(served):
    assert hub.fetch("org/rows", "rows.json", None, repo_type="dataset").parent.name == COMMIT


@pytest.mark.parametrize(
    ("repo_id", "filename", "revision", "message"),
    [
        ("gated/model", "config.json", COMMIT, "is gated. Accept its licence at huggingface.co/gated/model"),
        ("no/such", "rows.json", COMMIT, "no/such: no such dataset on the hub"),
        ("org/rows", "rows.json", "old", "org/rows at old: no such revision"),
        ("org/rows", "other.json", COMMIT, "has no file other.json"),
    ],
)
def test_each_error_of_the_hub_has_a_fix(served, monkeypatch, repo_id, filename, revision, message):
    kind = "model" if repo_id == "gated/model" else "dataset"
    if repo_id == "no/such":
        monkeypatch.setitem(ERRORS, "/datasets/no/such", ERRORS["/no/such"])
    with pytest.raises(UserError, match=message):
        hub.fetch(repo_id, filename, revision, repo_type=kind)


def test_without_the_hub_an_unpinned_file_comes_from_the_cache(served):
    file = hub.fetch("org/rows", "rows.json", None, repo_type="dataset")
    served()
    assert hub.fetch("org/rows", "rows.json", None, repo_type="dataset") == file


def test_without_the_hub_and_without_the_file_the_error_has_a_fix(served):
    served()
    with pytest.raises(UserError, match="does not answer\\. Connect and run again, or give a file"):
        hub.fetch("org/rows", "rows.json", COMMIT, repo_type="dataset")


def test_a_file_in_the_cache_is_found_without_the_hub(served):
    assert hub.cached("org/rows", "rows.json", COMMIT, repo_type="dataset") is None
    fetched = hub.fetch("org/rows", "rows.json", COMMIT, repo_type="dataset")
    served()
    assert hub.cached("org/rows", "rows.json", COMMIT, repo_type="dataset") == fetched


def test_weights_are_cached_if_every_shard_is(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert not hub.has_weights("org/model", COMMIT)
    folder = tmp_path / "models--org--model" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    index = {"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in ("config.json", "1.safetensors", "2.safetensors"):
        assert not hub.has_weights("org/model", COMMIT)
        (folder / name).touch()
    assert hub.has_weights("org/model", COMMIT)


def test_a_name_that_is_not_an_id_of_the_hub_is_refused():
    assert hub.cached("my rows", "rows.json", COMMIT) is None
    with pytest.raises(UserError, match="'my rows': not an id of the hub"):
        hub.fetch("my rows", "rows.json", COMMIT)

import hashlib

import pytest

from tunetrail import UserError
from tunetrail.data import sources, world

SIZES = {"rows": 5, "documents": 6, "prompts": 7, "seed": 3}
HUB = {"repo_id": "org/rows", "filename": "r.json", "revision": "a" * 40}
FILES = {"instructions": {"path": "r.jsonl", "hub": None}, "prompts": {"path": "p.jsonl", "hub": None}, "generate": None}
DEMO = {kind: {"path": world.SOURCE, "hub": None} for kind in ("instructions", "prompts")} | {"generate": SIZES}


def made(rows):
    return {"generator": world.SOURCE, "seed": 3, "rows": rows}


@pytest.mark.parametrize(
    ("fetch", "expected"),
    [
        (FILES, {"instructions": {"path": "r.jsonl"}, "prompts": {"path": "p.jsonl"}}),
        (DEMO, {"instructions": made(5), "text": made(6), "prompts": made(7)}),
        (
            DEMO | {"prompts": {"path": "p.jsonl", "hub": None}},
            {"instructions": made(5), "text": made(6), "prompts": {"path": "p.jsonl"}},
        ),
        (
            FILES | {"instructions": {"path": "conf/prepare/x.yaml", "hub": HUB}},
            {"instructions": {"hub": HUB}, "prompts": {"path": "p.jsonl"}},
        ),
    ],
)
def test_each_kind_of_data_has_one_origin(fetch, expected):
    assert sources.origins(fetch) == expected


def test_each_source_has_one_name():
    assert sources.name({"path": "r.jsonl", "file": "r.jsonl"}) == "r.jsonl"
    assert sources.name(made(5) | {"file": "world.jsonl"}) == world.SOURCE
    assert sources.name({"hub": HUB}) == f"hf://datasets/org/rows@{'a' * 40}/r.json"


def fetched(folder, fetch):
    """Write what the stage leaves for the files that `fetch` names."""
    folder.mkdir()
    files = {}
    for kind, origin in sources.origins(fetch).items():
        (folder / kind).write_bytes((folder.parent / origin["path"]).read_bytes())
        files[kind] = sources.describe(folder / kind, origin)
    sources.write(folder, files)
    return files


def test_data_are_up_to_date_by_their_origin_or_their_bytes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.jsonl").write_text("rows")
    (tmp_path / "p.jsonl").write_text("prompts")
    raw = tmp_path / "raw"
    files = fetched(raw, FILES)
    assert sources.read(raw) == files
    assert files["instructions"] == {
        "file": "instructions",
        "md5": hashlib.md5(b"rows").hexdigest(),
        "bytes": 4,
        "path": "r.jsonl",
    }
    assert sources.holds(raw, FILES)
    (tmp_path / "r.jsonl").write_text("changed since")
    assert sources.holds(raw, FILES)
    (tmp_path / "copy.jsonl").write_text("rows")
    assert sources.holds(raw, FILES | {"instructions": {"path": "copy.jsonl", "hub": None}})
    (tmp_path / "copy.jsonl").write_text("other rows")
    for other in ({"path": "copy.jsonl", "hub": None}, {"path": "nowhere", "hub": None}, {"path": "r.jsonl", "hub": HUB}):
        assert not sources.holds(raw, FILES | {"instructions": other})
    assert not sources.holds(raw, DEMO)


def test_data_of_an_earlier_version_are_not_up_to_date(tmp_path):
    assert not sources.holds(tmp_path, FILES)
    with pytest.raises(UserError, match=r"no sources\.json.*dvc repro --force --single-item fetch"):
        sources.read(tmp_path)

"""Against a real SQLite store: where it is, and how runs are found in it."""

import os

from tunetrail import store, tracking


def test_the_uri_is_made_absolute_once_and_handed_to_children(root, monkeypatch):
    assert store.uri(root) == f"sqlite:///{root}/mlflow.db" == os.environ["MLFLOW_TRACKING_URI"]
    monkeypatch.chdir("/")
    assert store.uri(root) == f"sqlite:///{root}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert store.uri(root) == "http://server:5000"


def test_a_run_is_found_by_its_id_the_beginning_of_it_or_its_name(root):
    made = []
    for name in ("demo", "it's 100%", "demo"):
        with tracking.run(root, name) as run:
            made.append(run.id)

    def ids(word):
        return [run.info.run_id for run in store.runs(root, word)]

    assert ids(made[0]) == ids(made[0][:12]) == made[:1]
    assert ids("it's 100%") == [made[1]]
    assert ids("demo") == [made[2], made[0]]  # the newest first
    assert ids("") == made[::-1]
    assert ids("%") == ids("_") == ids("DEMO") == ids("no such") == []


def test_files_of_a_run_come_back_and_missing_ones_are_named(root, capfd):
    (root / "params.yaml").write_text("seed: 1\n")
    with tracking.run(root, "demo") as run:
        run.artifacts(root, "params.yaml")
    (root / "params.yaml").write_text("seed: 2\n")
    assert store.download(root, run.id, ("params.yaml", "dvc.lock"), root / "there") == ["dvc.lock"]
    assert (root / "there" / "params.yaml").read_text() == "seed: 1\n"
    assert "Downloading" not in capfd.readouterr().err

"""Which runs become a version and the champion, with a real SQLite store and real tiny models."""

import dataclasses
import logging
import os
import re
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from tests import tiny_models, trained_runs
from tests.scored_runs import DOTS, TAGS, VALUES, files, finish, metrics, note
from tests.tiny_models import TEMPLATE
from tunetrail import UserError
from tunetrail.checkout import locks
from tunetrail.cli import promote
from tunetrail.tracking import connection, mlflow_run, model_card, registry, store, tags

pytestmark = pytest.mark.stage


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tiny_models.save(tmp_path_factory.mktemp("weights") / "tuned")
    (folder / "optimizer.pt").write_text("no part of the model")
    return files(folder)


@pytest.fixture
def client(root):
    return MlflowClient(connection.uri(root))


def make_champion(root, weights, run, name="demo"):
    """Register the run's model as the champion without any check."""
    version = registry.register(root, name, run, weights, "# card\n")
    registry.crown(root, name, version, [])
    return version


def test_a_run_that_beats_its_base_outside_the_interval_may_be_the_first_champion(root):
    run = finish(root, metrics(10, 60))
    assert registry.objections(root, "demo", run, registry.scores(root, run)) == []


def test_a_model_with_empty_answers_may_not_be_champion_although_its_base_may_have_them(root):
    answers = DOTS | {"ended": 1.0, "says_nothing": 0.1}
    run = finish(root, metrics(10, 60) | {"health": {"base": DOTS, "tuned": answers}})
    assert registry.objections(root, "demo", run, registry.scores(root, run)) == []
    older = {key: answers[key] for key in ("ended", "empty", "looping", "runs_on")}
    run = finish(root, metrics(10, 60) | {"health": {"base": older, "tuned": older}})
    assert registry.objections(root, "demo", run, registry.scores(root, run)) == []
    run = finish(root, metrics(10, 60) | {"health": {"base": answers, "tuned": DOTS}})
    (reason,) = registry.objections(root, "demo", run, registry.scores(root, run))
    assert reason.startswith("Of the answers of tuned 100.0% say nothing (no letter or digit), 100.0% never end")


def test_a_run_whose_interval_includes_zero_may_not_be_champion(root):
    run = finish(root, metrics(10, 12))
    (reason,) = registry.objections(root, "demo", run, registry.scores(root, run))
    assert reason.startswith("it does not beat its base outside the 95 % interval: Prompt Strict +2.0 [-")


@pytest.mark.parametrize(
    ("scores", "messages"),
    [
        (metrics(10, 40), [r"the champion, demo/1, is better: Prompt Strict 50\.0 \[40.4, 59.6\], this run 40\.0 \[.*\]"]),
        (
            metrics(10, 90, "e2"),
            [r"the champion, demo/1, was evaluated differently \(e1, this run e2\).*promote that first"],
        ),
        (metrics(45, 49), ["it does not beat its base .*", "the champion, demo/1, is better.*"]),
        (metrics(10, 50), []),
        (metrics(10, 51), []),
    ],
)
def test_a_run_is_compared_with_the_champion_of_the_same_evaluation(root, weights, scores, messages):
    make_champion(root, weights, finish(root, metrics(10, 50)))
    run = finish(root, scores)
    reasons = registry.objections(root, "demo", run, registry.scores(root, run))
    assert len(reasons) == len(messages)
    assert all(map(re.fullmatch, messages, reasons)), reasons


def test_a_champion_without_scores_in_this_store_cannot_be_compared(root, client):
    client.create_registered_model("demo")
    client.create_model_version("demo", str(root), None)
    client.set_registered_model_alias("demo", "champion", "1")
    run = finish(root, metrics(10, 60))
    (reason,) = registry.objections(root, "demo", run, registry.scores(root, run))
    assert reason == "the champion, demo/1, has no scores in this store, so they cannot be compared"


@pytest.mark.parametrize(
    ("status", "tags", "scores", "message"),
    [
        ("FAILED", {}, metrics(10, 60), r"\(demo\) is FAILED: only a run that finished has a model"),
        ("RUNNING", {}, metrics(10, 60), r"is RUNNING"),
        ("FINISHED", {}, None, r"its record has no scores with intervals \(report/metrics\.json\)"),
        ("FINISHED", {}, {"ifeval": {"delta": {"prompt_strict": 0.5}}}, r"has no scores"),
    ],
)
def test_a_run_without_a_model_to_promote_is_an_error(root, client, status, tags, scores, message):
    with mlflow_run.run(root, "demo") as made:
        made.tags(tags)
    if scores:
        note(root, made.id, scores, **tags)
    client.update_run(made.id, status=status)
    with pytest.raises(UserError, match=message):
        registry.scores(root, store.find(root, made.id))


def test_a_job_of_a_sweep_can_be_promoted(root):
    run = finish(root, metrics(10, 60), **{"sweep": "sweep-1a2b", tags.PARENT: "abc"})
    assert registry.scores(root, run)["evaluation_digest"] == "e1"


def test_a_registered_model_has_the_name_of_its_experiment_or_the_given_one(root):
    run = finish(root, metrics(10, 60))
    assert registry.model_name(run, None) == "demo"
    assert registry.model_name(run, "assistant-1.0") == "assistant-1.0"
    for name in ("a/b", "a:b", "a b", "..", "a@b", "-m"):
        with pytest.raises(UserError, match="cannot name a registered model"):
            registry.model_name(run, name)


def test_a_version_has_the_model_its_card_and_its_licences_and_the_run_stays_as_it_was(root, client, weights, caplog):
    run = finish(root, metrics(10, 60))
    card = model_card.render("demo", run, VALUES | {"train": {}}, registry.scores(root, run), adapter=False)
    assert registry.version(root, "demo", run.id) is None
    number = registry.register(root, "demo", run, weights, card)
    assert registry.version(root, "demo", run.id) == number == "1"
    made = client.get_model_version("demo", "1")
    assert (made.run_id, made.status, made.aliases) == (run.id, "READY", [])
    assert made.tags == {key: TAGS[key] for key in ("model.md5", "evaluation.digest", "data.license", "base.license")}
    assert made.description == card
    after = client.get_run(run.id)
    assert store.recorded(after) == dataclasses.replace(run, tags=run.tags | {"promoted": "demo/1"})
    (output,) = after.outputs.model_outputs
    assert made.source == f"models:/{output.model_id}"
    logged = client.get_logged_model(output.model_id)
    assert (logged.source_run_id, logged.status) == (run.id, "READY")
    folder = Path(logged.artifact_location.removeprefix("file://"))
    copied = {file.name for file in (folder / "artifacts" / "tuned").iterdir()}
    assert copied == {file.name for file in weights.tuned.iterdir()} - {"optimizer.pt"}
    assert (folder / "model_card.md").read_text() == card
    assert (folder / "requirements.txt").read_text().split() == [
        f"mlflow=={mlflow.__version__}",
        "torch==2.13.0",
        "transformers==5.16.1",
    ]
    assert mlflow.models.Model.load(str(folder)).model_size_bytes == weights.size()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_failed_upload_makes_no_version_and_is_marked_as_failed(root, client, weights):
    run = finish(root, metrics(10, 60))
    (root / "mlartifacts" / "models").write_text("a file where MLflow wants a folder")
    with pytest.raises(UserError, match=rf"run {run.id}: the store does not take its model .*It is not registered"):
        registry.register(root, "demo", run, weights, "# card\n")
    (logged,) = client.search_logged_models([run.experiment_id])
    assert logged.status == "FAILED"
    assert client.search_model_versions() == []
    assert "promoted" not in client.get_run(run.id).data.tags


def test_an_adapter_is_registered_with_its_base_if_that_is_a_folder(tmp_path, weights):
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_text("weights")
    on_folder = files(tmp_path, str(weights.tuned))
    assert on_folder.folders() == {"tuned": tmp_path, "base": weights.tuned}
    assert on_folder.size() == weights.size() + 9
    assert files(tmp_path).folders() == {"tuned": tmp_path}
    assert files(weights.tuned, str(weights.tuned)).folders() == {"tuned": weights.tuned}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Make a checkout, a real DVC project, with run `one` and then run `two`; return it with their ids."""
    root = tmp_path_factory.mktemp("registry") / "checkout"
    trained_runs.project(root)
    tiny_models.save(root / "made" / "base" / "model", 0)
    (root / "made" / "base" / "base.json").write_text('{"base_model": "outputs/base/model", "revision": null}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
        ids = {}
        for name, seed in (("one", 1), ("two", 2)):
            tiny_models.save(root / "made" / str(seed), seed)
            ids[name] = trained_runs.finish_run(root, name, seed, template=TEMPLATE)
        note(root, ids["one"], metrics(10, 60))
        note(root, ids["two"], metrics(10, 50))
    return root, ids


@pytest.fixture
def command(finished, monkeypatch):
    """Run `tunetrail promote` in this process and that checkout; restore the process afterwards."""
    before = dict(os.environ)
    monkeypatch.chdir(finished[0])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    yield lambda *words: CliRunner().invoke(promote.command, words)
    os.environ.clear()
    os.environ.update(before)
    logging.disable(logging.NOTSET)


def test_promote_registers_a_better_run_and_refuses_a_worse_one_without_force(command, finished):
    root, ids = finished
    client = MlflowClient(connection.uri(root))
    lock = locks.exclusive_lock(root)
    with lock:
        assert re.search(
            r"is running here, and may replace the models .* promote the run then", str(command("one").exception)
        )
    with mlflow_run.run(root, "sweep-1") as parent:
        parent.tags({"sweep": "sweep-1"})
    assert "(sweep-1) is a sweep" in str(command("sweep-1").exception)
    ended = command("one")
    assert ended.exit_code == 0, ended.exception
    assert "iB are copied from" in ended.output
    assert f"demo/1 is demo@champion: run {ids['one']} (one)" in ended.output
    assert store.find(root, "@champion").id == ids["one"]

    ended = command("one")
    assert (ended.exit_code, "demo/1 is already this run's model: nothing is copied." in ended.output) == (0, True)
    assert "iB are" not in ended.output

    ended = command("two")
    assert isinstance(ended.exception, UserError)
    assert "nothing is registered:\n  - the champion, demo/1, is better" in str(ended.exception)
    assert len(client.search_model_versions()) == 1

    ended = command("two", "--force")
    assert ended.exit_code == 0, ended.exception
    assert "demo/2 is the champion by --force, although:\n  - the champion, demo/1, is better" in ended.output
    assert client.get_model_version_by_alias("demo", "champion").run_id == ids["two"]
    assert "is better" in client.get_model_version("demo", "2").tags["promoted.against"]

    ended = command("one")  # the better one becomes champion again without a copy
    assert ended.exit_code == 0, ended.exception
    assert client.get_model_version_by_alias("demo", "champion").run_id == ids["one"]
    assert len(client.search_model_versions()) == 2

    ended = command("two", "--name", "other")
    assert ended.exit_code == 0, ended.exception
    assert client.get_model_version_by_alias("other", "champion").run_id == ids["two"]


def test_a_better_champion_registered_meanwhile_keeps_the_alias(command, finished, monkeypatch):
    root, ids = finished
    client = MlflowClient(connection.uri(root))
    register = registry.register

    def meanwhile(root, name, run, *rest):
        if run.id == ids["two"]:
            better = store.find(root, ids["one"])
            registry.crown(root, name, register(root, name, better, *rest), [])
        return register(root, name, run, *rest)

    monkeypatch.setattr(registry, "register", meanwhile)
    ended = command("two", "--name", "raced")
    assert "raced/2 is registered, but is not the champion: the champion, raced/1, is better" in str(ended.exception)
    assert client.get_model_version_by_alias("raced", "champion").run_id == ids["one"]

"""Tiny models that really answer: through MLflow's loader, and over HTTP by the commands of `tunetrail promote`."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import mlflow
import pandas
import pytest
from mlflow.exceptions import MlflowException

from tests import scored_runs, tiny_models, trained_runs
from tests.conftest import ROOT
from tests.projects import flip
from tests.servers import free_port
from tests.tiny_models import EVALUATE, TEMPLATE
from tunetrail.data import template
from tunetrail.runs import chat
from tunetrail.tracking import registry

pytestmark = pytest.mark.stage

CAP = 8
QUESTIONS = [("it", "that {x}"), ("it", ""), ("the ünïcode of 漢字", "")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_models.save_all(tmp_path_factory.mktemp("models"))


def expected(models, instruction, input="", cap=CAP):
    """Return what `chat` shows."""
    pieces = []
    chat.write(models[1], chat.encode(models[1].tokenizer, TEMPLATE, instruction, input), cap, pieces.append)
    return "".join(pieces)


def loaded(root, tuned, base, revision=None, until=()):
    """Register a model and return it as MLflow loads it."""
    values = scored_runs.VALUES
    task = {"generation_kwargs": {"max_gen_toks": CAP, "until": list(until)}}
    values = values | {"evaluate": values["evaluate"] | {"task": task}}
    run = scored_runs.finish(root, scored_runs.metrics(10, 60))
    number = registry.register(root, "demo", run, scored_runs.files(tuned, base, revision, values), "# card\n")
    return mlflow.pyfunc.load_model(f"models:/demo/{number}")


@pytest.fixture
def loaded_model(root, folder):
    return loaded(root, folder / "tuned", str(folder / "base"))


@pytest.fixture
def models(folder):
    return chat.load(str(folder / "base"), None, folder / "tuned", EVALUATE)


def rows(*questions):
    return pandas.DataFrame(questions, columns=["instruction", "input"])


def test_the_token_ids_are_those_of_the_shared_template(loaded_model):
    served = loaded_model.unwrap_python_model()
    for instruction, input in QUESTIONS:
        (ids,) = template.token_ids(served.tokenizer, [template.prompt(TEMPLATE, instruction, input)])
        assert served.encode(1, instruction, input) == ids


def test_each_row_is_answered_as_in_a_chat(loaded_model, models):
    assert loaded_model.predict(rows(*QUESTIONS)) == [expected(models, *question) for question in QUESTIONS]
    assert loaded_model.predict(pandas.DataFrame({"instruction": ["it"]})) == [expected(models, "it")]
    assert loaded_model.predict(rows(("it", None))) == [expected(models, "it")]
    assert loaded_model.predict(rows(("it", "")), {"max_new_tokens": 20}) == [expected(models, "it", cap=20)]


def test_an_answer_stops_before_the_stop_sequences_of_the_evaluation(root, folder, models):
    text = expected(models, "it")
    stop = text[len(text) // 2 :][:2]
    served = loaded(root, folder / "tuned", str(folder / "base"), until=[stop])
    assert served.predict(rows(("it", ""))) == [text.partition(stop)[0]]


@pytest.mark.parametrize(
    ("questions", "params", "message"),
    [
        ([("it", ""), (None, "")], {}, "row 2 has no instruction"),
        ([("it", "")], {"max_new_tokens": 0}, "max_new_tokens is 0: give 1 or more"),
        ([("it " * 4096, "")], {}, r"row 1 has \d+ tokens, and the model takes 4096"),
    ],
)
def test_a_question_that_cannot_be_asked_is_an_error_with_its_row(loaded_model, questions, params, message):
    with pytest.raises(MlflowException, match=message) as error:
        loaded_model.predict(rows(*questions), params)
    assert error.value.get_http_status_code() == 400


def test_a_question_that_nearly_fills_the_context_gets_a_short_answer(loaded_model):
    served = loaded_model.unwrap_python_model()
    served.network.config.max_position_embeddings = len(served.encode(1, "it", "")) + 1
    (answer,) = loaded_model.predict(rows(("it", "")))
    assert answer in {"", *served.tokenizer.batch_decode([[token] for token in range(len(served.tokenizer))])}


def test_an_adapter_is_loaded_with_its_registered_base(root, folder):
    served = loaded(root, folder / "adapter", str(folder / "base"))
    both = chat.load(str(folder / "base"), None, folder / "adapter", EVALUATE)
    assert served.predict(rows(*QUESTIONS)) == [expected(both, *question) for question in QUESTIONS]


def test_the_base_of_an_adapter_is_loaded_from_the_hub_at_its_revision(root, folder, monkeypatch):
    """The hub's cache folder stands in for the hub."""
    from huggingface_hub import constants

    revision = "a" * 40
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(root / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    shutil.copytree(folder / "base", root / "hub" / "models--org--tiny" / "snapshots" / revision)
    served = loaded(root, folder / "adapter", "org/tiny", revision=revision)
    both = chat.load(str(folder / "base"), None, folder / "adapter", EVALUATE)
    assert served.predict(rows(*QUESTIONS)) == [expected(both, *question) for question in QUESTIONS]
    assert "peft==" in Path(mlflow.pyfunc.get_model_dependencies("models:/demo/1")).read_text()


@pytest.mark.parametrize("fault", ["flipped", "truncated", "missing", "more", "base"])
def test_weights_other_than_the_registered_ones_are_not_served(root, folder, fault):
    loaded(root, folder / "adapter", str(folder / "base"))
    (artifacts,) = (root / "mlartifacts").rglob("artifacts/tuned")
    weights = artifacts / "adapter_model.safetensors"
    if fault == "flipped":
        flip(weights)
    if fault == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1])
    if fault == "missing":
        weights.unlink()
    if fault == "more":
        (artifacts / "adapter_model.bin").touch()
    if fault == "base":
        weights = artifacts.parent / "base" / "model.safetensors"
        flip(weights)
    name = "tuned/adapter_model.bin" if fault == "more" else f"{weights.parent.name}/{weights.name}"
    with pytest.raises(
        MlflowException, match=rf"the first {name} in .*: SHA-256 \w+ was registered, \w+ is here.*tunetrail promote"
    ):
        mlflow.pyfunc.load_model("models:/demo/1")


@pytest.fixture(scope="module")
def promoted(folder, tmp_path_factory):
    """Promote a real DVC project's run; return the printed commands, a folder and an environment without tunetrail."""
    root = tmp_path_factory.mktemp("served") / "checkout"
    trained_runs.project(root)
    shutil.copytree(folder / "base", root / "made" / "base" / "model")
    (root / "made" / "base" / "base.json").write_text('{"base_model": "outputs/base/model", "revision": null}')
    shutil.copytree(folder / "tuned", root / "made" / "1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
        id = trained_runs.finish_run(root, "demo", 1, template=TEMPLATE)
        scored_runs.note(root, id, scored_runs.metrics(10, 60))
        code = "from tunetrail.cli.promote import command; command()"
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
        words = [sys.executable, "-c", code, id[:12]]
        ended = subprocess.run(words, cwd=root, env=environment, check=True, capture_output=True, text=True)
    assert ended.stderr == ""
    serve, ask = re.search(r"Serve it:\n  (.*)\nAsk it:\n  (.*)\n", ended.stdout).groups()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "tunetrail.py").write_text("raise ImportError('what is served needs no tunetrail')\n")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(elsewhere), "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    return serve, ask, elsewhere, environment


@pytest.fixture(scope="module")
def server(promoted):
    """Run the printed command in an empty folder on a free port; yield the server's address and log file."""
    serve, _, elsewhere, environment = promoted
    port = free_port()
    log = elsewhere / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            ["bash", "-c", serve.replace("5001", str(port))],
            cwd=elsewhere,
            env=environment,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{address}/ping").close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.3)
        yield address, log
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def post(address, payload):
    """Return the status and the decoded answer."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    request = urllib.request.Request(f"{address}/invocations", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.mark.slow
def test_over_http_every_form_of_a_request_is_answered_as_in_a_chat(server, models):
    columns = ["instruction", "input"]
    records = [dict(zip(columns, question, strict=True)) for question in QUESTIONS]
    answers = [expected(models, *question) for question in QUESTIONS]
    for payload in (
        {"dataframe_split": {"columns": columns, "data": QUESTIONS}},
        {"dataframe_records": records},
        {"inputs": records},
        {"instances": records},
        {"inputs": {column: [record[column] for record in records] for column in columns}},
    ):
        assert post(server[0], payload) == (200, {"predictions": answers}), payload
    empty = {"dataframe_split": {"columns": columns, "data": [["it", None], ["it", ""]]}}
    assert post(server[0], empty) == (200, {"predictions": [expected(models, "it")] * 2})
    assert "WARNING mlflow" not in server[1].read_text()
    short = {"inputs": [{"instruction": "it"}], "params": {"max_new_tokens": 2}}
    assert post(server[0], short) == (200, {"predictions": [expected(models, "it", cap=2)]})


@pytest.mark.slow
def test_a_bad_request_is_a_400_and_the_server_keeps_running(server, models):
    for payload, message in (
        (b"{", "JSON"),
        ({"rows": []}, "inputs"),
        ({"inputs": [{"question": "it"}]}, "instruction"),
        ({"dataframe_records": [{"instruction": 7}]}, "row 1 has no instruction"),
        ({"dataframe_split": {"columns": ["instruction"], "data": [["it"], [None]]}}, "row 2 has no instruction"),
        ({"inputs": [{"instruction": "it " * 4096}]}, "the model takes 4096"),
        ({"inputs": [{"instruction": "it"}], "params": {"max_new_tokens": "many"}}, "max_new_tokens"),
    ):
        status, answer = post(server[0], payload)
        assert (status, answer["error_code"]) in ((400, "BAD_REQUEST"), (400, "INVALID_PARAMETER_VALUE")), answer
        assert message in answer["message"]
    assert post(server[0], {"inputs": [{"instruction": "it"}]}) == (200, {"predictions": [expected(models, "it")]})


@pytest.mark.slow
def test_the_printed_command_asks_the_server(server, promoted, models):
    port = server[0].rpartition(":")[2]
    ended = subprocess.run(["bash", "-c", promoted[1].replace("5001", port)], capture_output=True, text=True)
    assert json.loads(ended.stdout) == {"predictions": [expected(models, "Name three rivers.")]}


@pytest.mark.slow
def test_mlflow_models_predict_answers_a_file_of_questions(promoted, models):
    serve, _, elsewhere, environment = promoted
    (elsewhere / "rows.json").write_text(json.dumps({"inputs": [{"instruction": "it", "input": "that"}]}))
    words = serve.partition(" --port")[0].replace("models serve", "models predict") + " -i rows.json -t json -o answers.json"
    subprocess.run(["bash", "-c", words], cwd=elsewhere, env=environment, check=True, capture_output=True)
    assert json.loads((elsewhere / "answers.json").read_text()) == {"predictions": [expected(models, "it", "that")]}

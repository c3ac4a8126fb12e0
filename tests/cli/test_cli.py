"""The command as a user types it. Bad input ends with one message and code 2 before anything is written."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from tests.commands import tunetrail
from tests.conftest import ROOT
from tunetrail.checkout import locks

ROW = {"instruction": "a", "input": "", "output": "b"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Make a checkout with this conf/ and dvc.yaml, and input files with many kinds of errors."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "conf", folder / "conf")
    shutil.copy(ROOT / "dvc.yaml", folder)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "--all"], [*identity, "commit", "-qm", "start"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    good = json.dumps(ROW)
    files = {
        "good.jsonl": "\n".join(json.dumps(ROW | {"input": str(number)}) for number in range(60)),
        "broken.jsonl": good + "\n{'instruction'\n",
        "no_field.jsonl": good + '\n{"instruction": "a"}\n',
        "empty_output.jsonl": good + "\n" + json.dumps(ROW | {"output": ""}),
        "empty.jsonl": "",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "latin1.jsonl").write_bytes(json.dumps(ROW | {"output": "é"}, ensure_ascii=False).encode("latin-1"))
    (folder / "utf16.jsonl").write_bytes(files["good.jsonl"].encode("utf-16"))
    (folder / "under_a_key.json").write_text(
        json.dumps({"data": [json.loads(row) for row in files["good.jsonl"].split("\n")]})
    )
    (folder / "empty_folder").mkdir()
    for earlier in ("outputs/model/model.safetensors", "report/metrics.json", "params.yaml", "dvc.lock"):
        (folder / earlier).parent.mkdir(parents=True, exist_ok=True)
        (folder / earlier).write_text("of an earlier run")
    return folder


def contents(folder):
    """Return the content of every file below the folder except .git/ and the scratch folder work/."""
    files = (file for file in folder.rglob("*") if file.is_file() and ".git" not in file.parts)
    return {file.relative_to(folder): file.read_bytes() for file in files if folder / "work" not in file.parents}


def refused(folder, *words):
    """Assert that `tunetrail run` refuses the words with code 2 and writes nothing; return its message."""
    before = contents(folder)
    ended = tunetrail(folder, "run", *words)
    assert ended.returncode == 2, ended.stderr
    asking, _, message = ended.stderr.rpartition("error: ")  # printed once, when the tools are asked for their schemas
    assert not asking or (asking.startswith("asking ") and asking.count("\n") == 1)
    assert ended.stdout == ""
    assert contents(folder) == before
    return f"error: {message}"


FILE = ("experiment=alpaca_tiny", "evaluate.path=good.jsonl")


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ((*FILE, "prepare.path=nowhere.jsonl"), ["nowhere.jsonl: no such file", "Give"]),
        ((*FILE, "prepare.path=broken.jsonl"), ["broken.jsonl, line 2: not JSON", "Fix or remove"]),
        ((*FILE, "prepare.path=no_field.jsonl"), ["row 2: no field 'output'"]),
        ((*FILE, "prepare.path=empty_output.jsonl"), ["row 2: 'output' is empty", "prepare.empty=drop"]),
        ((*FILE, "prepare.path=latin1.jsonl"), ["latin1.jsonl, line 1: not UTF-8, byte 0xE9", "ask its author"]),
        (
            (*FILE, "prepare.path=under_a_key.json"),
            ["one object; its 'data' is an array of 60 rows. Add prepare.field=data"],
        ),
        ((*FILE, "prepare.path=utf16.jsonl"), ["utf16.jsonl is UTF-16, not JSON", "iconv -f UTF-16 -t UTF-8"]),
        ((*FILE, "prepare.path=/dev/null"), ["/dev/null is a pipe, a socket or a device"]),
        (("prepare.field=data",), ["prepare.field=data is for a file"]),
        ((*FILE, "prepare.path=empty.jsonl"), ["empty.jsonl: no rows"]),
        ((*FILE, "prepare.path=good.jsonl", "prepare.validation_rows=60"), ["60 rows", "leaves none to train on"]),
        ((*FILE, "prepare.path=good.jsonl"), ["good.jsonl, row 1: no field 'key'"]),
        (("experiment=alpaca_tiny", "evaluate.path=good.jsonl"), ["prepare.path has no value", "prepare.path=..."]),
        (("train.lerning_rate=1",), ["train.lerning_rate: no such key", "train.learning_rate"]),
        (("+train.lerning_rate=1",), ["train.lerning_rate: no such key", "train.learning_rate"]),
        (("+base.make.train.weight_decoy=1",), ["base.make.train.weight_decoy", "base.make.train.weight_decay?"]),
        (("+base.make.llama.hiden_size=1",), ["base.make.llama.hiden_size", "base.make.llama.hidden_size?"]),
        (("+evaluate.batchsize=1",), ["evaluate.batchsize", "evaluate.batch_size?"]),
        (("+evaluate.task.doc_to_txt=1",), ["evaluate.task.doc_to_txt", "evaluate.task.doc_to_text?"]),
        (("+accelerate.num_proceses=1",), ["accelerate.num_proceses", "accelerate.num_processes?"]),
        (("+evaluate.task.generation_kwargs.max_gen_tok=5",), ["generation_kwargs.max_gen_tok:", "max_gen_toks?"]),
        (("evaluate.task.generation_kwargs.max_gen_toks=many",), ["max_gen_toks: 'many' is not of type 'integer'"]),
        (("+evaluate.model_args.dtpe=x",), ["evaluate.model_args.dtpe", "evaluate.model_args.dtype?"]),
        (("+evaluate.model_args.token=hf_abc",), ["evaluate.model_args.token"]),
        (("evaluate.limit=-3",), ["evaluate.limit: -3"]),
        (("base.make.llama.hidden_size=big",), ["base.make.llama.hidden_size: 'big' is not"]),
        (("accelerate.num_processes=two",), ["accelerate.num_processes: 'two' is not"]),
        (("prepare.generate.prompts=0",), ["prepare.generate.prompts: 0 is less than"]),
        (("train.output_dir=precious",), ["train.output_dir=precious", "below work/"]),
        (("--overrides", "name='x"), ["No closing quotation", "Close the quotation"]),
        (("prepare.path=my (1).jsonl",), ["Quote a value", 'prepare.path="my (1).jsonl"']),
        (("sed=1",), ["sed: no such key", "Did you mean seed?"]),
        (("train.max_steps=5",), ["Add it with a plus: +train.max_steps"]),
        (("train.num_epochs=many",), ["train.num_epochs: 'many' is not of type 'number'"]),
        (("train.num_epochs=-1",), ["train.num_epochs: -1 is less than or equal to"]),
        (("model=local",), ["base.base_model has no value", "base.base_model=..."]),
        (("train.learning_rate=fast",), ["train.learning_rate: 'fast' is not of type 'number'"]),
        (("prepare.generate.rows=1.5",), ["prepare.generate.rows: 1.5 is not of type 'integer'"]),
        (("prepare.take=0",), ["prepare.take: 0"]),
        (("--experiment=demo",), ["An override has no dashes: experiment=VALUE"]),
        (("report.stop=''",), ["report.stop"]),
        (("prepare=alpaca_cleaned", "prepare.hub.revision=main"), ["prepare.hub.revision: 'main'", "Give the commit"]),
        (("plan.allow=[OUT_OF_MEMROY]",), ["plan.allow: OUT_OF_MEMROY: no such code. Did you mean OUT_OF_MEMORY?"]),
        (("prepare.empty=keep",), ["prepare.empty: 'keep' is not one of"]),
        (("train.optimizer=adamw_torhc",), ["train.optimizer: 'adamw_torhc' is not known. Did you mean adamw_torch?"]),
        (("train.lr_scheduler=cosinus",), ["train.lr_scheduler: 'cosinus' is not known. Did you mean cosine?"]),
        (
            (*FILE, "prepare.path=empty_folder"),
            ["prepare.path=empty_folder is a folder."],
        ),
        (("train.sequence_len=long",), ["train.sequence_len: 'long'"]),
        (("prepare=alpaca_cleaned", "evaluate=ifeval", "prepare.path=good.jsonl"), ["prepare.hub=null"]),
        (("prepare=file", "prepare.path=good.jsonl"), ["evaluate=ifeval"]),
        (
            ("prepare.path=good.jsonl",),
            ["tunetrail run experiment=alpaca_tiny prepare.path=good.jsonl evaluate.path=PROMPTS"],
        ),
        (("prepare.path=nowhere.jsonl",), ["nowhere.jsonl: no such file"]),
        (("evaluate.path=nowhere.jsonl",), ["nowhere.jsonl: no such file"]),
        (("--overrides", "++prepare.path=nowhere.jsonl"), ["nowhere.jsonl: no such file"]),
        (
            ("prepare=demo", "prepare.path=good.jsonl"),
            ["prepare.path=good.jsonl and prepare.generate name different data", "set prepare.generate=null"],
        ),
        (("fetch.instructions.path=good.jsonl",), ["Set prepare.path alone"]),
        (
            ("-m", "prepare.path=nowhere.jsonl,good.jsonl"),
            ["the job prepare.path=nowhere.jsonl: nowhere.jsonl: no such file"],
        ),
        (("model=gpt5",), ["Could not find 'model/gpt5'", "local", "tiny_llama"]),
        (("experiment=dmeo",), ["experiment/dmeo", "alpaca_tiny", "demo"]),
        (("+train.lr_scheduler_kwargs={min_lr: 1e-6}",), ["train.lr_scheduler=cosine", "keyword argument 'min_lr'"]),
        (
            ("train.lr_scheduler=one_cycle", "train.warmup_ratio=null", "+train.warmup_steps=5000"),
            ["train.lr_scheduler=one_cycle with 5,000 of 343 steps of warm-up"],
        ),
        (("train.excess_length_strategy=raise", "train.sequence_len=64"), ["a row has", "Axolotl would stop there"]),
        (("model=local", "base.base_model=empty_folder"), ["empty_folder: no model", "save_pretrained"]),
        (("model=local", "base.base_model=./nowhere"), ["nowhere: no such folder"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_ends_with_one_message_and_code_2(checkout, overrides, says):
    message = refused(checkout, *overrides)
    assert "Traceback" not in message
    assert all(part in message for part in says), message


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("experimnt=demo",), "experimnt: no such key. Did you mean experiment?"),
        (("-m", "seed=1,2", "sweep=optuna", "hydra.sweeper.n_trails=3"), "Did you mean hydra.sweeper.n_trials?"),
        (
            ("-m", "sweep=joblib", "hydra.launcher.n_jobs=abc", "seed=1,2"),
            "hydra.launcher.n_jobs: 'abc' is not of type 'integer'.",
        ),
        (("-m", "sweep=joblib"), "nothing varies: give key=a,b, or leave -m out."),
        (("-m", "sweep=joblib", "train.learning_rate=1e-3,abc"), "the job train.learning_rate=abc: "),
        (
            ("-m", "train.warmup_ratio=null", "+train.warmup_steps=5000", "seed=1,2"),
            "the job seed=1: its plan has errors: WARMUP_NEVER_ENDS. `tunetrail plan`",
        ),
        (("--dry-run", "seed=7"), "--dry-run: what a run would take and cost, and why it is refused, says: tunetrail plan"),
        (("--quiet", "-m", "seed=1,2"), "--quiet is for one experiment, and -m for many."),
        (("--params", "nowhere.yaml"), "--params nowhere.yaml: no such file. Give the params.yaml of a run."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_run_that_cannot_start_prints_one_line_and_writes_nothing(checkout, words, says):
    message = refused(checkout, *words)
    assert says in message
    assert message.count("\n") == 1


SIGNALLED = """
import os, signal, sys
from tunetrail import cli
signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
try:
    cli.main(["run", "--params", "nowhere.yaml"])
except SystemExit:
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), int(sys.argv[1]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_with_its_own_code_and_an_ignored_signal_stays_ignored(checkout, number):
    words = [sys.executable, "-c", SIGNALLED, str(int(number))]
    ended = subprocess.run(
        words, cwd=checkout, env=os.environ | {"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True
    )
    assert ended.returncode == 128 + number
    assert "Aborted" not in ended.stderr


def test_debug_shows_the_traceback(checkout):
    assert "Traceback" in tunetrail(checkout, "run", "--debug", "train.lerning_rate=1").stderr


def test_a_checkout_without_git_is_an_error(checkout, tmp_path):
    shutil.copytree(checkout, tmp_path / "copy", ignore=shutil.ignore_patterns(".git"))
    ended = tunetrail(tmp_path / "copy", "run")
    assert ended.returncode == 2
    assert "not a git checkout" in ended.stderr
    assert "git init" in ended.stderr


def test_overrides_in_one_argument_are_split_as_in_a_shell(checkout):
    ended = tunetrail(checkout, "run", "--cfg", "job", "--overrides", "seed=7 name='two words'")
    assert ended.returncode == 0, ended.stderr
    assert "seed: 7\n" in ended.stdout
    assert "name: two words\n" in ended.stdout


def test_a_checkout_in_which_a_run_is_running_is_an_error_before_a_plan_is_printed(checkout):
    with locks.exclusive_lock(checkout):
        assert f"process {os.getpid()}, or what it started, is running here" in refused(checkout)


@pytest.mark.parametrize("words", [("--help",), ("-h",), ("run", "--help"), ("run", "-h")])
def test_help_shows_how_to_run(checkout, words):
    text = tunetrail(checkout, *words).stdout
    assert "Usage: " in text
    assert "tunetrail run" in text


@pytest.mark.parametrize(("colour", "begins"), [({}, "\x1b[31m\x1b[1merror:\x1b[0m "), ({"NO_COLOR": "1"}, "error: ")])
def test_an_error_is_in_colour_on_a_terminal_unless_nobody_wants_that(tmp_path, colour, begins):
    command = f"cd {tmp_path} && {sys.executable} -m tunetrail ls"
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | colour
    screen = subprocess.run(["script", "-qc", command, "/dev/null"], env=environment, capture_output=True, text=True)
    assert screen.stdout.startswith(f"{begins}{tmp_path}: no tunetrail checkout")


COMMANDS = [["ls"], ["show", "RUN"], ["compare", "A", "B"], ["gc"], ["restore", "RUN"], ["reproduce", "RUN"], ["chat"]]


@pytest.mark.parametrize("words", COMMANDS)
def test_in_a_wrong_folder_no_tool_is_imported_before_that_is_said(tmp_path, words):
    script = f"""
import sys
from tunetrail import cli
try:
    cli.main({words})
except SystemExit as end:
    print(end.code, *sorted(set(sys.modules) & {{'torch', 'transformers', 'mlflow', 'matplotlib'}}))
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert (ended.stdout, ended.stderr.count("no tunetrail checkout")) == ("2\n", 1)


def test_help_does_not_import_the_tools():
    """Importing them would cost seconds before every command."""
    script = "import sys, tunetrail.cli; print(*sorted(set(sys.modules) & {'torch', 'transformers', 'mlflow', 'axolotl'}))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "\n"


def score_words(folder):
    """Write a file of three prompts and one of their responses, of which one follows its instruction; return the command."""
    kinds = ("punctuation:no_comma", "change_case:english_lowercase", "startend:quotation")
    prompts = [{"key": n, "prompt": f"p{n}", "instruction_id_list": [kind], "kwargs": [{}]} for n, kind in enumerate(kinds)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    answers = [
        {"prompt": f"p{n}", "response": "No sign here\n### Instruction:\none, two" if n else "None"} for n in range(3)
    ]
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    return "score", "--prompts", "prompts.jsonl", "--responses", "answers.jsonl"


def test_responses_from_anywhere_are_scored_without_a_checkout_or_a_model(tmp_path):
    ended = tunetrail(tmp_path, *score_words(tmp_path))
    assert ended.returncode == 0, ended.stderr
    assert "ifeval: 3 prompts, 3 instructions (the published IFEval has 541 and 834)" in ended.stdout
    assert "Prompt Strict                       33.3 [" in ended.stdout
    assert "starts a new instruction block      66.7%" in ended.stdout
    files = {file.name for file in (tmp_path / "answers.jsonl.report").iterdir()}
    assert files == {"metrics.json", "ifeval.png", "ifeval.svg", "types.png", "types.svg", "report.html"}


def test_json_has_the_scores_their_intervals_and_n(tmp_path):
    ended = tunetrail(tmp_path, *score_words(tmp_path), "--json")
    measured = json.loads(ended.stdout)
    assert (measured["prompts"], measured["instructions"]) == (3, 3)
    for kind in ("ifeval", "ifeval_stopped"):
        scores = measured[kind]["responses"]
        assert set(scores) == {"prompt_strict", "prompt_loose", "inst_strict", "inst_loose"}
        assert all(score["low"] <= score["value"] <= score["high"] for score in scores.values())
    assert measured["health"]["responses"]["says_nothing"] == 0
    assert not (tmp_path / "answers.jsonl.report").exists()


def test_responses_that_cannot_be_scored_end_with_one_message_and_code_2(tmp_path):
    words = score_words(tmp_path)
    (tmp_path / "answers.jsonl.report").write_text("")
    unknown = {"key": 7, "prompt": "p0", "instruction_id_list": ["no:such"], "kwargs": [{}]}
    (tmp_path / "unknown.jsonl").write_text(json.dumps(unknown))
    (tmp_path / "known.jsonl").write_text(json.dumps(unknown | {"instruction_id_list": ["punctuation:no_comma"]}))
    (tmp_path / "one.jsonl").write_text('{"prompt": "p0", "response": "a"}')
    (tmp_path / "half.jsonl").write_text('{"prompt": "p0", "response": "\\ud800"}')
    for more, says in (
        ((), "answers.jsonl.report: no report can be written there"),
        (("--stop", ""), "--stop is empty"),
        (("--prompts", "unknown.jsonl", "--responses", "one.jsonl"), "row 1: lm-eval has no instruction id 'no:such'"),
        (("--prompts", "known.jsonl", "--responses", "half.jsonl"), "half a character"),
        (("--responses", "nowhere.jsonl"), "nowhere.jsonl: no such file"),
        (("--prompts", "answers.jsonl"), "answers.jsonl, row 1: no field 'key'"),
    ):
        ended = tunetrail(tmp_path, *words, *more)
        assert ended.returncode == 2
        assert ended.stderr.startswith("error: ")
        assert says in ended.stderr
        assert ended.stdout == ""


NOBODY = """
import pwd
def unknown(number):
    raise KeyError(f"getpwuid(): uid not found: {number}")
pwd.getpwuid = unknown
"""


@pytest.mark.stage
@pytest.mark.slow
def test_a_user_id_without_an_account_needs_no_home(tmp_path, root):
    """As in a container; sitecustomize, which each Python process loads, makes the user unknown."""
    (tmp_path / "nobody").mkdir()
    (tmp_path / "nobody" / "sitecustomize.py").write_text(NOBODY)
    shutil.copytree(ROOT / "conf", root / "conf")
    shutil.copy(ROOT / "dvc.yaml", root)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    dropped = ("HOME", "USER", "LOGNAME", "USERNAME", "LNAME", "XDG_CACHE_HOME", "MLFLOW_TRACKING_URI")
    environment = {key: value for key, value in os.environ.items() if key not in dropped}
    environment |= {"PYTHONPATH": f"{tmp_path / 'nobody'}:{ROOT / 'src'}", "TMPDIR": str(tmp_path)}
    for words in (("ls",), ("plan",)):
        ended = subprocess.run(
            [sys.executable, "-m", "tunetrail", *words], cwd=root, env=environment, capture_output=True, text=True
        )
        assert "Traceback" not in ended.stderr
        assert ended.returncode == 0 or "the store has no run" in ended.stderr, ended.stderr

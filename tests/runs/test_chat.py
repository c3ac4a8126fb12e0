"""Tiny models that really answer, in this process and through the command on a pseudo-terminal."""

import io
import logging
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time

import pytest
from click.testing import CliRunner
from rich.console import Console

from tests import tiny_models, trained_runs
from tests.conftest import ROOT
from tests.tiny_models import EVALUATE, TEMPLATE
from tunetrail import UserError
from tunetrail.cli import main
from tunetrail.data import template
from tunetrail.runs import chat

pytestmark = pytest.mark.stage


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_models.save_all(tmp_path_factory.mktemp("models"))


@pytest.fixture
def models(folder):
    return chat.load(str(folder / "base"), None, folder / "tuned", EVALUATE)


def written(model, cap=12, instruction="it"):
    """Return the pieces of the answer and how it ended."""
    pieces = []
    ending = chat.write(model, chat.encode(model.tokenizer, TEMPLATE, instruction), cap, pieces.append)
    return pieces, ending


def generated(network, tokenizer, cap=12):
    """Return the ids that generate() itself returns."""
    import torch

    ids = chat.encode(tokenizer, TEMPLATE, "it")
    with torch.no_grad():
        return network.generate(torch.tensor([ids]), max_new_tokens=cap, do_sample=False)[0, len(ids) :].tolist()


def test_the_ids_are_the_tokenizers_own_of_the_prompt_in_the_template(models):
    tokenizer = models[0].tokenizer
    ids = chat.encode(tokenizer, TEMPLATE, "it", "that {x}")
    assert ids == tokenizer("Do it with that {x}:\n").input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.eos_token_id not in ids
    assert chat.encode(tokenizer, TEMPLATE, "it") == tokenizer("Do it:\n").input_ids


def test_an_answer_is_what_generate_gives_greedily_and_comes_in_pieces(models):
    for model in models:
        pieces, ending = written(model, 40)
        ids = generated(model.network, model.tokenizer, 40)
        assert "".join(pieces) == model.tokenizer.decode(ids, skip_special_tokens=True)
        assert len(pieces) > 10
        assert ending == "cut at 40 tokens: --max-new-tokens gives more"
    assert written(models[0]) != written(models[1])


def test_a_piece_is_shown_before_the_next_token_is_generated(models, monkeypatch):
    """So pieces are not collected and shown at the end."""
    order = []
    forward = models[0].network.forward

    def watched(*args, **kwargs):
        order.append("token")
        return forward(*args, **kwargs)

    monkeypatch.setattr(models[0].network, "forward", watched)
    chat.write(models[0], chat.encode(models[0].tokenizer, TEMPLATE, "it"), 40, lambda text: order.append("text"))
    assert order.count("token") == 40
    assert "token" in order[order.index("text") :]


@pytest.fixture(params=["bytes", "words"])
def tokenizer(request, models):
    """Return a byte-level tokenizer, as Llama 3's, and one with the space in the word, as SentencePiece's."""
    if request.param == "bytes":
        return models[0].tokenizer
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(BPE())
    words.pre_tokenizer, words.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    words.train_from_iterator([TEXT], BpeTrainer(show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=words)


TEXT = "def f():\n    return 漢字, ภาษา ❄\n"


def test_the_pieces_join_to_the_decoded_tokens_and_none_is_half_a_character(tokenizer):
    import torch

    prompt, ids = tokenizer("Do:").input_ids, tokenizer(TEXT, add_special_tokens=False).input_ids
    pieces = []
    stream = chat._Stream(tokenizer, len(prompt), pieces.append)
    stream.put(torch.tensor([prompt]))
    for token in ids:
        stream.put(torch.tensor([token]))
    stream.end()
    assert "".join(pieces) == tokenizer.decode(ids) == TEXT
    assert len(pieces) > 5
    assert not any("�" in piece for piece in pieces)


@pytest.mark.parametrize("who", ["checkpoint", "tokenizer"])
def test_an_answer_stops_where_the_checkpoint_or_the_tokenizer_names_the_end(models, who):
    network, tokenizer = models[1].network, models[1].tokenizer
    ids = generated(network, tokenizer)
    end = next(index for index in range(2, 12) if ids[index] not in ids[:index])
    if who == "checkpoint":
        network.generation_config.eos_token_id = [tokenizer.eos_token_id, ids[end]]
    else:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ids[end])
    assert written(models[1])[1] == f"end of text after {end + 1} tokens"


def test_a_prompt_that_fills_the_context_has_no_answer_and_one_that_nearly_does_has_a_cut_answer(models):
    network = models[0].network
    length = len(chat.encode(models[0].tokenizer, TEMPLATE, "it"))
    network.config.max_position_embeddings = length + 5
    assert written(models[0])[1] == f"cut at 5 tokens: the model takes {length + 5}"
    network.config.max_position_embeddings = length
    assert written(models[0]) == ([], f"no answer: the prompt has {length} tokens, and the model takes {length}")


def test_an_adapter_shares_its_base_which_answers_as_it_does_alone(folder, models):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base, tuned = chat.load(str(folder / "base"), None, folder / "adapter", EVALUATE)
    assert base.network is tuned.network
    assert written(base) == written(models[0])
    merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder / "base"), folder / "adapter")
    ids = generated(merged.merge_and_unload(), base.tokenizer)
    assert "".join(written(tuned)[0]) == base.tokenizer.decode(ids, skip_special_tokens=True)
    assert written(tuned) != written(base)


def test_the_models_have_the_dtype_of_the_evaluation(folder):
    import torch

    evaluate = {"device": "cpu", "model_args": {"dtype": "bfloat16"}}
    for model in chat.load(str(folder / "base"), None, folder / "tuned", evaluate):
        assert model.network.dtype == torch.bfloat16
        assert written(model)[0]


def test_a_missing_device_is_replaced_by_the_cpu_with_a_message(capsys):
    assert chat.device("cpu") == "cpu"
    assert capsys.readouterr().err == ""
    assert chat.device("cuda:99") == "cpu"
    assert "cuda:99" in capsys.readouterr().err


def test_a_base_that_cannot_be_loaded_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"base model .*nowhere cannot be loaded"):
        chat.load(str(tmp_path / "nowhere"), None, tmp_path, EVALUATE)


def test_without_a_terminal_the_answers_follow_each_other_under_their_headings(models, capsys):
    chat.ask(models, TEMPLATE, "it", "", 12)
    output = capsys.readouterr().out
    texts = ["".join(written(model)[0]) for model in models]
    ending = "(cut at 12 tokens: --max-new-tokens gives more)"
    assert output == f"== base ==\n{texts[0]}\n{ending}\n\n== tuned ==\n{texts[1]}\n{ending}\n\n"


def test_columns_show_their_last_lines_while_they_grow_and_all_of_them_in_the_end():
    columns = [chat._Column("base", ending="end of text"), chat._Column("tuned")]
    columns[0].add("".join(f"line {number} [b]\n" for number in range(50)))
    columns[1].add("one\ttwo\x1b[31m\x07" + "z" * 200)
    console = Console(width=80, height=20, file=io.StringIO())
    console.print(chat._table(columns, console))
    shown = console.file.getvalue()
    assert "line 49 [b]" in shown
    assert "line 30" not in shown
    assert "one" in shown  # the other column is not pushed out
    assert len(shown.splitlines()) < console.height
    console.file = io.StringIO()
    console.print(chat._table(columns))
    assert all(f"line {number} [b]" in console.file.getvalue() for number in range(50))
    assert "␛[31m␇" in console.file.getvalue()  # a model's escape codes do nothing to the terminal
    assert "\x1b" not in console.file.getvalue()
    assert console.file.getvalue().count("z") == 200  # a word longer than a line is not cut


@pytest.fixture(scope="module")
def checkout(folder, tmp_path_factory):
    """Make a DVC project with the run `second`, of tuned/; its run `first`, of adapter/, is in DVC's cache."""
    root = tmp_path_factory.mktemp("chat") / "checkout"
    trained_runs.project(root)
    shutil.copytree(folder / "base", root / "made" / "base" / "model")
    (root / "made" / "base" / "base.json").write_text('{"base_model": "outputs/base/model", "revision": null}')
    for seed, name in ((1, "adapter"), (2, "tuned")):
        shutil.copytree(folder / name, root / "made" / str(seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
        for name, seed in (("first", 1), ("second", 2)):
            trained_runs.finish_run(root, name, seed, template=TEMPLATE)
    return root


@pytest.fixture
def tunetrail(checkout, monkeypatch):
    """Run the command in this process, in the checkout, and restore the process afterwards."""
    before = dict(os.environ)
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    yield lambda *words, typed=None: CliRunner().invoke(main, words, input=typed)
    os.environ.clear()
    os.environ.update(before)
    logging.disable(logging.NOTSET)


def test_one_question_is_answered_by_the_models_of_the_checkout(tunetrail, checkout, models, capsys):
    chat.ask(models, TEMPLATE, "it", "that", 8)
    ended = tunetrail("chat", "--prompt", "it", "--input", "that")
    assert (ended.exit_code, ended.stdout) == (0, capsys.readouterr().out)
    assert f"this checkout's run, template {template.digest(TEMPLATE)}" in ended.stderr
    assert str(checkout / "outputs" / "model") in ended.stderr


def test_questions_from_a_file_are_answered_by_an_earlier_run(tunetrail, folder, capsys):
    models = chat.load(str(folder / "base"), None, folder / "adapter", EVALUATE)
    for question in ("it", "that"):
        print(f"> {question}")
        chat.ask(models, TEMPLATE, question, "", 5)
    ended = tunetrail("chat", "first", "--max-new-tokens", "5", typed="it\nthat\n/quit\nnever asked\n")
    assert (ended.exit_code, ended.stdout) == (0, capsys.readouterr().out + "> /quit\n")
    assert "asked alone" in ended.stderr


def test_an_error_that_the_user_can_fix_ends_with_code_2(tunetrail):
    ended = tunetrail("chat", "third")
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: third: no run has this id or name")


def test_help_has_examples(tunetrail):
    text = tunetrail("chat", "--help").stdout
    assert "tunetrail chat --prompt" in text
    assert "Ctrl-C ends an answer" in text


class Terminal:
    """A command on a pseudo-terminal, with its output without colours and a way to type."""

    def __init__(self, words, folder):
        self.shown = ""
        self.end, inner = pty.openpty()
        termios.tcsetwinsize(inner, (24, 80))
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "TERM": "xterm-256color", "MLFLOW_TRACKING_URI": ""}
        self.process = subprocess.Popen(words, cwd=folder, env=environment, stdin=inner, stdout=inner, stderr=inner)
        os.close(inner)

    def wait_for(self, text, seconds=120):
        """Read until `text` is shown, and discard the output up to it."""
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < deadline, f"no {text!r} in {self.shown[-2000:]!r}"
            if select.select([self.end], [], [], 0.1)[0]:
                self.shown += os.read(self.end, 65536).decode(errors="replace")
                self.shown = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", self.shown)
        self.shown = self.shown.partition(text)[2]

    def type(self, text):
        os.write(self.end, text.encode())


@pytest.mark.slow
def test_on_a_terminal_the_answers_grow_side_by_side_and_ctrl_c_ends_one_of_them(checkout):
    terminal = Terminal([sys.executable, "-m", "tunetrail", "chat", "--max-new-tokens", "4000"], checkout)
    try:
        terminal.wait_for("> ")
        terminal.type("it\n")
        for _ in range(3):
            terminal.wait_for(" base    ")  # drawn again and again, with more
        for _ in ("base", "tuned"):
            terminal.process.send_signal(signal.SIGINT)
            terminal.wait_for("stopped by Ctrl-C")
        terminal.wait_for("> ")  # the chat goes on
        terminal.type("/quit\n")
        assert terminal.process.wait(timeout=30) == 0
    finally:
        terminal.process.kill()
        terminal.process.wait()

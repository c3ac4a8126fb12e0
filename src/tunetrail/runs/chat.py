"""A question in the run's template -> the answers of the base and the tuned model, as they are generated.

Answers are greedy, like the evaluation's. Each question is asked alone: a template has room for one instruction.
"""

import contextlib
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import MINIMAL
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tunetrail import UserError
from tunetrail.data import template
from tunetrail.training import checkpoint

# A terminal would obey control codes: they are shown as Unicode's pictures of them, except line ends and tabs. The second
# set of codes has no pictures.
_PICTURES = {code: 0x2400 + code for code in range(32) if code not in (9, 10)} | {127: 0x2421}
_PICTURES |= dict.fromkeys(range(128, 160), 0xFFFD)


@dataclass(frozen=True)
class Model:
    """A model that answers, without the adapter of its network if `bare`."""

    title: str
    network: Any
    tokenizer: Any
    bare: bool = False


def load(base: str, revision: str | None, tuned: Path, evaluate: dict[str, Any]) -> list[Model]:
    """Load both models in the dtype and on the device of `evaluate`, the run's section; with an adapter, the base only once.

    Raises:
        UserError: the base cannot be loaded.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    target = device(evaluate.get("device"))
    dtype = evaluate["model_args"].get("dtype", "auto")

    def network(name: str | Path, revision: str | None = None) -> Any:
        return AutoModelForCausalLM.from_pretrained(name, revision=revision, dtype=dtype).to(target).eval()

    try:
        base_network = network(base, revision)
        base_tokenizer = AutoTokenizer.from_pretrained(base, revision=revision)
    except OSError as error:
        raise UserError(f"the base model {base} cannot be loaded: {error}") from None
    # An adapter saved without a tokenizer uses its base's.
    saved = (tuned / "tokenizer_config.json").is_file()
    tokenizer = AutoTokenizer.from_pretrained(tuned) if saved else base_tokenizer
    if not checkpoint.is_adapter(tuned):
        return [Model("base", base_network, base_tokenizer), Model("tuned", network(tuned), tokenizer)]
    from peft import PeftModel

    both = PeftModel.from_pretrained(base_network, tuned).eval()
    return [Model("base", both, base_tokenizer, bare=True), Model("tuned", both, tokenizer)]


def device(wanted: str | None) -> str:
    """Return the device `wanted`, or the CPU if this machine lacks it, with a message; None chooses as lm-eval does."""
    import torch

    if wanted is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=wanted)
    except (AssertionError, RuntimeError):
        print(f"this machine has no {wanted}, which the run was evaluated on: using the CPU", file=sys.stderr, flush=True)
        return "cpu"
    return wanted


def encode(tokenizer: Any, prompt_template: dict[str, str], instruction: str, input: str = "") -> list[int]:
    """Return the token ids of a question: those that precede an answer in training, with special tokens."""
    return template.token_ids(tokenizer, [template.prompt(prompt_template, instruction, input)])[0]


def write(model: Model, ids: list[int], cap: int, show: Callable[[str], None]) -> str:
    """Have `model` answer the prompt `ids` with at most `cap` tokens, and return how the answer ended, as text.

    Each piece of text goes to `show` as it is generated. Ctrl-C ends the answer.
    """
    import torch

    network = model.network
    tokenizer = model.tokenizer
    context = getattr(network.config.get_text_config(), "max_position_embeddings", None) or len(ids) + cap
    room = min(cap, context - len(ids))
    if room < 1:
        return f"no answer: the prompt has {len(ids)} tokens, and the model takes {context}"
    # The checkpoint may name end tokens; the answers in the training data end with the tokenizer's.
    configured = network.generation_config.eos_token_id
    ends = {*(configured if isinstance(configured, list) else [configured]), tokenizer.eos_token_id} - {None}
    prompt = torch.tensor([ids], device=network.device)
    stream = _Stream(tokenizer, len(ids), show)
    with network.disable_adapter() if model.bare else contextlib.nullcontext():
        try:
            (output,) = network.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=room,
                do_sample=False,
                eos_token_id=sorted(ends),
                streamer=stream,
            )
        except KeyboardInterrupt:
            stream.end()
            return "stopped by Ctrl-C"
    count = len(output) - len(ids)
    if output[-1].item() in ends:
        return f"end of text after {count} tokens"
    return f"cut at {count} tokens: " + ("--max-new-tokens gives more" if room == cap else f"the model takes {context}")


class _Stream:
    """A streamer for generate(): its tokens, the prompt's first -> the text that each of them adds, for `show`.

    The whole answer is decoded each time, so that the text is exactly that of its tokens. transformers' TextStreamer decodes
    line by line, where SentencePiece drops a leading space, and waits for spaces, which some scripts do not have.
    """

    def __init__(self, tokenizer: Any, prompt: int, show: Callable[[str], None]):
        self.tokenizer, self.prompt, self.show, self.ids, self.text = tokenizer, prompt, show, [], ""

    def put(self, ids: Any) -> None:
        self.ids += ids.flatten().tolist()
        text = self.tokenizer.decode(self.ids[self.prompt :], skip_special_tokens=True)
        if not text.endswith("�"):  # half a character: the next token has the rest
            self._add(text)

    def end(self) -> None:
        self._add(self.tokenizer.decode(self.ids[self.prompt :], skip_special_tokens=True))

    def _add(self, text: str) -> None:
        if len(text) > len(self.text):
            self.show(text[len(self.text) :])
            self.text = text


def ask(models: list[Model], prompt_template: dict[str, str], instruction: str, input: str, cap: int) -> None:
    """Ask both models and show the answers as they are generated: side by side on a terminal, else one after the other."""

    def answer(model: Model, show: Callable[[str], None]) -> str:
        return write(model, encode(model.tokenizer, prompt_template, instruction, input), cap, show)

    console = Console()
    if console.is_terminal:
        _side_by_side(console, models, answer)
        return
    for model in models:
        print(f"== {model.title} ==", flush=True)
        ending = answer(model, lambda text: print(text, end="", flush=True))
        print(f"\n({ending})\n", flush=True)


@dataclass
class _Column:
    title: str
    text: str = ""
    ending: str = ""

    def add(self, text: str) -> None:
        self.text += text.translate(_PICTURES)


def _side_by_side(console: Console, models: list[Model], answer: Callable[[Model, Callable[[str], None]], str]) -> None:
    columns = [_Column(model.title) for model in models]
    # The last lines that fit on the screen while the answers grow; then all of them.
    with Live(get_renderable=lambda: _table(columns, console), console=console, transient=True):
        for model, column in zip(models, columns, strict=True):
            column.ending = answer(model, column.add)
    console.print(_table(columns))


def _table(columns: Iterable[_Column], within: Console | None = None) -> Table:
    """Return the columns' texts side by side: in full, or the last lines of each that fit `within` the console."""
    table = Table(box=MINIMAL, show_edge=False, expand=True, show_footer=True)
    texts = []
    for column in columns:
        table.add_column(column.title, Text(column.ending), ratio=1, overflow="fold", footer_style="dim")
        texts.append(Text(column.text))
    if within:
        width = (within.width - 1) // len(texts) - 2  # less a line between columns and a space on both sides
        texts = [Text("\n").join(text.wrap(within, width)[6 - within.height :]) for text in texts]
    table.add_row(*texts)
    return table


def session(question: Callable[[str], None]) -> None:
    """Pass each line typed to `question`, until an empty one, /quit or the end of the input."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - arrow keys and earlier lines
    while True:
        try:
            line = input("> ")
        except KeyboardInterrupt:
            print()
            continue
        except EOFError:
            print()
            return
        if not sys.stdin.isatty():
            print(line, flush=True)  # as a terminal shows it
        if line.strip() in ("", "/quit"):
            return
        question(line)

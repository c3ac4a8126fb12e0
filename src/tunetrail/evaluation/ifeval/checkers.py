"""What the IFEval task calls to score an answer: lm-eval's own checkers, made repeatable and kept off the network.

And what lm-eval's samples leave out: how many tokens an answer took, and whether it ended by itself.
"""

import contextlib
import os
import random
import sys
from collections import defaultdict
from typing import Any
from unittest import mock

import langdetect

# The language check draws random numbers, and unseeded it gives one text two answers (lm-evaluation-harness#4213).
langdetect.DetectorFactory.seed = 0

# On rank 0 lm-eval downloads NLTK's punkt_tab as it is imported. `stages.evaluate` asks for it where a prompt needs it.
with mock.patch.dict(os.environ, LOCAL_RANK="1"):
    from lm_eval.tasks.ifeval import instructions, instructions_registry, instructions_util, utils
    from lm_eval.tasks.ifeval.utils import agg_inst_level_acc


class _SameDraws:
    """`random`, of which each draw is the first after the same seed; `draws` counts them."""

    draws = 0

    def __getattr__(self, name: str) -> Any:
        self.draws += 1
        return getattr(random.Random(0), name)


# Asked to count a sign that is no letter ("#", "!": two of the published prompts), the checker draws a letter and counts
# that instead, another one each time, so that loose can come out below strict.
instructions.random = instructions_util.random = _SameDraws()

__all__ = ["agg_inst_level_acc", "built", "known", "process_results", "score", "wanted"]

_counts: dict[str, list[tuple[int, bool]]] = defaultdict(list)  # a text: of each answer that reads so, tokens and ended


def known() -> dict[str, type]:
    """The checker of each instruction id."""
    return instructions_registry.INSTRUCTION_DICT


def built(kind: str, arguments: dict[str, Any], answer: str) -> tuple[dict[str, Any] | None, bool]:
    """Build the checker of an instruction and have it read `answer`; the arguments that it holds, and whether it drew any.

    What its constructor or the check raises goes through, but for NLTK's data, which `inputs.punkt` looks for.
    """
    before, checker = instructions.random.draws, known()[kind](kind)
    checker.build_description(**arguments)
    with contextlib.suppress(LookupError):
        checker.check_following(answer)
    return checker.get_instruction_args(), instructions.random.draws > before


def score(doc: dict[str, Any], answer: str) -> dict[str, Any]:
    """lm-eval's four scores of one answer to an IFEval prompt."""
    return utils.process_results(doc, [answer])


def wanted(doc: dict[str, Any]) -> list[str]:
    """Of each instruction of an IFEval prompt what its checker wants, in lm-eval's own words."""
    sentences = []
    for kind, given in zip(doc["instruction_id_list"], doc["kwargs"], strict=True):
        checker = instructions_registry.INSTRUCTION_DICT[kind](kind)
        sentence = checker.build_description(**{key: value for key, value in given.items() if value})
        if "prompt" in (checker.get_instruction_args() or {}):
            sentence = checker.build_description(prompt=doc["prompt"])
        sentences.append(" ".join(sentence.split()))
    return sentences


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    """What lm-eval calls for each prompt: its own scores, with `tokens` and `ended` (1 or 0) beside them."""
    tokens, ended = _count(results[0])
    return score(doc, results[0]) | {"tokens": tokens, "ended": int(ended)}


def _count(answer: str) -> tuple[int, bool]:
    if found := _counts.get(answer):
        return found.pop(0) if len(found) > 1 else found[0]
    # lm-eval cuts the text at a stop string of `until`: it ended there.
    for text, found in _counts.items():
        if text.startswith(answer):
            return found[0][0], True
    raise ValueError(f"no answer was generated here that begins with {answer[:60]!r}")


def _counting(decode: Any) -> Any:
    def tok_decode(self: Any, tokens: Any, *given: Any, **named: Any) -> str:
        text = decode(self, tokens, *given, **named)
        if isinstance(tokens, list):  # an answer; what lm-eval decodes else is a single id
            ends = self.model.generation_config.eos_token_id
            ends = set(ends if isinstance(ends, list) else [ends])
            ends |= {self.tokenizer.eos_token_id, self.tokenizer.pad_token_id}  # a batch is padded behind what has ended
            length = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
            _counts[text].append((length, length < len(tokens)))
        return text

    return tok_decode


# lm-eval has made its model by the time it reads the task, and its samples keep the text alone.
if backend := sys.modules.get("lm_eval.models.huggingface"):
    backend.HFLM.tok_decode = _counting(backend.HFLM.tok_decode)

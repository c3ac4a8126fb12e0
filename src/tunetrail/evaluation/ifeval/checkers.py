"""What the IFEval task calls to score an answer: lm-eval's own checkers, made deterministic and kept offline.

It also adds to lm-eval's samples how many tokens an answer has, and whether it ended before the token cap.
"""

import contextlib
import os
import random
import sys
from collections import defaultdict
from typing import Any
from unittest import mock

import langdetect

# The language check draws random numbers; without a seed it judges the same text differently (lm-evaluation-harness#4213).
langdetect.DetectorFactory.seed = 0

# On rank 0 the import of lm-eval's task downloads NLTK's punkt_tab. `inputs.punkt` checks that it is here if needed.
with mock.patch.dict(os.environ, LOCAL_RANK="1"):
    from lm_eval.tasks.ifeval import instructions, instructions_registry, instructions_util, utils
    from lm_eval.tasks.ifeval.utils import agg_inst_level_acc


class _SameDraws:
    """Stands in for `random`: each draw is the first after the same seed. `draws` counts them."""

    draws = 0

    def __getattr__(self, name: str) -> Any:
        self.draws += 1
        return getattr(random.Random(0), name)


# To count a sign that is not a letter ("#", "!" in two published prompts), the checker draws a letter each time and counts
# that, so that loose could be below strict.
instructions.random = instructions_util.random = _SameDraws()

__all__ = ["agg_inst_level_acc", "build", "known", "process_results", "score", "wanted"]

_counts: dict[str, list[tuple[int, bool]]] = defaultdict(list)  # text -> (tokens, ended) of each answer with this text


def known() -> dict[str, type]:
    """Return the checker of each instruction id."""
    return instructions_registry.INSTRUCTION_DICT


def build(kind: str, arguments: dict[str, Any], answer: str) -> tuple[dict[str, Any] | None, bool]:
    """Build the checker of an instruction and check `answer`; return the checker's arguments, and whether it drew some.

    Errors of the checker are raised, except for missing data of NLTK, which `inputs.punkt` reports.
    """
    draws = instructions.random.draws
    checker = known()[kind](kind)
    checker.build_description(**arguments)
    with contextlib.suppress(LookupError):
        checker.check_following(answer)
    return checker.get_instruction_args(), instructions.random.draws > draws


def score(doc: dict[str, Any], answer: str) -> dict[str, Any]:
    """Return lm-eval's four scores of one answer to an IFEval prompt."""
    return utils.process_results(doc, [answer])


def wanted(doc: dict[str, Any]) -> list[str]:
    """Return what the checker of each instruction of an IFEval prompt wants, in lm-eval's words."""
    sentences = []
    for kind, kwargs in zip(doc["instruction_id_list"], doc["kwargs"], strict=True):
        checker = known()[kind](kind)
        sentence = checker.build_description(**{key: value for key, value in kwargs.items() if value})
        if "prompt" in (checker.get_instruction_args() or {}):
            sentence = checker.build_description(prompt=doc["prompt"])
        sentences.append(" ".join(sentence.split()))
    return sentences


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    """Return lm-eval's own scores of a prompt with `tokens` and `ended` (1 or 0); lm-eval calls it."""
    tokens, ended = _count(results[0])
    return score(doc, results[0]) | {"tokens": tokens, "ended": int(ended)}


def _count(answer: str) -> tuple[int, bool]:
    if counts := _counts.get(answer):
        return counts.pop(0) if len(counts) > 1 else counts[0]
    # lm-eval cut the text at a stop string of `until`: the answer ended there.
    for text, counts in _counts.items():
        if text.startswith(answer):
            return counts[0][0], True
    raise ValueError(f"no answer that starts with {answer[:60]!r} was generated here")


def _counting(decode: Any) -> Any:
    def tok_decode(self: Any, tokens: Any, *args: Any, **kwargs: Any) -> str:
        text = decode(self, tokens, *args, **kwargs)
        if isinstance(tokens, list):  # an answer; otherwise lm-eval decodes single ids
            ends = self.model.generation_config.eos_token_id
            ends = set(ends if isinstance(ends, list) else [ends])
            ends |= {self.tokenizer.eos_token_id, self.tokenizer.pad_token_id}  # padding follows the end in a batch
            length = next((index for index, token in enumerate(tokens) if token in ends), len(tokens))
            _counts[text].append((length, length < len(tokens)))
        return text

    return tok_decode


# lm-eval makes the model before it reads the task, and its samples have only the text.
if backend := sys.modules.get("lm_eval.models.huggingface"):
    backend.HFLM.tok_decode = _counting(backend.HFLM.tok_decode)

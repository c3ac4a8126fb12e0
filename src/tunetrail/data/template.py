"""One prompt template -> what Axolotl trains on, what lm-eval and `chat` ask, and the digest by which runs are compared.

A template is two Python format strings, `with_input` ({instruction}, {input}) and `without_input` ({instruction}); the
answer follows at their end.
"""

import hashlib
import json
from typing import Any


def prompt(template: dict[str, str], instruction: str, input: str = "") -> str:
    """The text that stands before the answer. As in Alpaca, a row without input has a shorter preamble."""
    if input:
        return template["with_input"].format(instruction=instruction, input=input)
    return template["without_input"].format(instruction=instruction)


def doc_to_text(template: dict[str, str]) -> str:
    """The Jinja string by which lm-eval asks an IFEval prompt, which has no input, in this template."""
    halves = (half.format() for half in template["without_input"].split("{instruction}"))
    before, after = (json.dumps(half, ensure_ascii=False) for half in halves)
    return f"{{{{ {before} + prompt + {after} }}}}"


def token_ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """The ids of prompts as they are asked, and as Axolotl trains on them: BOS where the tokenizer itself puts one."""
    return tokenizer(texts)["input_ids"]


def answer_ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """The ids of the answers that follow, as Axolotl trains on them: no BOS, and EOS at the end."""
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    found = [ids[1:] if ids and ids[0] == bos else ids for ids in tokenizer(texts)["input_ids"]]
    return [ids if ids and ids[-1] == eos else [*ids, eos] for ids in found]


def digest(template: dict[str, str]) -> str:
    """The first 12 hexadecimal digits of the SHA-256 over the template's strings."""
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:12]

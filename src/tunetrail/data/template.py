"""One prompt template -> the prompts of training, lm-eval and `chat`, and the digest by which runs are compared.

A template is two Python format strings, `with_input` ({instruction}, {input}) and `without_input` ({instruction}), before
the answer.
"""

import hashlib
import json
import string
from typing import Any


def prompt(template: dict[str, str], instruction: str, input: str = "") -> str:
    """Return the text before the answer. As in Alpaca, a row without input has a shorter preamble."""
    if input:
        return template["with_input"].format(instruction=instruction, input=input)
    return template["without_input"].format(instruction=instruction)


def doc_to_text(template: dict[str, str]) -> str:
    """Return lm-eval's `doc_to_text`: a Jinja string that puts an IFEval prompt, which has no input, into this template."""
    parts = [""]
    for literal, field, *_ in string.Formatter().parse(template["without_input"]):
        parts[-1] += literal
        if field:
            parts.append("")
    before, after = (json.dumps(part, ensure_ascii=False) for part in parts)
    return f"{{{{ {before} + prompt + {after} }}}}"


def token_ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Return the token ids of prompts as they are asked and trained on: with BOS if the tokenizer adds one."""
    return tokenizer(texts)["input_ids"]


def answer_ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Return the token ids of answers as Axolotl trains on them: no BOS, and EOS at the end."""
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    answers = [ids[1:] if ids and ids[0] == bos else ids for ids in tokenizer(texts)["input_ids"]]
    return [ids if ids and ids[-1] == eos else [*ids, eos] for ids in answers]


def digest(template: dict[str, str]) -> str:
    """Return the first 12 hexadecimal digits of the SHA-256 over the template's strings."""
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:12]

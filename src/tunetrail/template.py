"""One prompt template -> what Axolotl trains on, what lm-eval asks, and the digest by which runs are compared.

A template is two Python format strings, `with_input` ({instruction}, {input}) and `without_input` ({instruction}); the
answer follows at their end.
"""

import hashlib
import json


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


def digest(template: dict[str, str]) -> str:
    """The first 12 hexadecimal digits of the SHA-256 over both format strings."""
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:12]

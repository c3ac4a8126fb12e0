"""Keys and values of a config that would publish a secret: params.yaml is committed, and MLflow shows it.

Not covered: hiding a secret in what is printed or recorded anyway.
"""

import re
from collections.abc import Mapping
from typing import Any

from tunetrail import UserError, redaction

# What ends the name of a key that holds a secret.
_KEY = re.compile(
    r"(api|access|secret|private|auth)_?keys?(_?id)?$|secret$|passw(or)?d$|passphrase$|credentials?$|webhook(_?url)?$"
    r"|(?P<whose>\w*)token$",
    re.IGNORECASE,
)
# A tokenizer's and a chat template's tokens are none.
_OF_A_TOKENIZER = re.compile(
    r"(bos|eos|pad|unk|cls|sep|mask|bo[ait]|eo[ait]|start|end|stop|special|image|audio|video|think|prefix|suffix|fim|tool)_?$",
    re.IGNORECASE,
)
# Whole tokens that say themselves what they are, under any key, and no part of a path or a name. `redaction` knows the
# secrets of addresses.
_VALUE = re.compile(
    r"(?<![\w/.-])(hf_[A-Za-z0-9]{30,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|AKIA[A-Z0-9]{16}|"
    r"sk-(?=[\w-]*\d)(?=[\w-]*[A-Za-z\d]{16})[\w-]+)"  # names begin with sk- as well: of short words, or without a digit
    r"(?![\w/-]|\.\w)"
)
# What a misspelled name is compared with.
NAMES = ("api_key", "wandb_api_key", "comet_api_key", "hf_token", "hub_token", "access_token", "auth_token", "password")
_ENVIRONMENT = re.compile(r"oc\.env:\s*([\w.-]+)")  # OmegaConf's: resolved, the value is in params.yaml
_NONE = ("", "null", "true", "false", "???")
_PAIR = re.compile(r"(?<![\w./@-])([\w./@-]+)[\"'\\]*\s*[=:](?=\s*[\"'\\]*([^\s\"'\\]*))")


def has(key: str) -> bool:
    """Whether a dotted key by its name holds a secret; an item of a list by the list's."""
    name = re.sub(r"(\.\d+)+$", "", key).rpartition(".")[2].replace("-", "_")
    match = _KEY.search(name)
    return bool(match) and not (match["whose"] and _OF_A_TOKENIZER.search(match["whose"]))


def refuse(values: Mapping[str, Any]) -> None:
    """Refuse dotted keys of which one, or its value, would publish a secret. No key and no flag is a secret's value.

    Raises:
        UserError: naming the key, not the value.
    """
    for key, value in values.items():
        if not isinstance(value, str) or value.lower() in _NONE:
            continue
        if (taken := _ENVIRONMENT.search(value)) and has(taken[1]):
            raise UserError(
                f"{key} takes the secret {taken[1]}, which params.yaml would publish. The tools read it themselves."
            )
        text = value if "://" in value else re.sub(r"[?&#]", " ", value)  # a ?key= outside an address is text
        if has(key) or _VALUE.search(value) or redaction.redact(text) != text:
            raise UserError(f"{key} holds a secret, which params.yaml would publish. Put it into the environment instead.")


def refuse_text(text: str) -> None:
    """Refuse a text that cannot be read, before it is printed, as `refuse` does: the whole, and each KEY=VALUE and
    KEY: VALUE in it.

    Raises:
        UserError: naming the key, not the value.
    """
    refuse({"an override": text})
    for key, value in _PAIR.findall(text):
        refuse({key.lstrip("-."): value.rstrip(",}])")})

"""Refuse keys and values of a config that hold a secret: params.yaml is committed, and MLflow shows it.

`redaction` removes secrets from what is printed or recorded.
"""

import re
from collections.abc import Mapping
from typing import Any

from tunetrail import UserError, redaction

# How the name of a key ends that holds a secret.
_KEY = re.compile(
    r"(api|access|secret|private|auth)_?keys?(_?id)?$|secret$|passw(or)?d$|passphrase$|credentials?$|webhook(_?url)?$"
    r"|(?P<whose>\w*)token$",
    re.IGNORECASE,
)
# A tokenizer's and a chat template's tokens are not secrets.
_OF_A_TOKENIZER = re.compile(
    r"(bos|eos|pad|unk|cls|sep|mask|bo[ait]|eo[ait]|start|end|stop|special|image|audio|video|think|prefix|suffix|fim|tool)_?$",
    re.IGNORECASE,
)
# Tokens that are known by their form, under any key, unless part of a path or a name. `redaction` knows the secrets in
# addresses.
_VALUE = re.compile(
    r"(?<![\w/.-])(hf_[A-Za-z0-9]{30,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|AKIA[A-Z0-9]{16}|"
    r"sk-(?=[\w-]*\d)(?=[\w-]*[A-Za-z\d]{16})[\w-]+)"  # names such as sk-learn start so too: short words, or no digit
    r"(?![\w/-]|\.\w)"
)
# A misspelled key is compared with these.
NAMES = ("api_key", "wandb_api_key", "comet_api_key", "hf_token", "hub_token", "access_token", "auth_token", "password")
_ENVIRONMENT = re.compile(r"oc\.env:\s*([\w.-]+)")  # OmegaConf's: resolved, the value is in params.yaml
_NONE = ("", "null", "true", "false", "???")
_PAIR = re.compile(r"(?<![\w./@-])([\w./@-]+)[\"'\\]*\s*[=:](?=\s*[\"'\\]*([^\s\"'\\]*))")


def has(key: str) -> bool:
    """Return whether a dotted key holds a secret, by its name; for an item of a list, by the list's name."""
    name = re.sub(r"(\.\d+)+$", "", key).rpartition(".")[2].replace("-", "_")
    match = _KEY.search(name)
    return bool(match) and not (match["whose"] and _OF_A_TOKENIZER.search(match["whose"]))


def refuse(values: Mapping[str, Any]) -> None:
    """Check that no dotted key and no value is a secret. Only text can be one.

    Raises:
        UserError: one is; names the key, not the value.
    """
    for key, value in values.items():
        if not isinstance(value, str) or value.lower() in _NONE:
            continue
        if (variable := _ENVIRONMENT.search(value)) and has(variable[1]):
            raise UserError(
                f"{key} would write ${variable[1]} into params.yaml, which is published. Leave it out: the tools read the "
                "variable themselves."
            )
        text = value if "://" in value else re.sub(r"[?&#]", " ", value)  # a ?key= outside an address is text
        if has(key) or _VALUE.search(value) or redaction.redact(text) != text:
            raise UserError(f"{key} holds a secret, which params.yaml would publish. Put it into the environment instead.")


def refuse_text(text: str) -> None:
    """Check text that cannot be parsed before it is printed: the whole, and each KEY=VALUE and KEY: VALUE in it.

    Raises:
        UserError: as `refuse`.
    """
    refuse({"an override": text})
    for key, value in _PAIR.findall(text):
        refuse({key.lstrip("-."): value.rstrip(",}])")})

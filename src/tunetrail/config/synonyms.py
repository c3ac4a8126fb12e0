"""Names that other tools have for a key or a value (synonyms.yaml) -> the key or the value with that meaning here.

`check.unknown` guesses at misspelled keys.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

_FILE = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


def _by_word(section: dict[str, list[str]]) -> dict[str, str]:
    return {word: name for name, words in section.items() for word in words}


VALUES = {key: _by_word(section) for key, section in _FILE.pop("values").items()}
_UNSURE = {name: _by_word(section) for name, section in _FILE.pop("unsure").items()}
SECTIONS = {name: _by_word(section) for name, section in _FILE.items()}
for tables in (_UNSURE, SECTIONS):
    tables["base.make.train"] = tables["train"]  # also an Axolotl config


def key(typed: str, known: Iterable[str]) -> str | None:
    """Return the one of the `known` dotted keys with the meaning of `typed`; None if there is none, or more than one.

    A word without a section is looked up in each section.
    """
    keys = _meant_or_same_name(typed, known)
    return keys[0] if len(keys) == 1 else None


def unsure(typed: str, known: Iterable[str]) -> list[str]:
    """Return the known keys that `typed` may mean."""
    return _meant_or_same_name(typed, known) or _meant(typed, known, _UNSURE)


def value(key: str, typed: Any) -> Any:
    """Return our name for the value `typed` of a dotted key; `typed` itself if it is no synonym."""
    names = VALUES.get(key.rpartition(".")[2], {})
    return names.get(typed, typed) if isinstance(typed, str) else typed


def _meant_or_same_name(typed: str, known: Iterable[str]) -> list[str]:
    """Return `_meant`, and for a word without a section also the keys of that name, as train.eval_batch_size."""
    keys = _meant(typed, known, SECTIONS)
    if not keys or "." in typed:
        return keys
    namesakes = {f"{name}.{typed}" for name in SECTIONS if "." not in name}
    return list(dict.fromkeys([*keys, *(key for key in known if key in namesakes)]))


def _meant(typed: str, known: Iterable[str], tables: dict[str, dict[str, str]]) -> list[str]:
    section = max((name for name in tables if typed.startswith(f"{name}.")), key=len, default=None)
    if section:
        word = typed.removeprefix(f"{section}.")
        keys = [f"{section}.{tables[section][word]}"] if word in tables[section] else []
    else:
        keys = [f"{name}.{words[typed]}" for name, words in tables.items() if typed in words and "." not in name]
    return [key for key in dict.fromkeys(keys) if key in known]

"""Overrides as typed -> what Hydra composes of conf/ for them, and what is wrong with them in a person's words.

Not covered: what the composed values are good for (`check`), the jobs of a sweep (`grid`), and running any.
"""

import contextlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunetrail import UserError
from tunetrail.config import check, secret

# Hydra's own; it takes the beginning of one for the whole, `--experiment` for `--experimental-rerun`.
_HYDRA_OPTIONS = ("--cfg", "--resolve", "--package", "--info", "--multirun", "--hydra-help", "--shell-completion")
_HYDRA_OPTIONS += ("-c", "-p", "-i", "-m")
_TAKE_A_VALUE = ("--cfg", "-c", "--package", "-p", "--info", "-i")
_SECOND_OVERRIDE = re.compile(r"\s+(?=[~+]{0,2}[A-Za-z_][\w./@]*=)")


def compose(root: Path, words: list[str], hydra: bool = False) -> Any:
    """The config of one run; with `hydra` Hydra's own section, too.

    Raises:
        HydraException, OmegaConfBaseException: it cannot be.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import ConfigCompositionException

    inside = GlobalHydra.instance().is_initialized()  # within `hydra.main`, which has this conf/ open
    with contextlib.nullcontext() if inside else initialize_config_dir(str(root / "conf")):
        try:
            return compose("config", words, return_hydra_config=hydra)
        except ValueError as error:  # of a group that is null
            raise ConfigCompositionException(str(error)) from error


def parse(words: list[str]) -> list[Any]:
    """Hydra's `Override` of each word that is none of its options.

    Raises:
        HydraException: a word is not one.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_overrides([word for word in words if not word.startswith("-")])


def retyped(words: list[str], more: list[str]) -> list[str]:
    """The words with `more` at their end, each in place of the word that has set the same group or key before; what deletes
    such a key leaves that word out, and no more."""
    last = {one.key_or_group: one for one in parse(more)}
    kept, added = [], {}
    for one in parse(words):
        if one.key_or_group not in last or one.is_delete():
            kept.append(one.input_line)
        elif last[one.key_or_group].is_delete():
            added[one.key_or_group] = ""
        elif one.is_add() or one.is_force_add():
            added[one.key_or_group] = "+" if one.is_add() else "++"
    for key, one in last.items():
        if not (key in added and one.is_delete()):
            plus = "" if one.is_add() or one.is_force_add() else added.get(key, "")
            kept.append(plus + one.input_line)
    return kept


def check_words(words: list[str], multirun: bool = False) -> None:
    """Refuse what looks like an option and is none, what is no override of one run, or with `multirun` of several, and what
    would publish a secret.

    Raises:
        UserError: naming the word and how it is written, of a secret its key alone.
    """
    from hydra.errors import OverrideParseException

    before = ""
    for word in words:
        previous, before = before, word
        if word.startswith("-"):
            if word.partition("=")[0] not in _HYDRA_OPTIONS:
                secret.refuse_text(word)
                key = word.lstrip("-").partition("=")[0]
                hint = f"An override has no dashes: {key}=VALUE. " if word.startswith("--") else ""
                raise UserError(f"{word}: no such option. {hint}See tunetrail run --help.")
            continue
        if previous in _TAKE_A_VALUE:
            continue
        try:
            (override,) = parse([word])
        except OverrideParseException:
            secret.refuse_text(word if "=" in word else "=".join(word.split()))
            raise UserError(_unreadable(word)) from None
        refuse_secrets(override)
        if not override.key_or_group:
            raise UserError(f"{word}: no key. An override is KEY=VALUE.")
        if override.is_sweep_override() and not multirun:
            key, sweep = word.partition("=")[0], f"tunetrail run -m {shlex.quote(word)}"
            raise UserError(
                f"{word}: several values, and this is one run. Give one, or run a sweep: {sweep}. A list is written in "
                f"brackets: {key}=[...]"
            )


def refuse_secrets(override: Any) -> None:
    """Refuse one of Hydra's overrides, also a sweep's, of which a value would publish a secret.

    Raises:
        UserError: naming the key, not the value.
    """
    value = override.value()
    for single in getattr(value, "list", [value]):
        flat = check.flatten(_plain(single), override.key_or_group)
        secret.refuse(
            {key: value if value is None or isinstance(value, bool) else str(value) for key, value in flat.items()}
        )


def _plain(value: Any) -> Any:
    """A value of Hydra's grammar with the text of what is in quotation marks in place of its own class for it."""
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return getattr(value, "text", value)


def _unreadable(word: str) -> str:
    """Why Hydra's grammar does not take the word, and how it is written."""
    key, equals, value = word.partition("=")
    if not equals:
        return f"{word}: no value. An override is KEY=VALUE: {word}=VALUE; ~{word} removes the key."
    if len(several := _SECOND_OVERRIDE.split(word)) > 1:
        apart = " ".join(map(shlex.quote, several))
        return f"{word}: several overrides in one word. Write them apart: {apart}"
    quoted = shlex.quote(f"{key}=" + json.dumps(value, ensure_ascii=False))
    return f"{word}: Hydra cannot read this. Quote a value that holds signs of its grammar: {quoted}"


@contextlib.contextmanager
def explained(root: Path, words: list[str], schema: check.Schema) -> Iterator[None]:
    """What Hydra has against the words, as an error of the person's."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        groups = [folder.name for folder in (root / "conf").iterdir() if folder.is_dir()]
        known = [*check.known_keys(schema), *groups, *hydra_keys(root, words)]
        if check.not_composed(error):
            raise _refused(root, words, error, schema, known) from error
        raise UserError(check.composition_fault(error, known)) from error


def _refused(root: Path, words: list[str], error: Exception, schema: check.Schema, known: list[str]) -> check.Refused:
    """Every fault of the words, where Hydra stops at the first: they are composed and checked again without that word."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    faults: list[check.Fault] = []
    while key := check.not_composed(error):
        says = check.Fault(key, check.composition_fault(error, known))
        faults.append(says if key in known else check.unknown(key, known))
        rest = [word for word in words if word.lstrip("+~").partition("=")[0] != key]
        if rest == words:
            break
        words = rest
        try:
            values = check.resolve(compose(root, words))
            check.check(values, schema)
            return check.Refused(faults, values)
        except (HydraException, OmegaConfBaseException) as other:
            error = other
        except check.Refused as other:
            return check.Refused(faults + other.faults, values)
        except UserError:  # of what the words that were left out may have been the fix
            break
    return check.Refused(faults)


def hydra_keys(root: Path, words: list[str]) -> list[str]:
    """Hydra's own dotted keys, those of the sweeper and the launcher that the words choose among them."""
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    options = [word for word in words if word.startswith("sweep=")]
    try:
        hydra = compose(root, options, hydra=True).hydra
    except HydraException:  # which is what is wrong with them
        return []
    return [key for key in check.flatten(OmegaConf.to_container(hydra), "hydra") if "._" not in key]

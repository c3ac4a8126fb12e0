"""Overrides as typed -> these and what goes with them: a path means that file, and no other data set's licence.

Where the file of another option would win in silence, or its licence would be recorded for it. What an experiment's file
gives counts as typed. Not covered: composed values
that contradict each other anyway (`inputs.check_consistency`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tunetrail import UserError
from tunetrail.config import check, compose, grid
from tunetrail.config.overrides import parse
from tunetrail.data import world

_GIVEN = ("prepare.path", "prepare.hub", "evaluate.path", "base.base_model")
_MISSING = "???"


def complete(root: Path, words: list[str]) -> tuple[list[str], list[str]]:
    """The words with those that they imply at the end, and a line for each key that implies some.

    Words that Hydra cannot parse or compose stay as they are: it says itself what is wrong with them.

    Raises:
        UserError: of a sweep, where what one job implies would change another.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        # What is left out are options of Hydra's and their values, as `--cfg job`.
        parsed = parse([word for word in words if "=" in word or word.startswith("~")])
        experiments = [value for one in parsed if one.key_or_group == "experiment" for value in _choices(one)]
        given = {one.key_or_group for one in parsed}.union(*(_of_file(root, name) for name in experiments))
        if not any(key.startswith(_GIVEN) for key in given):
            return words, []
        implied: dict[str, list[str]] = {}
        own = [(job, _of_job(root, job)) for job in grid.jobs(parsed)]
        for _, by_key in own:
            for key, more in by_key.items():
                implied[key] = list(dict.fromkeys([*implied.get(key, []), *more]))
        for job, by_key in own:
            _refuse_changed(root, job, by_key, implied)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError):
        return words, []
    return [*words, *_flat(implied)], [f"{key} is given: {' '.join(more)}" for key, more in implied.items()]


def _refuse_changed(root: Path, job: list[str], own: dict[str, list[str]], implied: dict[str, list[str]]) -> None:
    """Refuse words that all jobs would have and that change this one, which implies its `own` alone.

    Raises:
        UserError: naming the job and the words.
    """
    if own == implied:
        return
    mine, all_of_them = (_flat(by_key) for by_key in (own, implied))
    if _composed(root, [*job, *mine]) != _composed(root, [*job, *all_of_them]):
        others = " ".join(word for word in all_of_them if word not in mine)
        raise UserError(
            f"{', '.join(implied)}: a job of the sweep implies {others}, which would change the job {' '.join(job)}. Run "
            f"one sweep for each, or type it for all of the jobs: {others}"
        )


def _flat(implied: dict[str, list[str]]) -> list[str]:
    return list(dict.fromkeys(word for more in implied.values() for word in more))


def _composed(root: Path, words: list[str]) -> Any:
    """What the words compose, with its interpolations as they are."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(compose.compose(root, words))


def _of_job(root: Path, lines: list[str]) -> dict[str, list[str]]:
    """What the overrides of one job imply, by the key that implies it; and its experiment's file, where nothing was typed
    over what that gives."""
    parsed = parse(lines)
    groups = [one.input_line for one in parsed if (root / "conf" / one.key_or_group).is_dir()]
    typed = {one.key_or_group: None if one.is_delete() else one.value() for one in parsed}
    implied = _implied(root, typed, groups) if any(key.startswith(_GIVEN) for key in typed) else {}
    of_file = _of_file(root, typed.get("experiment"))
    if any(key.startswith(_GIVEN) for key in of_file):
        chosen = compose.compose(root, groups, hydra=True).hydra.runtime.choices
        folders = [group for group in chosen if (root / "conf" / group).is_dir() and group not in ("experiment", "sweep")]
        options = [f"{group}={chosen[group]}" for group in folders] + ["~experiment"]
        sections = {key.partition(".")[0] for key in typed if key.startswith(_GIVEN)}
        more = _implied(root, of_file | typed, options)
        implied |= {key: words for key, words in more.items() if key.partition(".")[0] not in sections}
    return implied


def _implied(root: Path, typed: dict[str, Any], groups: list[str]) -> dict[str, list[str]]:
    """What the values `typed` over these options of groups imply, by the key that implies it."""
    own = _composed(root, groups)
    words = {
        "prepare.path": _rows(typed, own["prepare"], lambda: _composed(root, [*groups, "prepare=file"])["prepare"]),
        "prepare.hub": _hub(typed, own["prepare"]),
        "evaluate.path": _prompts(typed, own["evaluate"]),
        "base.base_model": _model(typed, own["base"]),
    }
    return {key: more for key, more in words.items() if more}


def _choices(override: Any) -> list[Any]:
    """The options that an override names, of a choice all of them."""
    return list(override.sweep_iterator()) if override.is_choice_sweep() else [override.value()]


def _of_file(root: Path, experiment: Any) -> dict[str, Any]:
    """The dotted keys that an experiment's file gives values, with those of the experiments that it begins with."""
    file = root / "conf" / "experiment" / f"{experiment}.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None
    if not isinstance(content, dict):  # Hydra says what is wrong with it
        return {}
    first = [name for name in content.pop("defaults", None) or [] if isinstance(name, str) and name != "_self_"]
    keys = {key: value for name in first for key, value in _of_file(root, name).items()}
    return keys | {key: value for key, value in check.flatten(content).items() if value != _MISSING}


def _rows(typed: dict[str, Any], own: dict[str, Any], of_a_file: Callable[[], dict[str, Any]]) -> list[str]:
    """`of_a_file` composes the section with `prepare=file`, which leaves what an experiment sets itself."""
    if not _is_file(typed.get("prepare.path"), own):
        return []
    others = [f"prepare.{key}" for key in ("generate", "hub") if own[key]]  # sources that the option has
    chosen = any(key.startswith(("prepare.generate", "prepare.hub")) and value for key, value in typed.items())
    if others and "prepare" not in typed and not chosen:
        return ["prepare=file", *_unset("prepare", ("hub", "generate", "license", "expected_rows"), typed, of_a_file())]
    left = own["path"] == _MISSING or any(typed.get(key, own) for key in others)
    return [] if left else _unset("prepare", ("license", "expected_rows"), typed, own)


def _hub(typed: dict[str, Any], own: dict[str, Any]) -> list[str]:
    hub = own["hub"] or {}
    whole = typed.get("prepare.hub") or {}
    changed = {f"prepare.hub.{key}": value for key, value in whole.items() if isinstance(whole, dict)}
    changed |= {key: value for key, value in typed.items() if key.startswith("prepare.hub.")}
    if all(value == hub.get(key.removeprefix("prepare.hub.")) for key, value in changed.items()):
        return []
    return _unset("prepare", ("license", "expected_rows"), typed, own)


def _prompts(typed: dict[str, Any], own: dict[str, Any]) -> list[str]:
    if not _is_file(typed.get("evaluate.path"), own):
        return []
    words = [] if own["hub"] is None or any(key.startswith("evaluate.hub") for key in typed) else ["evaluate.hub=null"]
    named = own["path"] == world.SOURCE and "evaluate.task.task" not in typed
    return [*words, "evaluate.task.task=ifeval"] if named else words


def _model(typed: dict[str, Any], own: dict[str, Any]) -> list[str]:
    if typed.get("base.base_model") in (None, own["base_model"]):
        return []
    return _unset("base", ("license", "revision_of_model"), typed, own)


def _is_file(path: Any, own: dict[str, Any]) -> bool:
    """Whether a path was typed, and is not what the option itself names."""
    return path not in (None, own["path"], world.SOURCE)


def _unset(section: str, keys: tuple[str, ...], typed: dict[str, Any], own: dict[str, Any]) -> list[str]:
    """Words that take away what the option says of its own data or model, where nothing else was typed."""
    return [f"{section}.{key}=null" for key in keys if own[key] not in (None, _MISSING) and f"{section}.{key}" not in typed]

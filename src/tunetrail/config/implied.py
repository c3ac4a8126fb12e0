"""Overrides as typed -> the same with those that they imply: a path means that file, without another data set's licence.

Otherwise the data of a chosen option would silently win, or its licence would be recorded for other data. What an
experiment's file sets counts as typed. `contradictions` refuses values that contradict each other all the same.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tunetrail import UserError
from tunetrail.config import check, compose, grid
from tunetrail.config.overrides import parse
from tunetrail.data import world

_KEYS = ("prepare.path", "prepare.hub", "evaluate.path", "base.base_model")  # that imply others
_MISSING = "???"
# By key: the overrides that it implies.
Implied = dict[str, list[str]]


def complete(root: Path, words: list[str]) -> tuple[list[str], list[str]]:
    """Return the overrides with those that they imply at the end, and a line for each key that implies some.

    Overrides that Hydra cannot parse or compose are returned unchanged: it reports the error later.

    Raises:
        UserError: what one job of a sweep implies would change another.
    """
    try:
        # Without options of Hydra and their values, as in `--cfg job`.
        overrides = parse([word for word in words if "=" in word or word.startswith("~")])
        experiments = [
            value for override in overrides if override.key_or_group == "experiment" for value in _values(override)
        ]
        keys = {override.key_or_group for override in overrides}.union(
            *(_experiment_keys(root, name) for name in experiments)
        )
        if not any(key.startswith(_KEYS) for key in keys):
            return words, []
        jobs = [(job, _implied_by_job(root, job)) for job in grid.jobs(overrides)]
        implied: Implied = {}
        for _, own in jobs:
            for key, more in own.items():
                implied[key] = list(dict.fromkeys([*implied.get(key, []), *more]))
        for job, own in jobs:
            _refuse_changed(root, job, own, implied)
    except (*compose.errors(), yaml.YAMLError):
        return words, []
    return [*words, *_flat(implied)], [f"{key} is given: {' '.join(more)}" for key, more in implied.items()]


def _refuse_changed(root: Path, job: list[str], own: Implied, implied: Implied) -> None:
    """Check that what all jobs imply does not change this job, which itself implies `own`."""
    if own == implied:
        return
    if _composed(root, [*job, *_flat(own)]) != _composed(root, [*job, *_flat(implied)]):
        others = " ".join(override for override in _flat(implied) if override not in _flat(own))
        raise UserError(
            f"{', '.join(implied)}: a job of the sweep implies {others}, which would change the job {' '.join(job)}. Run "
            f"one sweep for each, or type it for all of the jobs: {others}"
        )


def _flat(implied: Implied) -> list[str]:
    return list(dict.fromkeys(override for overrides in implied.values() for override in overrides))


def _composed(root: Path, overrides: list[str]) -> Any:
    """Compose the overrides, interpolations unresolved."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(compose.compose(root, overrides))


def _implied_by_job(root: Path, words: list[str]) -> Implied:
    """Return what one job's overrides imply, and in the other sections what its experiment's file implies."""
    overrides = parse(words)
    groups = [override.input_line for override in overrides if (root / "conf" / override.key_or_group).is_dir()]
    typed = {override.key_or_group: None if override.is_delete() else override.value() for override in overrides}
    implied = _implied(root, typed, groups) if any(key.startswith(_KEYS) for key in typed) else {}
    of_experiment = _experiment_keys(root, typed.get("experiment"))
    if any(key.startswith(_KEYS) for key in of_experiment):
        chosen = compose.compose(root, groups, hydra=True).hydra.runtime.choices
        options = [
            f"{group}={chosen[group]}"
            for group in chosen
            if (root / "conf" / group).is_dir() and group not in ("experiment", "sweep")
        ]
        sections = {key.partition(".")[0] for key in typed if key.startswith(_KEYS)}
        more = _implied(root, of_experiment | typed, [*options, "~experiment"])
        implied |= {key: overrides for key, overrides in more.items() if key.partition(".")[0] not in sections}
    return implied


def _implied(root: Path, typed: dict[str, Any], groups: list[str]) -> Implied:
    """Return what the values `typed` imply beside these options of groups."""
    own = _composed(root, groups)
    implied = {
        "prepare.path": _by_rows(typed, own["prepare"], lambda: _composed(root, [*groups, "prepare=file"])["prepare"]),
        "prepare.hub": _by_hub(typed, own["prepare"]),
        "evaluate.path": _by_prompts(typed, own["evaluate"]),
        "base.base_model": _by_model(typed, own["base"]),
    }
    return {key: overrides for key, overrides in implied.items() if overrides}


def _values(override: Any) -> list[Any]:
    return list(override.sweep_iterator()) if override.is_choice_sweep() else [override.value()]


def _experiment_keys(root: Path, experiment: Any) -> dict[str, Any]:
    """Return the dotted keys that an experiment's file sets, with those of the experiments in its defaults."""
    file = root / "conf" / "experiment" / f"{experiment}.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None
    if not isinstance(content, dict):  # Hydra reports it
        return {}
    keys: dict[str, Any] = {}
    for name in content.pop("defaults", None) or []:
        if isinstance(name, str) and name != "_self_":
            keys |= _experiment_keys(root, name)
    return keys | {key: value for key, value in check.flatten(content).items() if value != _MISSING}


# The following functions return the overrides that a path, a hub file or a model implies. `own` is the section as the chosen
# options compose it.
def _by_rows(typed: dict[str, Any], own: dict[str, Any], of_file: Callable[[], dict[str, Any]]) -> list[str]:
    # `of_file` composes the section with `prepare=file`, in which an experiment's own values remain.
    if not _is_file(typed.get("prepare.path"), own):
        return []
    sources = [f"prepare.{key}" for key in ("generate", "hub") if own[key]]
    keeps_source = any(key.startswith(("prepare.generate", "prepare.hub")) and value for key, value in typed.items())
    if sources and "prepare" not in typed and not keeps_source:
        return ["prepare=file", *_unset("prepare", ("hub", "generate", "license", "expected_rows"), typed, of_file())]
    contradicts = any(typed.get(key, own) for key in sources)
    if own["path"] == _MISSING or contradicts:
        return []
    return _unset("prepare", ("license", "expected_rows"), typed, own)


def _by_hub(typed: dict[str, Any], own: dict[str, Any]) -> list[str]:
    hub = own["hub"] or {}
    changed = {key: value for key, value in typed.items() if key.startswith("prepare.hub.")}
    if isinstance(typed.get("prepare.hub"), dict):
        changed |= {f"prepare.hub.{key}": value for key, value in typed["prepare.hub"].items()}
    if all(value == hub.get(key.removeprefix("prepare.hub.")) for key, value in changed.items()):
        return []
    return _unset("prepare", ("license", "expected_rows"), typed, own)


def _by_prompts(typed: dict[str, Any], own: dict[str, Any]) -> list[str]:
    if not _is_file(typed.get("evaluate.path"), own):
        return []
    overrides = []
    if own["hub"] is not None and not any(key.startswith("evaluate.hub") for key in typed):
        overrides.append("evaluate.hub=null")
    if own["path"] == world.SOURCE and "evaluate.task.task" not in typed:
        overrides.append("evaluate.task.task=ifeval")
    return overrides


def _by_model(typed: dict[str, Any], own: dict[str, Any]) -> list[str]:
    if typed.get("base.base_model") in (None, own["base_model"]):
        return []
    return _unset("base", ("license", "revision_of_model"), typed, own)


def _is_file(path: Any, own: dict[str, Any]) -> bool:
    """Return whether a path was typed that is not the option's own."""
    return path not in (None, own["path"], world.SOURCE)


def _unset(section: str, keys: tuple[str, ...], typed: dict[str, Any], own: dict[str, Any]) -> list[str]:
    """Return overrides that unset what the option says of its own data or model, unless a value was typed."""
    return [f"{section}.{key}=null" for key in keys if own[key] not in (None, _MISSING) and f"{section}.{key}" not in typed]

"""Overrides as typed -> the config that Hydra composes of conf/ for them, and its errors in plain words.

`check` checks the composed values; `grid` has the jobs of a sweep.
"""

import contextlib
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from tunetrail import UserError
from tunetrail.config import check


def errors() -> tuple[type[Exception], ...]:
    """Return what Hydra and OmegaConf raise about overrides; importing Hydra takes a while."""
    from hydra.errors import HydraException

    return HydraException, OmegaConfBaseException


def compose(root: Path, overrides: list[str], hydra: bool = False) -> Any:
    """Compose the config of one run; with `hydra`, Hydra's own section is included.

    Raises one of `errors` if it cannot be composed.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import ConfigCompositionException

    inside = GlobalHydra.instance().is_initialized()  # within `hydra.main`, which has this conf/ open
    with contextlib.nullcontext() if inside else initialize_config_dir(str(root / "conf")):
        try:
            return compose("config", overrides, return_hydra_config=hydra)
        except errors() as error:
            if str(error).strip():
                raise
            raise ConfigCompositionException(_cannot(overrides, error)) from error
        except (ValueError, TypeError, AttributeError, LookupError, AssertionError, OSError, RecursionError) as error:
            # Hydra's own faults, such as for a group that is null or a list of numbers.
            raise ConfigCompositionException(_cannot(overrides, error)) from error


def _cannot(overrides: list[str], error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    return (
        f"Hydra cannot compose {shlex.join(overrides)} ({reason}). See its syntax: "
        "https://hydra.cc/docs/advanced/override_grammar/basic"
    )


def run_composed(root: Path, overrides: list[str], schema: check.Schema, job: Callable[[Any], float | None]) -> None:
    """Have Hydra compose `overrides` and call `job` with the config; with -m among them its launcher does so for each job.

    Raises:
        UserError: Hydra cannot compose them, or `job` raised it.
    """
    import hydra

    os.chdir(root)
    sys.argv = ["tunetrail run", *overrides]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises, instead of printing and exiting with code 1
    errors: list[UserError] = []

    def call(cfg: Any) -> float | None:
        try:
            return job(cfg)
        except UserError as error:  # Hydra would print its own heading above it
            errors.append(error)

    with explained(root, overrides, schema):
        hydra.main(config_path=str(root / "conf"), config_name="config")(call)()
    if errors:
        raise errors[0]


@contextlib.contextmanager
def explained(root: Path, overrides: list[str], schema: check.Schema) -> Iterator[None]:
    """Turn an error of Hydra or OmegaConf about `overrides` into a UserError."""
    try:
        yield
    except errors() as error:
        groups = [folder.name for folder in (root / "conf").iterdir() if folder.is_dir()]
        known = [*check.known_keys(schema), *groups, *hydra_keys(root, overrides)]
        if _unknown_key(error):
            raise _every_fault(root, overrides, error, schema, known) from error
        raise UserError(message(error, known)) from error


def _every_fault(
    root: Path, overrides: list[str], error: Exception, schema: check.Schema, known: list[str]
) -> check.Refused:
    """Collect every fault, where Hydra stops at the first: leave out the override at fault, compose and check again."""
    faults: list[check.Fault] = []
    while key := _unknown_key(error):
        faults.append(check.Fault(key, message(error, known)) if key in known else check.unknown(key, known))
        rest = [override for override in overrides if override.lstrip("+~").partition("=")[0] != key]
        if rest == overrides:
            break
        overrides = rest
        try:
            values = check.resolve(compose(root, overrides))
            check.check(values, schema)
            return check.Refused(faults, values)
        except errors() as other:
            error = other
        except check.Refused as other:
            return check.Refused(faults + other.faults, values)
        except UserError:  # an override that was left out may have prevented it
            break
    return check.Refused(faults)


def message(error: Exception, known: list[str]) -> str:
    """Return the message about an error of Hydra or OmegaConf, with the nearest of the `known` keys for an unknown one.

    `known` includes keys of the tools that conf/ does not set. Hydra itself lists the options of a group.
    """
    text = str(error)
    if override := re.fullmatch(r"Error merging override ([^=]+)=(.*)", text):
        reason = str(error.__cause__).partition("\n")[0]
        if typed := re.fullmatch(r"Value (.*) of type '\w+' could not be converted to (\w+)", reason):
            reason = f"{typed[1]} is not of type '{typed[2].lower()}'"
        return f"{override[1].lstrip('+')}: {reason}. Give a value of that type."
    if "Could not find 'hydra/launcher/ray'" in text:
        return (
            "sweep=ray: its plug-in is not installed. Install the extra that has it: uv pip install --constraint "
            "requirements/default.txt --editable '.[ray]'"
        )
    key = _unknown_key(error)
    if not key:
        return text.partition("\nConfig search path")[0].strip()
    if key in known:
        return f"{key}: conf/ does not set this key yet. Add it with a plus: +{key}=..."
    return check.unknown(key, known).message


def _unknown_key(error: Exception) -> str | None:
    """Return the key that Hydra or OmegaConf does not find in conf/; None for another error."""
    key = re.search(r"Could not override '([^']+)'|Key '[^']+' is not in struct\s+full_key: (\S+)", str(error))
    return key and (key[1] or key[2])


def hydra_keys(root: Path, overrides: list[str]) -> list[str]:
    """Return Hydra's own dotted keys, with those of the sweeper and the launcher that `overrides` choose."""
    from omegaconf import OmegaConf

    options = [override for override in overrides if override.startswith("sweep=")]
    try:
        hydra = compose(root, options, hydra=True).hydra
    except errors():  # the options themselves are wrong
        return []
    return [key for key in check.flatten(OmegaConf.to_container(hydra), "hydra") if "._" not in key]

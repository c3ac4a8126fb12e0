"""A sweep's overrides as typed -> what varies in its jobs, how many there are, and a check of every value.

Which combinations run, and where, is decided by Hydra.
"""

import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tunetrail import UserError
from tunetrail.config import canonical, check
from tunetrail.config.compose import compose
from tunetrail.config.overrides import parse, refuse_secrets

_QUICK = 3  # more jobs than this take so long to check that the user is told


def constant(words: list[str]) -> frozenset[str]:
    """Return the keys that have the same value in every job."""
    return frozenset(override.key_or_group for override in parse(words) if not override.is_sweep_override())


def logarithmic(words: list[str]) -> frozenset[str]:
    """Return the keys whose values lie on a logarithmic scale, as `tag(log, ...)` declares it."""
    swept = (override for override in parse(words) if override.is_sweep_override())
    tagged = (override for override in swept if "log" in getattr(override.value(), "tags", ()))
    return frozenset(override.get_key_element().lstrip("+") for override in tagged)


def total(root: Path, words: list[str]) -> int | None:
    """Return the number of jobs, or None if a sampler or a glob decides it. Composes the first job.

    Raises one of `compose.errors` if it cannot be composed.
    """
    overrides = parse(words)
    sweeper = compose(root, next(jobs(overrides)), hydra=True).hydra.sweeper
    count = math.prod(len(_single_values(override)) for override in overrides)  # 0 with a glob, which only Hydra resolves
    return count if count and _runs_every_combination(sweeper) and not sweeper.params else None


def check_jobs(
    root: Path, words: list[str], schema: check.Schema, refuse: Callable[[dict[str, Any]], None] | None = None
) -> None:
    """Check a sweep, and every value in it, before anything is written.

    `refuse` raises UserError for the values of a job that must not run.

    Raises:
        UserError: naming the job's overrides, or what is wrong with the sweeper or the launcher.
        HydraException, OmegaConfBaseException (`compose.errors`): a job cannot be composed.
    """
    overrides = parse(words)
    for override in overrides:  # before any value is printed
        refuse_secrets(override)
    _check_sweep_options(root / "conf" / "sweep", overrides)
    hydra = compose(root, next(jobs(overrides)), hydra=True).hydra
    if not isinstance(hydra.sweeper, Mapping):
        raise UserError(f"hydra.sweeper={hydra.sweeper}: a section, not a value. Choose a searcher with sweep=...")
    overrides = _with_params_of_sweeper(hydra.sweeper, overrides)
    varied = {override.get_key_element(): override for override in overrides if override.is_sweep_override()}
    if not varied and not hydra.sweeper.get("custom_search_space"):
        raise UserError("nothing varies: give key=a,b, or leave -m out.")
    _check_values(overrides)
    intervals = [key for key, override in varied.items() if override.is_interval_sweep()]
    if intervals and _runs_every_combination(hydra.sweeper):
        raise UserError(f"{intervals[0]}: interval() needs a searcher: 'sweep=[joblib,optuna]'")
    if hydra.sweeper.get("n_trials", 1) < 1:
        raise UserError(f"hydra.sweeper.n_trials={hydra.sweeper.n_trials}: no job would run. Give 1 or more.")
    if hydra.runtime.choices["hydra/launcher"] == "submitit_slurm" and not shutil.which("srun"):
        raise UserError("sweep=slurm: no srun on this machine. Run it on a login node, or take sweep=joblib.")
    to_check = list(jobs(overrides))
    if len(to_check) > _QUICK:
        print(f"checking every value before the first job starts: {len(to_check)} plans", flush=True)
    for job in to_check:
        try:
            values = canonical.read(check.resolve(compose(root, job)), schema)
            check.check(values, schema)
            if refuse:
                refuse(values)
        except UserError as error:
            own = [override for override in job if override.partition("=")[0] in varied]
            raise UserError(f"the job {' '.join(own)}: {error}" if own else str(error)) from None


def _with_params_of_sweeper(sweeper: Any, overrides: list[Any]) -> list[Any]:
    """Add what an experiment's own file sweeps over (hydra.sweeper.params), except keys that are overridden."""
    params = parse([f"{key}={value}" for key, value in (sweeper.params or {}).items()])
    for override in params:
        refuse_secrets(override)
    typed = {override.key_or_group for override in overrides}
    return [override for override in params if override.key_or_group not in typed] + overrides


def _check_sweep_options(folder: Path, overrides: list[Any]) -> None:
    """Refuse options of the group `sweep` that name two launchers or two sweepers: Hydra would mix their keys."""
    chosen = next((override.value() for override in overrides if override.key_or_group == "sweep"), None)
    if not isinstance(chosen, list):
        return
    texts = {option: file.read_text() for option in chosen if (file := folder / f"{option}.yaml").is_file()}
    for role in ("launcher", "sweeper"):
        options = [option for option, text in texts.items() if f"override /hydra/{role}:" in text]
        if len(options) > 1:
            raise UserError(f"sweep: two {role}s, {' and '.join(options)}. Name one.")


def _check_values(overrides: list[Any]) -> None:
    """Refuse a key that is given twice, a value that is given twice, and empty intervals."""
    keys = [override.key_or_group for override in overrides if not override.is_delete()]
    if repeated := [key for key in keys if keys.count(key) > 1]:
        raise UserError(f"{repeated[0]} is given twice, and the last one wins in every job. Give it once.")
    for override in overrides:
        if override.is_interval_sweep():
            _check_interval(override)
        elif override.is_sweep_override() and (jobs := _single_values(override)):
            scalars = [getattr(value, "text", value) for value in override.sweep_iterator()]  # 1e-3 and 0.001 are equal
            values = [(type(value) is bool, value) for value in scalars]  # True == 1
            for index, job in enumerate(jobs):
                if values[index] in values[:index]:
                    raise UserError(f"{override.input_line}: the job {job} is given twice. Give each value once.")


def _check_interval(override: Any) -> None:
    bounds = override.value()
    if bounds.start >= bounds.end:
        reversed_ = bounds.start > bounds.end
        fix = f"Write interval({bounds.end:g},{bounds.start:g})" if reversed_ else "Give two different bounds"
        raise UserError(f"{override.input_line}: no value lies in this interval. {fix}.")
    if "log" in bounds.tags and bounds.start <= 0:
        raise UserError(f"{override.input_line}: a logarithmic scale has no {bounds.start:g}. Start above 0.")


def jobs(overrides: list[Any]) -> Iterator[list[str]]:
    """Yield jobs that together have every value, each with the first value of every other key; of a range only its ends.

    Every combination would take too long: a composition takes 80 ms.
    """
    values = [(override, singles) for override in overrides if (singles := _single_values(override))]
    first = [singles[0] for _, singles in values]
    yield first
    for index, (override, singles) in enumerate(values):
        others = singles[1:]
        if override.is_range_sweep():
            others = others[-1:]
        for single in others:
            yield [*first[:index], single, *first[index + 1 :]]


def _single_values(override: Any) -> list[str]:
    """Return an override once for each of its values, at least one: for an interval once for each end, for a glob never."""
    from hydra.core.override_parser.types import ValueType

    if not override.is_sweep_override():
        return [override.input_line]
    if override.value_type == ValueType.GLOB_CHOICE_SWEEP:
        return []
    value = override.value()
    values = [value.start, value.end] if override.is_interval_sweep() else list(override.sweep_string_iterator())
    if not values:
        raise UserError(f"{override.input_line}: no value lies in it. The end of a range is not part of it.")
    return [f"{override.get_key_element()}={value}" for value in values]


def _runs_every_combination(sweeper: Any) -> bool:
    return sweeper._target_.endswith("BasicSweeper")

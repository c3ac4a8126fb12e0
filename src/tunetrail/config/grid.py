"""A sweep's overrides as typed -> what varies in its jobs, how many they are, and which values no job could take.

Not covered: which combinations are run, and where, which is Hydra's.
"""

import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tunetrail import UserError
from tunetrail.config import canonical, check
from tunetrail.config.compose import compose, parse, refuse_secrets

_MANY = 3  # jobs whose check takes so long that it is said


def constant(words: list[str]) -> frozenset[str]:
    """The keys that are the same in every job."""
    return frozenset(one.key_or_group for one in parse(words) if not one.is_sweep_override())


def logarithmic(words: list[str]) -> frozenset[str]:
    """The keys whose values lie on a logarithmic scale, as `tag(log, ...)` declares it."""
    swept = (one for one in parse(words) if one.is_sweep_override())
    return frozenset(one.get_key_element().lstrip("+") for one in swept if "log" in getattr(one.value(), "tags", ()))


def total(root: Path, words: list[str]) -> int | None:
    """How many jobs the words make, or None where a sampler decides that as it goes. The first one is composed to see.

    Raises:
        HydraException, OmegaConfBaseException: it cannot be.
    """
    parsed = parse(words)
    sweeper = compose(root, next(jobs(parsed)), hydra=True).hydra.sweeper
    count = math.prod(len(_values(one)) for one in parsed)  # 0 with a glob, which Hydra alone can resolve
    return count if count and _combines(sweeper) and not sweeper.params else None


def check_jobs(
    root: Path, words: list[str], schema: check.Schema, refuse: Callable[[dict[str, Any]], None] | None = None
) -> None:
    """Refuse, before anything is written, a sweep that could not begin, and one with a value that no job could take.

    `refuse` has a look of its own at the values of each job, and raises UserError.

    Raises:
        UserError: naming the job's overrides, or what is wrong with the sweeper or the launcher.
        HydraException, OmegaConfBaseException: a job cannot be composed.
    """
    parsed = parse(words)
    for override in parsed:  # before any value is printed
        refuse_secrets(override)
    _refuse_two(root / "conf" / "sweep", parsed)
    hydra = compose(root, next(jobs(parsed)), hydra=True).hydra
    sweeper, named = hydra.sweeper, {one.key_or_group for one in parsed}
    beside = parse([f"{key}={value}" for key, value in (sweeper.params or {}).items()])  # in an experiment's own file
    for override in beside:
        refuse_secrets(override)
    parsed = [one for one in beside if one.key_or_group not in named] + parsed
    varied = {one.get_key_element(): one for one in parsed if one.is_sweep_override()}
    if not varied and not sweeper.get("custom_search_space"):
        raise UserError("nothing varies: give key=a,b, or leave -m out.")
    _refuse_useless(parsed)
    if _combines(sweeper) and (drawn := [key for key, one in varied.items() if one.is_interval_sweep()]):
        raise UserError(f"{drawn[0]}: interval() needs a searcher: 'sweep=[joblib,optuna]'")
    if sweeper.get("n_trials", 1) < 1:
        raise UserError(f"hydra.sweeper.n_trials={sweeper.n_trials}: no job would run. Give 1 or more.")
    if hydra.runtime.choices["hydra/launcher"] == "submitit_slurm" and not shutil.which("srun"):
        raise UserError("sweep=slurm: no srun on this machine. Run it on a login node, or take sweep=joblib.")
    checked = list(jobs(parsed))
    if len(checked) > _MANY:
        print(f"checking every value before the first job starts: {len(checked)} plans", flush=True)
    for job in checked:
        try:
            values = canonical.read(check.resolve(compose(root, job)), schema)
            check.check(values, schema)
            if refuse:
                refuse(values)
        except UserError as error:
            own = [line for line in job if line.partition("=")[0] in varied]
            raise UserError(f"the job {' '.join(own)}: {error}" if own else str(error)) from None


def _refuse_two(options: Path, parsed: list[Any]) -> None:
    """Say which of the sweep's options name a launcher or a sweeper twice, of which Hydra would mix the keys."""
    chosen = next((one.value() for one in parsed if one.key_or_group == "sweep"), None)
    if not isinstance(chosen, list):
        return
    texts = {option: file.read_text() for option in chosen if (file := options / f"{option}.yaml").is_file()}
    for role in ("launcher", "sweeper"):
        named = [option for option, text in texts.items() if f"override /hydra/{role}:" in text]
        if len(named) > 1:
            raise UserError(f"sweep: two {role}s, {' and '.join(named)}. Name one.")


def _refuse_useless(parsed: list[Any]) -> None:
    """Refuse overrides of which two make the same job, and bounds between which nothing lies.

    Raises:
        UserError: naming the override and the value.
    """
    keys = [one.key_or_group for one in parsed if not one.is_delete()]
    if repeated := [key for key in keys if keys.count(key) > 1]:
        raise UserError(f"{repeated[0]} is given twice, and the last one wins in every job. Give it once.")
    for override in parsed:
        if override.is_interval_sweep():
            bounds = override.value()
            if bounds.start >= bounds.end:
                upside_down = bounds.start > bounds.end
                fix = f"Write interval({bounds.end:g},{bounds.start:g})" if upside_down else "Give two different bounds"
                raise UserError(f"{override.input_line}: no value lies in this interval. {fix}.")
            if "log" in bounds.tags and bounds.start <= 0:
                raise UserError(f"{override.input_line}: a logarithmic scale has no {bounds.start:g}. Start above 0.")
            continue
        if not override.is_sweep_override() or not (lines := _values(override)):
            continue
        values = [(type(value) is bool, value) for value in _scalars(override)]  # True == 1
        if twice := [line for place, line in enumerate(lines) if values[place] in values[:place]]:
            raise UserError(f"{override.input_line}: the job {twice[0]} is there twice. Give each value once.")


def _scalars(override: Any) -> list[Any]:
    """The values of a sweep's override, 1e-3 and 0.001 alike; text without its quotation marks."""
    return [getattr(value, "text", value) for value in override.sweep_iterator()]


def jobs(parsed: list[Any]) -> Iterator[list[str]]:
    """Jobs that have every value between them, of a range its ends, each beside the first of every other: a composition
    takes 80 ms, too long for every combination."""
    values = [(one, lines) for one in parsed if (lines := _values(one))]
    first = [lines[0] for _, lines in values]
    yield first
    for place, (one, lines) in enumerate(values):
        for line in lines[1:][-1:] if one.is_range_sweep() else lines[1:]:
            yield [*first[:place], line, *first[place + 1 :]]


def _values(one: Any) -> list[str]:
    """An override with each of its values; of an interval its ends, of a glob none.

    Raises:
        UserError: it is a range with nothing in it.
    """
    from hydra.core.override_parser.types import ValueType

    if not one.is_sweep_override():
        return [one.input_line]
    if one.value_type == ValueType.GLOB_CHOICE_SWEEP:
        return []
    value = one.value()
    values = [value.start, value.end] if one.is_interval_sweep() else list(one.sweep_string_iterator())
    if not values:
        raise UserError(f"{one.input_line}: no value lies in it. The end of a range is not part of it.")
    return [f"{one.get_key_element()}={value}" for value in values]


def _combines(sweeper: Any) -> bool:
    """Whether it runs every combination, and does not search."""
    return sweeper._target_.endswith("BasicSweeper")

"""Recorded runs -> what differs between them, their scores side by side, and paired tests against the first.

A test needs the same prompts, evaluated in the same way: runs that were evaluated differently are shown without a test, with
the difference.
"""

from dataclasses import dataclass
from typing import Any

from tunetrail import UserError, table
from tunetrail.config import canonical, check
from tunetrail.evaluation import results
from tunetrail.report import metrics, plots
from tunetrail.runs import listing
from tunetrail.tracking import ranking, tags
from tunetrail.tracking.recorded import RecordedRun

# What people look for first in a config, in this order.
_FIRST = ("base_model", "adapter", "learning_rate", "num_epochs", "max_steps", "lora_r", "path", "take", "seed")
_DRAWN = ("field", "empty", "take", "validation_rows", "seed")  # keys of `prepare`: which rows of the data
_KEY, _LEAST = 44, 8  # columns: a key has at most so many, a value at least


@dataclass(frozen=True)
class Record:
    """A run with its metrics.json and its verdicts.json; None if it has none."""

    run: RecordedRun
    metrics: dict[str, Any] | None
    verdicts: dict[str, Any] | None


def check_comparable(runs: list[RecordedRun], ids: dict[str, str]) -> None:
    """Raise UserError unless these are at least two different runs, not too many, each with a config."""
    if len({run.id for run in runs}) < max(2, len(runs)):
        raise UserError("compare takes two or more different runs. See them with: tunetrail ls")
    if len(runs) > plots.MOST_RUNS:
        raise UserError(
            f"compare takes {plots.MOST_RUNS} runs at most: more lines cannot be told apart. Pick the best with: "
            f"tunetrail ls --sort {ranking.BEST}"
        )
    for run in runs:
        if not run.params:
            raise UserError(
                f"{ids[run.id]} ({run.name}), {run.status}, has no params: it failed at the start. Leave it out."
            )


def compare(records: list[Record], ids: dict[str, str], resamples: int, seed: int) -> dict[str, Any]:
    """Return the comparison of the records with the first of them, as plain data for JSON.

    `runs` has the runs in the order given, each with `scores` (of both models, or None), `alike` (evaluated like the first)
    and, except the first, `delta` (as in metrics.json) or `why` there is none. `asked` describes the evaluation, the
    function `differences` the others. `losses` says why the losses are not on one scale, if they are not.
    """
    first = records[0]
    runs = []
    for record in records:
        run = record.run
        differing = _evaluation_differences(first, record)
        entry = {
            "id": ids[run.id],
            "label": " ".join(f"{ids[run.id]} {run.name}".split()),
            "status": run.status,
            "started": listing.when(run.started),
            "scores": record.metrics["ifeval"] if record.metrics else None,
            "alike": not differing,
        }
        if record is first:
            runs.append(entry)
        elif why := _why_untested(first, record, differing, ids):
            runs.append(entry | {"why": why})
        else:
            delta = results.differences(first.verdicts["tuned"], record.verdicts["tuned"], resamples, seed)
            runs.append(entry | {"delta": delta})
    asked = f"{first.metrics['task']}: {first.metrics['size']}" if first.metrics else "no scores"
    recorded = [record.run for record in records]
    return {"runs": runs, "asked": asked, "losses": _why_losses_differ(recorded)} | differences(recorded)


def _why_losses_differ(runs: list[RecordedRun]) -> str:
    """Return why the runs' losses are not on one scale, for the figure's title; "" if nothing is against it."""

    def differ(values: list[str | None]) -> bool:  # what an unfinished run has not recorded does not count
        return len({value for value in values if value is not None}) > 1

    bases = [[run.tags.get(tag) for run in runs] for tag in (tags.BASE_SHA256, tags.BASE_MODEL)]
    if differ(bases[0]) or (None in bases[0] and differ(bases[1])):
        return "The bases differ: these losses compare only if the tokenizers are the same."
    params = [canonical.renamed(run.params) for run in runs]
    texts = [[run.tags.get(tag) for run in runs] for tag in (tags.DATA_MD5, tags.TEMPLATE_DIGEST)]
    texts += [[of_run.get(f"prepare.{key}") for of_run in params] for key in _DRAWN]
    if any(map(differ, texts)):
        return "The data or the template differ: these are losses of different texts."
    return ""


def _why_untested(first: Record, other: Record, differing: list[str], ids: dict[str, str]) -> str:
    """Return why the difference of the two tuned models cannot be tested; "" if it can."""
    for record in (first, other):
        if not record.metrics and not record.run.finished:
            return f"{ids[record.run.id]} has no scores ({record.run.status})"
    if differing:
        return f"evaluated differently: {'; '.join(differing)}"
    for record in (first, other):
        if not record.metrics or not record.verdicts:
            fix = "Run its command again: a cached model is not trained again, and the new run has them"
            return f"{ids[record.run.id]} was recorded without the result of each prompt, which the test needs. {fix}"
    return ""


def _evaluation_differences(first: Record, other: Record) -> list[str]:
    """Return how the evaluations differ, as "device cpu and cuda"; nothing if they do not, or without scores."""
    if not first.metrics or not other.metrics:
        return []
    if not first.verdicts or not other.verdicts:
        digests = [record.metrics["evaluation_digest"] for record in (first, other)]
        return [f"evaluation digest {' and '.join(digests)}"] if digests[0] != digests[1] else []
    asked = [dict(record.verdicts["asked"]) for record in (first, other)]
    prompts = [list(map(tuple, settings.pop("prompts"))) for settings in asked]
    differing = []
    if prompts[0] != prompts[1]:
        common = len({*prompts[0]} & {*prompts[1]})
        differing = [f"prompts {len(prompts[0])} and {len(prompts[1])}, {common} of them the same"]
    ours, theirs = map(check.flatten, asked)
    for key in ours | theirs:
        if ours.get(key) != theirs.get(key):
            values = [table.cut(str(settings.get(key, "-")), 60) for settings in (ours, theirs)]
            differing.append(f"{key} {' and '.join(values)}")
    return differing


def differences(runs: list[RecordedRun]) -> dict[str, Any]:
    """Return what differs between the runs, by section, and in `same` how many keys of the section do not.

    A row is {"keys", "values"}: keys that share their last name (`seed`, `train.seed`) and their values are one row. What an
    unfinished run has not recorded does not count as a difference.
    """
    sections = {"config": [canonical.renamed(run.params) for run in runs]}
    for section, prefixes in tags.SECTIONS.items():
        sections[section] = [{key: text for key, text in _tags(run).items() if key.startswith(prefixes)} for run in runs]
    differing: dict[str, list[dict[str, Any]]] = {}
    same: dict[str, int] = {}
    for section, values in sections.items():
        rows: dict[tuple[Any, ...], list[str]] = {}
        keys = sorted({key for recorded in values for key in recorded})
        for key in keys:
            row = tuple(recorded.get(key) for recorded in values)
            if len({value for value, run in zip(row, runs, strict=True) if run.finished or value is not None}) > 1:
                name = next(part for part in reversed(key.split(".")) if not part.isdigit())
                rows.setdefault((name, row), []).append(key)
        rows = dict(sorted(rows.items(), key=lambda row: _place(row[0][0], row[1])))
        differing[section] = [{"keys": sorted(names, key=len), "values": list(row)} for (_, row), names in rows.items()]
        same[section] = len(keys) - sum(map(len, rows.values()))
    return {"differences": differing, "same": same}


def _place(name: str, keys: list[str]) -> tuple[int, str]:
    """Return where a row with the last part `name` of its `keys` belongs: what decides most first, a made base last."""
    made = all(key.startswith("base.make.") for key in keys)
    return (_FIRST.index(name) if name in _FIRST and not made else len(_FIRST) + made), keys[0]


def _tags(run: RecordedRun) -> dict[str, str]:
    """Return the run's tags, among them the counts of its data, which older runs have as metrics."""
    counts = {key.replace("/", "."): f"{value:.15g}" for key, value in run.metrics.items() if key.startswith("data/")}
    return canonical.renamed(counts | run.tags)


def text(compared: dict[str, Any]) -> str:
    """Return the comparison as text: tables of at most 120 columns, whose scores are never cut."""
    runs = compared["runs"]
    rows = [["run", "name", "status", "started"]]
    rows += [[run["id"], run["label"].partition(" ")[2], run["status"], run["started"]] for run in runs]
    parts = [table.columns(listing.fitted(rows)), _differing(compared), _scores(compared)]
    if tested := [run for run in runs if "delta" in run]:
        parts.append(_tests(runs[0], tested))
    if untested := [f"not tested: {run['label']}: {run['why']}." for run in runs if "why" in run]:
        parts.append("\n".join(untested))
    return "\n\n".join(parts)


def _differing(compared: dict[str, Any]) -> str:
    ids = [run["id"] for run in compared["runs"]]
    rows = [["what differs", *ids]]
    for section, differing in compared["differences"].items():
        for row in differing:
            more = f" (+{len(row['keys']) - 1})" if len(row["keys"]) > 1 else ""
            key = f"{row['keys'][0]}{more}" if section == "config" else f"{section}: {row['keys'][0]}{more}"
            rows.append([key, *("-" if value is None else value for value in row["values"])])
    same = ", ".join(f"{count} of {section}" for section, count in compared["same"].items() if count)
    if len(rows) == 1:
        return f"Nothing differs. The same in all: {same}."
    first = min(_KEY, max(len(row[0]) for row in rows))
    room = max(_LEAST, (listing.WIDTH - first) // len(ids) - 2)
    cells = [[table.cut(row[0], first), *(table.cut(cell, room) for cell in row[1:])] for row in rows]
    note = "\nThe page has in full what ends in … here." if cells != rows else ""
    return f"{table.columns(cells)}\nThe same in all: {same}.{note}"


def _scores(compared: dict[str, Any]) -> str:
    """Return a row for each model; a base with the same scores as the one above it is left out."""
    labels = [label for _, label in results.SCORES.values()]
    rows = [["accuracy, % [95 %]", *labels]]
    above = None
    for run in compared["runs"]:
        if not run["scores"]:
            rows.append([run["id"], *["-"] * len(labels)])
            continue
        base, tuned = (
            [metrics.interval(run["scores"][model][name]) for name in results.SCORES] for model in ("base", "tuned")
        )
        mark = "" if run["alike"] else " (*)"
        if base != above:
            rows.append([f"{run['id']} base{mark}", *base])
            above = base
        rows.append([f"{run['id']} tuned{mark}", *tuned])
    alike = all(run["alike"] for run in compared["runs"])
    note = "" if alike else "\n(*) evaluated differently from the first: the scores cannot be compared."
    return f"{compared['asked']}\n{table.columns(rows)}{note}"


def _tests(first: dict[str, Any], tested: list[dict[str, Any]]) -> str:
    rows = [[f"minus {first['id']}", *(label for _, label in results.SCORES.values())]]
    for run in tested:
        deltas = [run["delta"][name] for name in results.SCORES]
        rows.append([run["id"], *(metrics.interval(delta, "+") + metrics.p_value(delta) for delta in deltas)])
    note = f" The p-values are not corrected for comparing {len(tested)} runs." if len(tested) > 1 else ""
    return f"{table.columns(rows)}\nPaired by prompt; p is McNemar's, exact.{note}"

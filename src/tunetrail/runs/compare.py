"""Runs' records -> what differs in them, their scores side by side, and paired tests against the first of them.

A test needs the same prompts asked in the same way: runs that were evaluated otherwise are shown and not tested, and it is
said what was otherwise. Not covered: where the records come from, which is `store`'s.
"""

from dataclasses import dataclass
from typing import Any

from tunetrail import UserError
from tunetrail.config import canonical
from tunetrail.evaluation import results
from tunetrail.report import metrics, plots
from tunetrail.runs import listing
from tunetrail.tracking import ranking

# What goes into a run besides its config, and the beginnings of the tags that tell it.
SECTIONS = {
    "data": ("data.",),
    "base": ("base.",),
    "code": ("git.", "code."),
    "evaluation": ("template.", "evaluation."),
    "environment": ("lock.", "versions.", "hardware."),
    "model": ("model.",),
}
_KEY, _LEAST = 44, 8  # columns: of a key at most, of a value at least


@dataclass(frozen=True)
class Record:
    """A run as `store.to_dict` has it, its metrics.json and its verdicts.json; None where it has none."""

    run: dict[str, Any]
    metrics: dict[str, Any] | None
    verdicts: dict[str, Any] | None


def check(runs: list[dict[str, Any]], ids: dict[str, str]) -> None:
    """Whether these can be compared.

    Raises:
        UserError: not two different runs, too many of them, or one that has no config.
    """
    if len({run["id"] for run in runs}) < max(2, len(runs)):
        raise UserError("compare takes two or more different runs. See them with: tunetrail ls")
    if len(runs) > plots.MOST_RUNS:
        raise UserError(
            f"compare takes {plots.MOST_RUNS} runs at most: more lines cannot be told apart. Pick the best with: "
            f"tunetrail ls --sort {ranking.BEST}"
        )
    for run in runs:
        if not run["params"]:
            named = f"{ids[run['id']]} ({run['name']}), {run['status']},"
            raise UserError(f"{named} has no params: it ended before it began. Leave it out.")


def compare(records: list[Record], ids: dict[str, str], resamples: int, seed: int) -> dict[str, Any]:
    """All that is found, as JSON could hold it; the first record is what the others are compared with.

    `runs` in the order given, with `scores` (of both models, or None), `alike` (evaluated as the first) and, but for the
    first, `delta` (as in metrics.json) or `why` there is none; `differences` and `same` as below; `asked`, what the
    scores are of.
    """
    first = records[0]
    runs = []
    for record in records:
        run, reasons = record.run, _evaluation_differences(first, record)
        told = {
            "id": ids[run["id"]],
            "label": " ".join(f"{ids[run['id']]} {run['name'] or ''}".split()),
            "status": run["status"],
            "started": listing.when(run["started"]),
            "scores": record.metrics["ifeval"] if record.metrics else None,
            "alike": not reasons,
        }
        if record is not first:
            told |= _held_against(first, record, reasons, ids, resamples, seed)
        runs.append(told)
    asked = f"{first.metrics['task']}: {first.metrics['size']}" if first.metrics else "no scores"
    return {"runs": runs, "asked": asked} | differences([record.run for record in records])


def _held_against(
    first: Record, other: Record, reasons: list[str], ids: dict[str, str], resamples: int, seed: int
) -> dict[str, Any]:
    """`delta`, the tuned models' paired difference, or `why` it cannot be had."""
    for record in (first, other):
        if not record.metrics and record.run["status"] != "FINISHED":
            return {"why": f"{ids[record.run['id']]} has no scores ({record.run['status']})"}
    if reasons:
        return {"why": f"evaluated otherwise: {'; '.join(reasons)}"}
    for record in (first, other):
        if not record.metrics or not record.verdicts:
            again = "Give its command again: what is cached is not trained again, and the new run has them"
            return {"why": f"{ids[record.run['id']]} is older than the verdicts that a test needs. {again}"}
    return {"delta": results.differences(first.verdicts["tuned"], other.verdicts["tuned"], resamples, seed)}


def _evaluation_differences(first: Record, other: Record) -> list[str]:
    """In what the two were evaluated otherwise: "device cpu and cuda"; nothing where they were not, or one has no scores."""
    if not first.metrics or not other.metrics:
        return []
    if not first.verdicts or not other.verdicts:
        digests = [record.metrics["evaluation_digest"] for record in (first, other)]
        return [f"evaluation digest {' and '.join(digests)}"] if digests[0] != digests[1] else []
    was, now = ({**record.verdicts["asked"]} for record in (first, other))
    prompts = [list(map(tuple, asked.pop("prompts"))) for asked in (was, now)]
    told = []
    if prompts[0] != prompts[1]:
        both = len({*prompts[0]} & {*prompts[1]})
        told = [f"prompts {len(prompts[0])} and {len(prompts[1])}, {both} of them the same"]
    flat = _flat(was), _flat(now)
    keys = [key for key in flat[0] | flat[1] if flat[0].get(key) != flat[1].get(key)]
    return told + [f"{key} {' and '.join(listing.cut(str(of.get(key, '-')), 60) for of in flat)}" for key in keys]


def _flat(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return flat


def differences(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """What is not the same in all runs, by section, and in `same` how many keys of it are.

    A row is {"keys", "values"}: keys of one last name (`seed`, `train.seed`) that have the same values share it. What a run
    that broke off has not recorded is no difference.
    """
    ended = [run["status"] == "FINISHED" for run in runs]
    found: dict[str, list[dict[str, Any]]] = {}
    same: dict[str, int] = {}
    sections = {"config": [canonical.renamed(run["params"]) for run in runs]}
    for section, starts in SECTIONS.items():
        sections[section] = [{key: value for key, value in _tags(run).items() if key.startswith(starts)} for run in runs]
    for section, values in sections.items():
        rows: dict[tuple[Any, ...], list[str]] = {}
        every = sorted({key for one in values for key in one})
        for key in every:
            row = tuple(one.get(key) for one in values)
            if len({value for value, whole in zip(row, ended, strict=True) if whole or value is not None}) > 1:
                name = next(part for part in reversed(key.split(".")) if not part.isdigit())
                rows.setdefault((name, row), []).append(key)
        found[section] = [{"keys": sorted(keys, key=len), "values": list(row)} for (_, row), keys in rows.items()]
        same[section] = len(every) - sum(map(len, rows.values()))
    return {"differences": found, "same": same}


def _tags(run: dict[str, Any]) -> dict[str, str]:
    """The run's tags, among them the counts of its data, which older runs have as metrics."""
    metrics = run.get("metrics", {})
    counts = {key.replace("/", "."): f"{value:.15g}" for key, value in metrics.items() if key.startswith("data/")}
    return canonical.renamed(counts | run["tags"])


def table(found: dict[str, Any]) -> str:
    """All of it as text: tables of at most 120 columns, whose scores are never cut."""
    runs = found["runs"]
    rows = [["run", "name", "status", "started"]]
    rows += [[run["id"], run["label"].partition(" ")[2], run["status"], run["started"]] for run in runs]
    parts = [listing.columns(listing.fitted(rows)), *_differing(found), _scores(found)]
    tested = [run for run in runs if "delta" in run]
    if tested:
        parts.append(_tests(runs[0], tested))
    if untested := [f"not tested: {run['label']}: {run['why']}." for run in runs if "why" in run]:
        parts.append("\n".join(untested))
    return "\n\n".join(part for part in parts if part)


def _differing(found: dict[str, Any]) -> list[str]:
    ids = [run["id"] for run in found["runs"]]
    rows = [["what differs", *ids]]
    for section, differing in found["differences"].items():
        for row in differing:
            more = f" (+{len(row['keys']) - 1})" if len(row["keys"]) > 1 else ""
            key = f"{row['keys'][0]}{more}" if section == "config" else f"{section}: {row['keys'][0]}{more}"
            rows.append([key, *("-" if value is None else value for value in row["values"])])
    same = ", ".join(f"{count} of {section}" for section, count in found["same"].items() if count)
    if len(rows) == 1:
        return [f"Nothing differs. The same in all: {same}."]
    first = min(_KEY, max(len(row[0]) for row in rows))
    room = max(_LEAST, (listing.WIDTH - first) // len(ids) - 2)
    cells = [[listing.cut(row[0], first), *(listing.cut(cell, room) for cell in row[1:])] for row in rows]
    cut = "\nWhat ends in … is whole on the page." if cells != rows else ""
    return [f"{listing.columns(cells)}\nThe same in all: {same}.{cut}"]


def _scores(found: dict[str, Any]) -> str:
    """A row a model. A base that scored as the one above it is not said again."""
    labels = [label for _, label in results.SCORES.values()]
    rows, said = [["accuracy, % [95 %]", *labels]], None
    for run in found["runs"]:
        if not run["scores"]:
            rows.append([run["id"], *["-"] * len(labels)])
            continue
        for model in ("base", "tuned"):
            cells = [metrics.interval(run["scores"][model][name]) for name in results.SCORES]
            if model == "tuned" or cells != said:
                rows.append([f"{run['id']} {model}{'' if run['alike'] else ' (*)'}", *cells])
            said = cells if model == "base" else said
    other = "\n(*) evaluated otherwise than the first: no score to hold against it."
    return f"{found['asked']}\n{listing.columns(rows)}{'' if all(run['alike'] for run in found['runs']) else other}"


def _tests(first: dict[str, Any], tested: list[dict[str, Any]]) -> str:
    rows = [[f"less {first['id']}", *(label for _, label in results.SCORES.values())]]
    for run in tested:
        delta = [run["delta"][name] for name in results.SCORES]
        rows.append([run["id"], *(metrics.interval(one, "+") + metrics.p_value(one) for one in delta)])
    many = f" The p-values are not corrected for there being {len(tested)} runs." if len(tested) > 1 else ""
    return f"{listing.columns(rows)}\nPaired by prompt; p is McNemar's, exact.{many}"

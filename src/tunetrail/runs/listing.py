"""Runs as plain dicts (`store.to_dict`) -> the table of `tunetrail ls` and the screen of `tunetrail show`.

Scores are in per cent, times are this machine's. Not covered: in which order runs stand, which is `ranking`'s; several runs
against each other, which is `compare`'s.
"""

import itertools
import re
import textwrap
from datetime import datetime
from typing import Any

from tunetrail.evaluation import results
from tunetrail.report import metrics
from tunetrail.tracking import ranking
from tunetrail.tracking.ranking import BEST, SCORE, Run

WIDTH = 120
_ID, _LABEL = 8, 14
NAME = 1  # the cell that gives way where a line would be too long
_SECTIONS = re.compile(r"(?<!\S)\+*(?:\w+\.)+(?=\w+=)")  # of the keys in a job's name: "+base.make." of "+base.make.seed=1"
_DIGITS = re.compile(r"(?<==)\d+\.\d{6,}(e[+-]?\d+)?(?!\S)")  # of a sampler's numbers: 0.0005611516415334506
_SHARES = ("ifeval/", "ifeval_stopped/")  # the beginnings of metrics that are told in per cent


def short(runs: list[Run]) -> dict[str, str]:
    """Each id's beginning: eight characters, or as many as tell it from all others."""
    ids = sorted(run["id"] for run in runs)
    alike = [len(_shared(one, other)) + 1 for one, other in itertools.pairwise(ids)]
    needed = zip(ids, [0, *alike], [*alike, 0], strict=True) if ids else ()
    return {one: one[: max(_ID, before, after)] for one, before, after in needed}


def _shared(one: str, other: str) -> str:
    length = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:length]


def table(
    lines: list[tuple[int, Run]], ids: dict[str, str], aliases: dict[str, list[str]], sort: str = ""
) -> list[list[str]]:
    """One row of cells a run, below the row of headings; `aliases` by id, `sort` the key whose values are shown."""
    shown = [key for key in (sort,) if key and key != BEST]
    named = any(run["id"] in aliases for _, run in lines)
    sorted_by = [f"{key}, %" if key.startswith(_SHARES) else key for key in shown]
    headings = ["run", "name", "status", "started", "base -> tuned, %", "difference", *sorted_by]
    rows = [headings + (["alias"] if named else [])]
    for depth, run in lines:
        base, tuned = (run["metrics"].get(SCORE.format(model)) for model in ("base", "tuned"))
        scored = base is not None and tuned is not None
        row = ["  " * depth + ids[run["id"]], _name(run), run["status"], when(run["started"])]
        row.append(f"{100 * base:5.1f} -> {100 * tuned:5.1f}" if scored else "-")
        row.append(f"{100 * (tuned - base):+10.1f}" if scored else "-")
        row += [_value(run, key) for key in shown]
        rows.append(row + ([aliases.get(run["id"], "")] if named else []))
    return rows


def _name(run: Run) -> str:
    """The run's name; a sweep's job is called after what varies in it, unless somebody gave it another name."""
    varies = run["tags"].get("sweep.overrides") if run["parent"] else None
    name = run["name"] or ""
    return " ".join((f"{name}: {varies}" if varies and varies != name else name).split())


def _value(run: Run, key: str) -> str:
    value = run["metrics"].get(key)
    if value is None:
        return cut(run["params"].get(key, "-"), 24)
    if key.startswith(_SHARES):
        return f"{100 * value:{'+' if '/delta/' in key else ''}.1f}"
    return f"{value:.4g}"


def fitted(rows: list[list[str]], width: int = WIDTH) -> list[list[str]]:
    """The rows with shorter names where a line would be longer than `width`; every other cell stays whole.

    Jobs of a sweep begin alike: all names lose the sections of their keys first (`train.seed=1` becomes `seed=1`) and the
    sixth and further digits of numbers, and those that are still too long their beginning.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = max(_ID, width - sum(widths) - 2 * (len(widths) - 1) + widths[NAME])
    if widths[NAME] <= room:
        return rows
    names = [_DIGITS.sub(lambda number: f"{float(number[0]):.5g}", _SECTIONS.sub("", row[NAME])) for row in rows]
    names = [name if len(name) <= room else f"…{name[len(name) - room + 1 :]}" for name in names]
    return [[*row[:NAME], name, *row[NAME + 1 :]] for row, name in zip(rows, names, strict=True)]


def columns(rows: list[list[str]]) -> str:
    """The rows as text, their cells below one another."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(f"{cell:<{size}}" for cell, size in zip(row, widths, strict=True)).rstrip() for row in rows)


def cut(text: str, length: int) -> str:
    """At most `length` characters on one line; what was cut ends in an ellipsis."""
    line = " ".join(text.split()) if "\n" in text else text
    return line if len(line) <= length else line[: length - 1] + "…"


def when(time: str | None) -> str:
    """ISO 8601 -> day and minute on this machine's clock."""
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M") if time else "-"


def lasted(run: Run) -> str:
    """How long the run took, "" while it goes on."""
    if not run["ended"] or not run["started"]:
        return ""
    seconds = int((datetime.fromisoformat(run["ended"]) - datetime.fromisoformat(run["started"])).total_seconds())
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60} s"


def screen(run: Run, ids: dict[str, str], found: dict[str, Any]) -> str:
    """One run's whole lineage as text of at most 120 columns; what there is to type next is `cli.show`'s.

    `found` has what the run itself does not: `scores` (metrics.json, or None), `patch` (whether changes.patch is kept),
    `versions` (of the registry, see `store.registered`), `children` (of a sweep).
    """
    children, tags = found["children"], run["tags"]
    first = {"status": ", ".join(part for part in (run["status"], when(run["started"]), lasted(run)) if part)}
    first |= {"error": tags["error"]} if tags.get("error") else {}
    first |= _sweep(run, ids, children)
    first |= {} if ranking.is_sweep(run) else _done(run)
    parts = [f"run {run['id']}: {_name(run)}", _fields(first)]
    if children:
        parts.append(columns(fitted(table([(0, child) for child in children], ids, {}))))
    if found["scores"]:
        parts.append(_scores(found["scores"]))
    lineage = _lineage(tags, found["patch"])
    last = {"code": lineage["code"]} if children else lineage
    versions = [" ".join([f"{one['model']} version {one['version']}", *one["aliases"]]) for one in found["versions"]]
    parts.append(_fields(last | {"registered": ", ".join(versions) or "no", "artifacts": run["artifacts"]}))
    return "\n\n".join(parts)


def _done(run: Run) -> dict[str, str]:
    """What a person did: the overrides as typed, the method and its first settings, and how many rows were trained on."""
    params, tags = run["params"], run["tags"]
    train = {key.removeprefix("train."): value for key, value in params.items() if key.startswith("train.")}
    fields = {"overrides": tags.get("overrides", "not recorded")}
    fields |= metrics.training(train, params.get("accelerate.num_processes", 1)) if train else {}
    rows = f"{int(tags['data.rows']):,} of " if tags.get("data.rows", "").isdigit() else ""
    return fields | ({"rows": rows + tags["data.source"]} if tags.get("data.source") else {})


def _fields(fields: dict[str, str]) -> str:
    return "\n".join(_field(label, text) for label, text in fields.items())


def _field(label: str, text: str) -> str:
    indent = " " * _LABEL
    whole_words = {"break_on_hyphens": False, "break_long_words": False}  # paths and digests can be copied
    wrapped = textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent, **whole_words)
    return f"{label:<{_LABEL}}{wrapped[_LABEL:]}"


def _sweep(run: Run, ids: dict[str, str], children: list[Run]) -> dict[str, str]:
    tags = run["tags"]
    overrides = tags.get("sweep.overrides", "")
    if run["parent"]:
        return {"sweep": f"{tags.get('sweep', '')}, parent {ids.get(run['parent'], run['parent'])}; varies: {overrides}"}
    if not children:
        return {}
    states = [child["status"] for child in children]
    counted = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    told = "none has scores"
    if first := ranking.best(children):
        alike = ranking.best_of(one["metrics"][BEST] for one in ranking.scored(children))
        score = f"{100 * first['metrics'][BEST]:.1f} %{ranking.below_base(first)}"
        told = f"{ids[first['id']]}, {score}{f', {alike}' * (alike != 'best')}: {_name(first)}"
    return {"sweep": f"{tags.get('sweep', '')}: {overrides}", "jobs": counted, "best": told}


# A field of the lineage: the tags that it is made of, each with the word before its value.
_LINEAGE = {
    "code": {"git.commit": "commit "},
    "data": {"data.source": "", "data.md5": "md5 ", "data.rows": "rows ", "data.license": "licence "},
    "base": {"base.model": "", "base.revision": "revision ", "base.sha256": "sha256 ", "base.license": "licence "},
    "asked with": {"template.digest": "template ", "evaluation.digest": "evaluation "},
    "model": {"model.md5": "md5 "},
    "lock": {"lock.sha256": "sha256 "},
    "DVC": {"dvc.experiment": "experiment "},
}


def _lineage(tags: dict[str, str], patch: bool) -> dict[str, str]:
    """Which code, data, base, template, evaluation and environment, from the run's tags."""
    fields = {}
    for label, keys in _LINEAGE.items():
        told = [f"{word}{tags[key]}" for key, word in keys.items() if tags.get(key)]
        fields[label] = ", ".join(told) or "not recorded"
    dirty = {"false": ", nothing uncommitted", "true": ", with uncommitted changes that were not kept"}
    fields["code"] += ", with uncommitted changes: changes.patch" if patch else dirty.get(tags.get("git.dirty", ""), "")
    if tags.get("train.cached") == "true":
        where = f"run {tags['train.trained_in']}" if tags.get("train.trained_in") else "a run that is not in this store"
        fields["model"] += f", trained in {where}"
    for label in ("versions", "hardware"):
        told = [f"{key.partition('.')[2]} {tags[key]}" for key in sorted(tags) if key.startswith(f"{label}.")]
        fields[label] = ", ".join(told) or "not recorded"
    return fields


def _scores(measured: dict[str, Any]) -> str:
    ifeval, rows = measured["ifeval"], [["", "base", "tuned", "difference"]]
    for name, (_, label) in results.SCORES.items():
        row = [label, *(metrics.interval(ifeval[model][name]) for model in ("base", "tuned"))]
        rows.append([*row, metrics.interval(ifeval["delta"][name], "+") + metrics.p_value(ifeval["delta"][name])])
    rows[0][0] = "accuracy, %"
    above = [f"{textwrap.fill(sentence, WIDTH)}\n\n" for sentence in metrics.alerts(measured)]
    return f"{''.join(above)}{measured['task']}: {measured['size']}; 95 % intervals\n{columns(rows)}"

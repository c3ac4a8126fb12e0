"""Recorded runs -> the table of `tunetrail ls` and the screen of `tunetrail show`.

Scores are in per cent, times in this machine's time zone. `ranking` orders runs, `compare` compares them.
"""

import itertools
import re
import textwrap
from datetime import datetime
from typing import Any

from tunetrail import table
from tunetrail.evaluation import results
from tunetrail.report import metrics
from tunetrail.tracking import ranking, tags
from tunetrail.tracking.ranking import BEST, SCORE
from tunetrail.tracking.recorded import RecordedRun

WIDTH = 120
NAME = 1  # the column that is shortened if a line would be too long
_ID, _LABEL = 8, 14
_SECTIONS = re.compile(r"(?<!\S)\+*(?:\w+\.)+(?=\w+=)")  # of the keys in a job's name: "+base.make." of "+base.make.seed=1"
_DIGITS = re.compile(r"(?<==)\d+\.\d{6,}(e[+-]?\d+)?(?!\S)")  # of a sampler's numbers: 0.0005611516415334506
_SHARES = ("ifeval/", "ifeval_stopped/")  # the beginnings of metrics that are shown in per cent


def short(runs: list[RecordedRun]) -> dict[str, str]:
    """Return a short id of each run by its id: eight characters, or as many as distinguish it from all others."""
    ids = sorted(run.id for run in runs)
    needed = [0, *(_common_length(first, second) + 1 for first, second in itertools.pairwise(ids)), 0]
    return {run_id: run_id[: max(_ID, *needed[index : index + 2])] for index, run_id in enumerate(ids)}


def _common_length(first: str, second: str) -> int:
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def rows(
    lines: list[tuple[int, RecordedRun]], ids: dict[str, str], aliases: dict[str, list[str]], sort: str = ""
) -> list[list[str]]:
    """Return a row of cells for each run, below a row of headings. `aliases` are by id; `sort` is the key of the order."""
    key = "" if sort == BEST else sort
    with_aliases = any(run.id in aliases for _, run in lines)
    headings = ["run", "name", "status", "started", "base -> tuned, %", "difference"]
    if key:
        headings.append(f"{key}, %" if key.startswith(_SHARES) else key)
    cells = [headings + (["alias"] if with_aliases else [])]
    for depth, run in lines:
        base, tuned = (run.metrics.get(SCORE.format(model)) for model in ("base", "tuned"))
        scored = base is not None and tuned is not None
        row = ["  " * depth + ids[run.id], _name(run), run.status, when(run.started)]
        row.append(f"{100 * base:5.1f} -> {100 * tuned:5.1f}" if scored else "-")
        row.append(f"{100 * (tuned - base):+10.1f}" if scored else "-")
        if key:
            row.append(_value(run, key))
        cells.append(row + ([aliases.get(run.id, "")] if with_aliases else []))
    return cells


def _name(run: RecordedRun) -> str:
    """Return the run's name. That of a sweep's job ends in what varies in it, even if the run was renamed."""
    varying = run.tags.get(tags.SWEEP_OVERRIDES) if run.parent else None
    name = f"{run.name}: {varying}" if varying and varying != run.name else run.name
    return " ".join(name.split())


def _value(run: RecordedRun, key: str) -> str:
    value = run.metrics.get(key)
    if value is None:
        return table.cut(run.params.get(key, "-"), 24)
    if key.startswith(_SHARES):
        return f"{100 * value:{'+' if '/delta/' in key else ''}.1f}"
    return f"{value:.4g}"


def fitted(rows: list[list[str]], width: int = WIDTH) -> list[list[str]]:
    """Return the rows with shorter names if a line would be longer than `width`; every other cell stays whole.

    The names of a sweep's jobs start alike, so all first lose the sections of their keys (`train.seed=1` becomes `seed=1`)
    and the digits of numbers after the fifth; names that are still too long lose their beginning.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = max(_ID, width - sum(widths) - 2 * (len(widths) - 1) + widths[NAME])
    if widths[NAME] <= room:
        return rows
    names = [_DIGITS.sub(lambda number: f"{float(number[0]):.5g}", _SECTIONS.sub("", row[NAME])) for row in rows]
    names = [name if len(name) <= room else f"…{name[len(name) - room + 1 :]}" for name in names]
    return [[*row[:NAME], name, *row[NAME + 1 :]] for row, name in zip(rows, names, strict=True)]


def when(time: str | None) -> str:
    """Return the day and the minute of a time in ISO 8601, in this machine's time zone; "-" for None."""
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M") if time else "-"


def duration(run: RecordedRun) -> str:
    """Return how long the run took; "" while it is running."""
    if not run.ended or not run.started:
        return ""
    seconds = int((datetime.fromisoformat(run.ended) - datetime.fromisoformat(run.started)).total_seconds())
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60} s"


def screen(
    run: RecordedRun,
    ids: dict[str, str],
    children: list[RecordedRun],
    versions: list[dict[str, Any]],
    measured: dict[str, Any] | None,
    patch: bool,
) -> str:
    """Return the whole lineage of a run, or a sweep with its jobs, as text of at most 120 columns.

    `children` are a sweep's jobs, `versions` those of the registry (`store.registered`); `measured` is its metrics.json, and
    `patch` whether its record has changes.patch.
    """
    fields = {"status": ", ".join(part for part in (run.status, when(run.started), duration(run)) if part)}
    if error := run.tags.get(tags.ERROR):
        fields["error"] = error
    fields |= _sweep(run, ids, children)
    if not run.is_sweep:
        fields |= _settings(run)
    parts = [f"run {run.id}: {_name(run)}", _fields(fields)]
    if children:
        parts.append(table.columns(fitted(rows([(0, child) for child in children], ids, {}))))
    if measured:
        parts.append(_scores(measured))
    lineage = _lineage(run, patch)
    if children:
        lineage = {"code": lineage["code"]}
    registered = [
        " ".join([f"{version['model']} version {version['version']}", *version["aliases"]]) for version in versions
    ]
    parts.append(_fields(lineage | {"registered": ", ".join(registered) or "no", "artifacts": run.artifacts}))
    return "\n\n".join(parts)


def _settings(run: RecordedRun) -> dict[str, str]:
    """Return the overrides as typed, the method with its main settings, and how many rows were trained on."""
    train = {key.removeprefix("train."): value for key, value in run.params.items() if key.startswith("train.")}
    fields = {"overrides": run.tags.get(tags.OVERRIDES, "not recorded")}
    if train:
        fields |= metrics.training(train, run.params.get("accelerate.num_processes", 1))
    if source := run.tags.get(tags.DATA_SOURCE):
        rows = run.tags.get(tags.DATA_ROWS, "")
        fields["rows"] = f"{int(rows):,} of {source}" if rows.isdigit() else source
    return fields


def _fields(fields: dict[str, str]) -> str:
    return "\n".join(_field(label, text) for label, text in fields.items())


def _field(label: str, text: str) -> str:
    indent = " " * _LABEL
    whole_words = {"break_on_hyphens": False, "break_long_words": False}  # paths and digests can be copied
    wrapped = textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent, **whole_words)
    return f"{label:<{_LABEL}}{wrapped[_LABEL:]}"


def _sweep(run: RecordedRun, ids: dict[str, str], children: list[RecordedRun]) -> dict[str, str]:
    name, overrides = run.sweep or "", run.tags.get(tags.SWEEP_OVERRIDES, "")
    if run.parent:
        return {"sweep": f"{name}, parent {ids.get(run.parent, run.parent)}; varies: {overrides}"}
    if not children:
        return {}
    states = [child.status for child in children]
    counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    summary = "none has scores"
    if best := ranking.best(children):
        rank = ranking.best_of(job.metrics[BEST] for job in ranking.scored(children))
        score = f"{100 * best.metrics[BEST]:.1f} %{ranking.below_base(best)}"
        summary = f"{ids[best.id]}, {score}{'' if rank == 'best' else f', {rank}'}: {_name(best)}"
    return {"sweep": f"{name}: {overrides}", "jobs": counts, "best": summary}


# Field of the lineage: the tags that it has, each with the text before its value.
_LINEAGE = {
    "code": {tags.GIT_COMMIT: "commit "},
    "data": {tags.DATA_SOURCE: "", tags.DATA_MD5: "md5 ", tags.DATA_ROWS: "rows ", tags.DATA_LICENSE: "licence "},
    "base": {
        tags.BASE_MODEL: "",
        tags.BASE_REVISION: "revision ",
        tags.BASE_SHA256: "sha256 ",
        tags.BASE_LICENSE: "licence ",
    },
    "asked with": {tags.TEMPLATE_DIGEST: "template ", tags.EVALUATION_DIGEST: "evaluation "},
    "model": {tags.MODEL_MD5: "md5 "},
    "lock": {tags.LOCK_SHA256: "sha256 "},
    "DVC": {tags.DVC_EXPERIMENT: "experiment ", tags.DVC_CACHE: "cache "},
}


def _lineage(run: RecordedRun, patch: bool) -> dict[str, str]:
    """Return the code, data, base, template, evaluation and environment of the run."""
    fields = {}
    for label, texts in _LINEAGE.items():
        entries = [f"{text}{run.tags[tag]}" for tag, text in texts.items() if run.tags.get(tag)]
        fields[label] = ", ".join(entries) or "not recorded"
    if patch:
        fields["code"] += ", with uncommitted changes: changes.patch"
    elif dirty := run.tags.get(tags.GIT_DIRTY):
        fields["code"] += ", with uncommitted changes that were not kept" if dirty == "true" else ", nothing uncommitted"
    if run.tags.get(tags.TRAIN_CACHED) == "true":
        earlier = run.tags.get(tags.TRAINED_IN)
        fields["model"] += f", trained in {f'run {earlier}' if earlier else 'a run that is not in this store'}"
    for prefix in (tags.VERSIONS, tags.HARDWARE):
        entries = [f"{tag.removeprefix(prefix)} {run.tags[tag]}" for tag in sorted(run.tags) if tag.startswith(prefix)]
        fields[prefix.rstrip(".")] = ", ".join(entries) or "not recorded"
    return fields


def _scores(measured: dict[str, Any]) -> str:
    ifeval = measured["ifeval"]
    rows = [["accuracy, %", "base", "tuned", "difference"]]
    for name, (_, label) in results.SCORES.items():
        delta = ifeval["delta"][name]
        scores = [metrics.interval(ifeval[model][name]) for model in ("base", "tuned")]
        rows.append([label, *scores, metrics.interval(delta, "+") + metrics.p_value(delta)])
    alerts = [f"{textwrap.fill(sentence, WIDTH)}\n\n" for sentence in metrics.alerts(measured)]
    return f"{''.join(alerts)}{measured['task']}: {measured['size']}; 95 % intervals\n{table.columns(rows)}"

"""`tunetrail compare`: two runs or more -> what differs in them, a table, a page and figures."""

import json
from pathlib import Path
from typing import Any

import click

from tunetrail import UserError
from tunetrail.checkout import git

_RECORD = ("report/metrics.json", "report/verdicts.json")
_CURVES = ("train/loss", "validation/loss")


@click.command("compare")
@click.argument("words", metavar="RUN RUN...", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), help="Where the page and figures go: work/compare/IDS by default.")
@click.option("--json", "machine", is_flag=True, help="Print what was found as JSON.")
def command(words: tuple[str, ...], out: Path | None, machine: bool) -> None:
    """Compare runs with the first: what differs between their settings, and whether their scores differ.

    \b
      tunetrail compare 1a84efd9 f0e6694b
      tunetrail compare @champion 889741f0 --out champion

    RUN is an MLflow id, the beginning of one, a name, or @alias of the registry. Runs that were evaluated differently are
    shown without a test. The page and figures are kept with each of the runs as well, below compare/.
    """
    from tunetrail.evaluation import intervals, results
    from tunetrail.report import page
    from tunetrail.runs import compare, listing
    from tunetrail.tracking import store

    root = git.root()
    runs = [store.to_dict(store.single(root, word)) for word in words]
    ids = listing.short(store.every(root))
    compare.check(runs, ids)
    records = []
    for run in runs:
        written = store.read_artifacts(root, run["id"], _RECORD)
        verdicts = json.loads(written[_RECORD[1]]) if _RECORD[1] in written else None
        records.append(compare.Record(run, results.recorded(written.get(_RECORD[0])), verdicts))
    found = compare.compare(records, ids, **intervals.SAMPLING)
    folder = out or root / "work" / "compare" / "-".join(run["id"] for run in found["runs"])
    try:
        files = page.write_compared(folder, found, [store.curves(root, run["id"], _CURVES) for run in runs])
    except OSError as error:
        raise UserError(f"{folder}: no page can be written there ({error}). Give another place: --out FOLDER") from None
    click.echo(json.dumps(found, indent=2) if machine else f"{compare.table(found)}\n")
    for file in files:
        click.echo(file, err=machine)
    _attach(root, runs, files, f"compare/{'-'.join(run['id'] for run in found['runs'])}")


def _attach(root: Path, runs: list[dict[str, Any]], files: list[Path], place: str) -> None:
    """Keep the files with each run; a store that does not take them costs no page."""
    from tunetrail.tracking import store

    try:
        for run in runs:
            store.attach(root, run["id"], files, place)
    except UserError as error:
        click.echo(f"The page is here, and not with the runs: {error}", err=True)

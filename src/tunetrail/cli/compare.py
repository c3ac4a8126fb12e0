"""`tunetrail compare`: two runs or more -> what differs in them, a table, a page and figures."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunetrail import UserError
from tunetrail.checkout import git

if TYPE_CHECKING:
    from tunetrail.tracking.recorded import RecordedRun

_METRICS, _VERDICTS = "report/metrics.json", "report/verdicts.json"
_CURVES = ("train/loss", "validation/loss")


@click.command("compare")
@click.argument("references", metavar="RUN RUN...", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), help="Where the page and figures go: work/compare/IDS by default.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def command(references: tuple[str, ...], out: Path | None, as_json: bool) -> None:
    """Compare runs with the first: what differs between their settings, and whether their scores differ.

    \b
      tunetrail compare 1a84efd9 f0e6694b
      tunetrail compare @champion 889741f0 --out champion

    RUN is an MLflow id or the start of one, a name, or @alias of the registry. Runs that were evaluated differently are
    shown, but not tested. The page and figures go into the record of each run as well, below compare/.
    """
    root = git.root()  # before the imports, which take seconds
    from tunetrail.evaluation import results, significance
    from tunetrail.report import page
    from tunetrail.runs import compare, listing
    from tunetrail.tracking import store

    runs = [store.single(root, reference) for reference in references]
    ids = listing.short(store.every(root))
    compare.check_comparable(runs, ids)
    records = []
    for run in runs:
        texts = store.read_artifacts(root, run.id, (_METRICS, _VERDICTS))
        verdicts = json.loads(texts[_VERDICTS]) if _VERDICTS in texts else None
        records.append(compare.Record(run, results.recorded(texts.get(_METRICS)), verdicts))
    compared = compare.compare(records, ids, **significance.SAMPLING)
    name = "-".join(ids[run.id] for run in runs)
    folder = out or root / "work" / "compare" / name
    try:
        files = page.write_compared(folder, compared, [store.curves(root, run.id, _CURVES) for run in runs])
    except OSError as error:
        raise UserError(f"{folder}: no page can be written there ({error}). Give another folder: --out FOLDER") from None
    click.echo(json.dumps(compared, indent=2) if as_json else f"{compare.text(compared)}\n")
    for file in files:
        click.echo(file, err=as_json)
    _attach(root, runs, files, f"compare/{name}")


def _attach(root: Path, runs: list["RecordedRun"], files: list[Path], folder: str) -> None:
    """Add the files to the record of each run; if the store does not take them, only say so."""
    from tunetrail.tracking import store

    try:
        for run in runs:
            store.attach(root, run.id, files, folder)
    except UserError as error:
        click.echo(f"The page is here, but not in the runs' records: {error}", err=True)

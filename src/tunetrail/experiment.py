"""Composed parameters -> one tracked run in this checkout: what was asked for, DVC's stages, the record, the table."""

import json
from pathlib import Path
from typing import Any

from tunetrail import config, inputs, schema, workspace


def conduct(values: dict[str, Any], root: Path) -> None:
    """One run: check what was composed and what it names, then params.yaml, DVC, MLflow, and the table at the end."""
    config.check(values, schema.params())
    inputs.check(values)
    with workspace.alone(root) as held:
        from tunetrail import contract, record, tracking  # MLflow takes seconds to import: not before the checks

        with tracking.run(root, values["name"]) as run:
            print(f"run {run.id}: {values['name']}, tracked in {run.address}", flush=True)
            print(contract.license_notice(values["contract"], values["base"]), flush=True)
            config.write(values, root)
            run.params(config.flatten(values))
            run.tags({"experiment": values["name"]} | workspace.git_state(root) | tracking.machine())
            run.artifacts(root, "params.yaml", "dvc.yaml")
            (root / "work" / "seconds.jsonl").unlink(missing_ok=True)
            with run.following(root / values["train"]["output_dir"] / "history.jsonl"):
                workspace.reproduce(root, held)
            record.upload(run, root, values)
        _show(root, run)


def _show(root: Path, run: Any) -> None:
    """Print the scores, where the figures are, and how to open the run."""
    from tunetrail import report

    print(f"\n{report.table(json.loads((root / 'report' / 'metrics.json').read_text()))}")
    figures = ["report/report.html", "report/ifeval.png", "report/types.png", "report/loss.png", "report/data_card.md"]
    print("\n" + "\n".join(str(root / figure) for figure in figures))
    page = f"#/experiments/{run.experiment_id}/runs/{run.id}"
    if run.address.startswith("http"):
        print(f"\nMLflow run {run.id}: {run.address.rstrip('/')}/{page}")
    else:
        print(f"\nMLflow run {run.id}. Open it with: make ui    and then\n  http://127.0.0.1:5000/{page}")

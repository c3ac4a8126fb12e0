"""Both evaluations and the training history -> report/: metrics.json, the figures, samples.md and report.html.

python -m tunetrail.stages.report
"""

import json
from pathlib import Path

import yaml

from tunetrail import history, page, params, plots, results
from tunetrail.stages import run

OUT = Path("report")


def main() -> None:
    section = params.read("report")
    base, tuned = (
        results.read(Path("eval_results") / model, section["resamples"], section["seed"]) for model in ("base", "tuned")
    )
    steps, _ = history.read(Path("outputs/train/history.jsonl"))
    metrics = results.compare(base, tuned) | {"train": history.summary(steps)}
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    plots.save(plots.ifeval(base, tuned), OUT / "ifeval")
    plots.save(plots.loss(steps), OUT / "loss")
    pairs = list(zip(base.samples, tuned.samples, strict=True))[: section["samples"]]
    samples = [page.side_by_side(*pair) for pair in pairs]
    (OUT / "samples.md").write_text(page.render("samples.md.jinja", samples=samples))
    sections = {name: params.read(name) for name in ("prepare", "train", "evaluate")}
    (OUT / "report.html").write_text(
        page.render(
            "report.html.jinja",
            metrics=metrics,
            labels={name: label for name, (_, label) in results.SCORES.items()},
            figures={name: page.drawing(OUT / f"{name}.svg") for name in ("ifeval", "loss")},
            samples=samples,
            config=yaml.safe_dump(sections, sort_keys=False, allow_unicode=True),
        )
    )
    print(f"report: {OUT}/report.html")


if __name__ == "__main__":
    run(main)

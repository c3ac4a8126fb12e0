"""Both evaluations, the training history and the data contract -> report/: metrics.json, figures, pages;
verdicts.json, by which runs are compared later, and scores.json, which `dvc exp show` lists.

    python -m tunetrail.stages.report
"""

import json
from pathlib import Path

import yaml

from tunetrail.config import params
from tunetrail.data import contract
from tunetrail.evaluation import results
from tunetrail.report import metrics, page, plots
from tunetrail.stages import run
from tunetrail.training import history

OUT = Path("report")


def main() -> None:
    section = params.read("report")
    sampling = section["resamples"], section["seed"]
    by_model = {model: results.read(Path("eval_results") / model, *sampling) for model in ("base", "tuned")}
    steps, _ = history.read(Path("outputs/train/history.jsonl"))
    data, rules = json.loads(Path("outputs/contract/contract.json").read_text()), params.read("contract")
    measured = metrics.measure(by_model, section["stop"], *sampling) | {"train": history.summary(steps), "data": data}
    about, experiment = metrics.about(Path()), params.read("name")
    name = metrics.title(experiment, about)
    page.write_evaluation(OUT, name, measured, by_model)
    (OUT / "verdicts.json").write_text(json.dumps(results.comparable(by_model), default=str) + "\n", encoding="utf-8")
    (OUT / "scores.json").write_text(json.dumps(results.listed(measured), indent=2) + "\n", encoding="utf-8")
    plots.save(plots.loss(steps, name), OUT / "loss")
    plots.save(plots.lengths(data["tokens"]["histogram"], rules["sequence_len"], name), OUT / "lengths")
    samples = page.side_by_side(by_model, section["samples"])
    (OUT / "samples.md").write_text(page.render("samples.md.jinja", samples=samples), encoding="utf-8")
    sections = {name: params.read(name) for name in ("prepare", "base", "train", "evaluate")}
    card = {"data": data, "contract": rules, "prepare": sections["prepare"], "remarks": contract.remarks(data, rules)}
    (OUT / "data_card.md").write_text(page.render("data_card.md.jinja", **card), encoding="utf-8")
    figures = {name: page.drawing(OUT / f"{name}.svg") for name in ("ifeval", "types", "loss", "lengths")}
    config = yaml.safe_dump(sections, sort_keys=False, allow_unicode=True)
    # DVC may restore the page for a later run, which replaces its head: only that names the run.
    card |= {
        "experiment": experiment,
        "base": json.loads(Path("outputs/base/base.json").read_text()),
        "head": page.head(about),
    }
    text = page.render("report.html.jinja", metrics=measured, figures=figures, samples=samples, config=config, **card)
    (OUT / "report.html").write_text(text, encoding="utf-8")
    print(f"report: {OUT}/report.html")


if __name__ == "__main__":
    run(main)

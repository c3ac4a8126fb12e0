"""Figures and samples -> report.html, samples.md, compare.html: pages that need no other file and no network."""

import html
import json
import re
from pathlib import Path
from typing import Any

import jinja2

from tunetrail.evaluation import health, results, scoring
from tunetrail.evaluation.results import Results
from tunetrail.evaluation.significance import Score
from tunetrail.report import metrics, plots

_LINE_ENDS = re.compile(r"\n{4,}")  # a few belong to the answer
_MARKDOWN = re.compile(r"[\\`*_\[\]!~$#]")
_ADDRESS = re.compile(r":(?=//)|(?<=www)\.|@", re.IGNORECASE)  # GitHub makes a link of what has one
_TEMPLATES = Path(__file__).parent / "pages"
# As head.html.jinja writes it; in what a user or a model wrote such comments are escaped.
_HEAD = re.compile(r'<!-- run -->\n(?:<table class="run" data-run="(?P<run>[^"]*)">)?.*?<!-- /run -->\n', re.DOTALL)


def render(name: str, **content: Any) -> str:
    """Return `pages/<name>` filled in. HTML is escaped; Markdown by the filters `oneline` and `cell` (of a table)."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=jinja2.select_autoescape(("html.jinja",)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["oneline"] = lambda text: _plain(" ".join(text.split()))
    environment.filters["cell"] = lambda text: _plain(shortened(text)).replace("|", "\\|").replace("\n", "<br>")
    environment.filters["shortened"] = shortened
    environment.filters["interval"] = metrics.interval
    environment.globals |= {"labels": {name: label for name, (_, label) in results.SCORES.items()}}
    environment.globals |= {"health": health.FIGURES, "p_value": metrics.p_value, "alerts": metrics.alerts}
    return environment.get_template(name).render(content)


def shortened(text: str) -> str:
    """Return an answer with each long run of line ends as their number, and an empty one as a word."""
    text = "\n".join(re.split(r"\r\n?|\n", text))
    return _LINE_ENDS.sub(lambda run: f"\n[{len(run[0])} line ends]\n", text).strip("\n") or "(empty)"


def _plain(text: str) -> str:
    """Return Markdown that shows the text as it is: a link, an image or emphasis in it is not one on the page."""
    text = _MARKDOWN.sub(r"\\\g<0>", html.escape(text, quote=False))
    return _ADDRESS.sub(lambda part: f"&#{ord(part[0])};", text)


def side_by_side(by_model: dict[str, Results], count: int) -> list[dict[str, Any]]:
    """Return the first `count` prompts, each with every model's answer and the instructions that it does not follow."""

    def answer(sample: dict[str, Any]) -> dict[str, Any]:
        return {"text": results.answer(sample), "missed": scoring.missed(sample)}

    rows = []
    for samples in list(zip(*(scored.samples for scored in by_model.values()), strict=True))[:count]:
        answers = dict(zip(by_model, map(answer, samples), strict=True))
        rows.append({"prompt": samples[0]["doc"]["prompt"], "answers": answers})
    return rows


def head(about: dict[str, Any] | None, earlier: str | None = None) -> str:
    """Return the head of a page: the run that it is of (`metrics.about`), and the id of the `earlier` run that made the
    results, if it is another."""
    return render("head.html.jinja", about=about, earlier=earlier)


def headed(text: str, about: dict[str, Any]) -> str:
    """Return the page `text` with the head of the run `about`, which also names the run that made the page."""
    old = _HEAD.search(text)
    if not old:
        return text
    earlier = old["run"] if old["run"] != about["id"] else None
    return text[: old.start()] + head(about, earlier) + text[old.end() :]


def drawing(path: Path) -> str:
    """Return an SVG file as part of a page: without its XML declaration and document type."""
    text = path.read_text(encoding="utf-8")
    return text[text.index("<svg") :]


def write_evaluation(folder: Path, name: str, metrics: dict[str, Any], by_model: dict[str, Results]) -> None:
    """Write metrics.json and the figures of the evaluation `name` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    plots.save(plots.ifeval(by_model, name), folder / "ifeval")
    plots.save(plots.types(metrics["types"], name), folder / "types")


def write_scored(folder: Path, responses: str, metrics: dict[str, Any], by_model: dict[str, Results]) -> None:
    """Write the report of responses from elsewhere into `folder`: metrics.json, figures, report.html."""
    write_evaluation(folder, responses, metrics, by_model)
    figures = {name: drawing(folder / f"{name}.svg") for name in ("ifeval", "types")}
    samples = side_by_side(by_model, 8)
    text = render("score.html.jinja", responses=responses, metrics=metrics, figures=figures, samples=samples)
    (folder / "report.html").write_text(text, encoding="utf-8")


def write_compared(folder: Path, comparison: dict[str, Any], curves: list[dict[str, list[tuple[int, float]]]]) -> list[Path]:
    """Write compare.html and its figures into `folder`, and return the files.

    `comparison` is from `compare.compare`, `curves` has each run's by name. A figure without data is left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    runs = list(enumerate(comparison["runs"]))
    scored = [(number, run["label"], _models(run["scores"])) for number, run in runs if run["scores"] and run["alike"]]
    drawn = {"scores": plots.runs(scored, comparison["asked"])} if scored else {}
    if any(run_curves["train/loss"] for run_curves in curves):
        drawn["loss"] = plots.losses(
            [(number, run["label"], run_curves) for (number, run), run_curves in zip(runs, curves, strict=True)],
            comparison["losses"],
        )
    for name, figure in drawn.items():
        plots.save(figure, folder / name)
    figures = {name: drawing(folder / f"{name}.svg") for name in drawn}
    colours = [plots.colour(number) for number, _ in runs]
    text = render("compare.html.jinja", **comparison, figures=figures, colours=colours)
    (folder / "compare.html").write_text(text, encoding="utf-8")
    return [folder / "compare.html", *(folder / f"{name}.{kind}" for name in drawn for kind in ("png", "svg"))]


def _models(scores: dict[str, Any]) -> dict[str, dict[str, Score]]:
    return {model: {name: Score(**scores[model][name]) for name in results.SCORES} for model in ("base", "tuned")}

"""What was found -> report.html, samples.md, compare.html: pages that need no other file and no network."""

import html
import json
import re
from pathlib import Path
from typing import Any

import jinja2

from tunetrail.evaluation import health, results, scoring
from tunetrail.evaluation.intervals import Score
from tunetrail.evaluation.results import Results
from tunetrail.report import metrics, plots

_PLACE = Path(__file__).parent / "pages"
# As head.html.jinja writes it; nothing that a person or a model wrote has such marks, since they are escaped.
_HEAD = re.compile(r'<!-- run -->\n(?:<table class="run" data-run="(?P<run>[^"]*)">)?.*?<!-- /run -->\n', re.DOTALL)


def render(name: str, **content: Any) -> str:
    """Fill in `pages/<name>`; HTML is escaped, Markdown where it quotes (`oneline`, a table's `cell`)."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PLACE),
        autoescape=jinja2.select_autoescape(("html.jinja",)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["oneline"] = lambda text: html.escape(" ".join(text.split()), quote=False).replace("`", "\\`")
    environment.filters["cell"] = lambda text: html.escape(text, quote=False).replace("|", "\\|").replace("\n", "<br>")
    environment.filters["interval"] = metrics.interval
    environment.globals |= {"labels": {name: label for name, (_, label) in results.SCORES.items()}}
    environment.globals |= {"health": health.FIGURES, "p_value": metrics.p_value, "alerts": metrics.alerts}
    return environment.get_template(name).render(content)


def side_by_side(found: dict[str, Results], count: int) -> list[dict[str, Any]]:
    """The first `count` prompts, each with every model's answer, and the instructions that it does not follow."""

    def answer(sample: dict[str, Any]) -> dict[str, Any]:
        return {"text": results.answer(sample), "missed": scoring.missed(sample)}

    rows = list(zip(*(of.samples for of in found.values()), strict=True))[:count]
    return [{"prompt": row[0]["doc"]["prompt"], "answers": dict(zip(found, map(answer, row), strict=True))} for row in rows]


def head(about: dict[str, Any] | None, earlier: str | None = None) -> str:
    """The element that says which run a page is of. `about` is what `experiment` left of the run, `earlier` the id of the
    run whose results they are, where it is another."""
    return render("head.html.jinja", about=about, earlier=earlier)


def headed(text: str, about: dict[str, Any]) -> str:
    """The page `text` with the head of the run `about`, which also names the run that made the page where it is another."""
    if not (old := _HEAD.search(text)):
        return text
    earlier = old["run"] if old["run"] != about["id"] else None
    return text[: old.start()] + head(about, earlier) + text[old.end() :]


def drawing(path: Path) -> str:
    """An SVG file as a part of a page: without its XML declaration and document type."""
    text = path.read_text(encoding="utf-8")
    return text[text.index("<svg") :]


def write_evaluation(folder: Path, name: str, metrics: dict[str, Any], found: dict[str, Results]) -> None:
    """Write metrics.json and the figures of the evaluation `name` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    plots.save(plots.ifeval(found, name), folder / "ifeval")
    plots.save(plots.types(metrics["types"], name), folder / "types")


def write_scored(folder: Path, responses: str, metrics: dict[str, Any], found: dict[str, Results]) -> None:
    """Write the whole report of responses that came from elsewhere into `folder`: metrics.json, figures, report.html."""
    write_evaluation(folder, responses, metrics, found)
    figures = {name: drawing(folder / f"{name}.svg") for name in ("ifeval", "types")}
    samples = side_by_side(found, 8)
    text = render("score.html.jinja", responses=responses, metrics=metrics, figures=figures, samples=samples)
    (folder / "report.html").write_text(text, encoding="utf-8")


def write_compared(folder: Path, found: dict[str, Any], curves: list[dict[str, list[tuple[int, float]]]]) -> list[Path]:
    """Write compare.html and its figures into `folder`; `found` is `compare.compare`'s, `curves` each run's by name.

    Returns the files written. There is no figure of what no run has.
    """
    folder.mkdir(parents=True, exist_ok=True)
    runs = list(enumerate(found["runs"]))
    scored = [(place, run["label"], _models(run["scores"])) for place, run in runs if run["scores"] and run["alike"]]
    drawn = {"scores": plots.runs(scored, found["asked"])} if scored else {}
    if any(of["train/loss"] for of in curves):
        drawn["loss"] = plots.losses([(place, run["label"], of) for (place, run), of in zip(runs, curves, strict=True)])
    for name, figure in drawn.items():
        plots.save(figure, folder / name)
    figures = {name: drawing(folder / f"{name}.svg") for name in drawn}
    colours = [plots.colour(place) for place, _ in runs]
    text = render("compare.html.jinja", **found, figures=figures, colours=colours)
    (folder / "compare.html").write_text(text, encoding="utf-8")
    return [folder / "compare.html", *(folder / f"{name}.{kind}" for name in drawn for kind in ("png", "svg"))]


def _models(scores: dict[str, Any]) -> dict[str, dict[str, Score]]:
    return {model: {name: Score(**scores[model][name]) for name in results.SCORES} for model in ("base", "tuned")}

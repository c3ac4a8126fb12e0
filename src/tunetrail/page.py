"""What the report found -> report.html and samples.md: pages that need no other file and no network."""

import html
from pathlib import Path
from typing import Any

import jinja2

from tunetrail import results

_PLACE = Path(__file__).parent / "pages"


def render(name: str, **content: Any) -> str:
    """Fill in `pages/<name>`; HTML is escaped, Markdown is not."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PLACE),
        autoescape=jinja2.select_autoescape(("html.jinja",)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.1f}"
    return environment.get_template(name).render(content)


def side_by_side(base: dict[str, Any], tuned: dict[str, Any]) -> dict[str, Any]:
    """One prompt with both answers (lm-eval's samples), as text and as the cell of a Markdown table."""

    def answer(sample: dict[str, Any]) -> dict[str, Any]:
        text = results.answer(sample)
        cell = html.escape(text, quote=False).replace("|", "\\|").replace("\n", "<br>")
        return {"text": text, "cell": cell, "followed": sample["prompt_level_strict_acc"]}

    return {"prompt": base["doc"]["prompt"], "base": answer(base), "tuned": answer(tuned)}


def drawing(path: Path) -> str:
    """An SVG file as a part of a page: without its XML declaration and document type."""
    text = path.read_text()
    return text[text.index("<svg") :]

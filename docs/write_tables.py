"""The parts of docs/*.md that are made from the code, and llms.txt: `make docs` writes them, tests/test_docs.py compares.

python docs/write_tables.py   writes each table between `<!-- table: NAME -->` and `<!-- end -->`
"""

import ast
import itertools
import re
from collections.abc import Callable
from pathlib import Path

import click
import yaml

from tunetrail import cli
from tunetrail.plan.rules import judge, risks
from tunetrail.tracking import tags

DOCS = Path(__file__).parent
ROOT = DOCS.parent
_TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_SITE = {  # in the order of mkdocs.yml, which tests/test_docs.py compares: the page and what it answers
    "index": "what tunetrail is, and where to find what",
    "tutorial": "the demo, line by line: what it prints and leaves, and what MLflow shows",
    "your-data": "your first run on rows, prompts and a model of your own; where the record goes",
    "models-and-methods": "which models, methods, machines and experiments there are, and how to add one",
    "plan": "what a run will take and cost, and every code of an ERROR or WARNING",
    "sweeps": "many runs at once: grids, searchers, clusters",
    "runs": "find, compare, reproduce, restore, promote, chat with runs, and delete their files",
    "llama3": "the Llama 3 recipes on AMD and NVIDIA GPUs: cost, and what healthy and broken look like",
    "docker": "images for ROCm, CUDA and CPU, and an MLflow server on PostgreSQL",
    "doctor": "what `tunetrail doctor` checks",
    "reliability": "what happens when a run is killed, a disk is full or the tracking server fails",
    "cli": "every command and option",
    "config": "every key of our own, and where the keys of each tool are documented",
    "record": "every tag, metric, param and file of a run in MLflow",
    "statistics": "intervals, paired tests, and when a difference is too small to be seen",
    "architecture": "the walk of one run, the modules, and why the tools are called by their command lines",
    "recipe-notes": "the published Llama 3 recipe, what was wrong with it, and the figures",
    "limits": "what was run and what was not, and what the scores do not say",
}


def codes() -> str:
    """Return the findings of `tunetrail plan`, each with the first sentence of its rule."""
    of_tools = {
        judge.UNKNOWN_KEY: "No tool knows a key, and would ignore it.",
        judge.AXOLOTL_REFUSES: "Axolotl refuses its config.",
        judge.CHECKERS_REFUSE: "lm-eval's checkers refuse a prompt of the evaluation.",
    }
    rows = [("ERROR", code, text) for code, text in of_tools.items()]
    for rule in (*judge.RULES, risks.telemetry_on):
        sentence = re.split(r"(?<=[a-z)`])\. |: lm-eval", " ".join(rule.__doc__.split()))[0].rstrip(".")
        sentence = re.sub(r" \((`[A-Z]+`|\S+\.py)\)", "", sentence)  # where the number stands in the code
        code = rule.__name__.upper()
        rows.append(("ERROR" if code in judge.ALLOWABLE else "WARNING", code, f"{sentence}."))
    return _table(("level", "code", "what is wrong"), [(level, f"`{code}`", text) for level, code, text in sorted(rows)])


def options() -> str:
    """Return the options of the groups of conf/, each with the first sentence of its file."""
    files = sorted((ROOT / "conf").glob("*/*.yaml"))
    rows = [(f"`{f.parent.name}={f.stem}`", _heading(f)) for f in files if f.parent.name != "experiment"]
    return _table(("option", "what it is"), rows)


def experiments() -> str:
    files = sorted((ROOT / "conf" / "experiment").glob("*.yaml"))
    return _table(("experiment", "what it is"), [(f"`experiment={file.stem}`", _heading(file)) for file in files])


def keys() -> str:
    """Return the keys of our own, each with the comment of its line in conf/.

    Raises:
        ValueError: a key that is not only copied from another has none.
    """
    rows = []
    for name in ("config.yaml", "model/hub.yaml", "prepare/file.yaml", "evaluate/ifeval.yaml"):
        text = (ROOT / "conf" / name).read_text()
        package = re.match(r"# @package (\w+)\n", text)
        parents = [package[1]] if package and package[1] != "_global_" else []
        depth = len(parents)
        for line in text.splitlines():
            if not (match := re.match(r"( *)(\w+):(.*?)(?: # (.*))?$", line)):
                continue
            indent, key, value, comment = match.groups()
            value = value.strip()
            parents[depth + len(indent) // 2 :] = [key]
            own = parents[0] in _OWN and (parents[0] != "evaluate" or parents[1:] in _OWN_OF_EVALUATE)
            if not own or (not comment and (not value or "${" in value)):  # a section, or a copy
                continue
            if not comment:
                raise ValueError(f"conf/{name}: {key} has no comment")
            rows.append(
                (f"`{'.'.join(parents)}`", f"`{value}`" if value not in ("", "???") and "${" not in value else "", comment)
            )
    return _table(("key", "default", "meaning"), rows)


_OWN = ("name", "seed", "plan", "contract", "base", "prepare", "evaluate", "report")
_OWN_OF_EVALUATE = (["path"], ["hub"], ["template"], ["limit"])


def commands() -> str:
    """Return each command's `--help`."""
    sections = []
    for name, command in cli.main.commands.items():
        group = click.Context(cli.main, info_name="tunetrail", terminal_width=100, **cli.main.context_settings)
        context = click.Context(command, parent=group, info_name=name)
        sections.append(f"## tunetrail {name}\n\n```\n{command.get_help(context)}\n```\n")
    return "\n".join(["", *sections])


def modules() -> str:
    """Return the packages and modules of src/tunetrail, each with the first line of its docstring."""
    package = ROOT / "src" / "tunetrail"
    files = [*package.glob("*/__init__.py"), *(file for file in package.glob("*.py") if not file.name.startswith("__"))]
    rows = []
    for file in sorted(files):
        purpose = ast.get_docstring(ast.parse(file.read_text())).splitlines()[0].rstrip(".")
        rows.append((f"`{file.parent.name}/`" if file.name == "__init__.py" else f"`{file.name}`", purpose))
    return _table(("module", "what it does"), rows)


def llms() -> str:
    """Return llms.txt: the pages for a language model to read, each with what it answers."""
    summary = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["site_description"]
    lines = [f"- [{_title(page)}]({page}.md): {answers}" for page, answers in _SITE.items()]
    return "\n".join(["# tunetrail", "", f"> {summary}", "", "## Pages", "", *lines, ""])


def pages() -> str:
    rows = [(f"[{page}]({page}.md)", answers) for page, answers in _SITE.items() if page != "index"]
    return _table(("page", "what it answers"), rows)


TABLES: dict[str, Callable[[], str]] = {
    function.__name__: function for function in (codes, options, experiments, keys, commands, modules, pages)
} | {"tags": tags.table}


def written(text: str) -> str:
    """Return the text of a page with its tables as the code has them now."""
    tables = _TABLE.findall(text)
    if not len(tables) == text.count("<!-- table:") == text.count("<!-- end -->"):
        raise ValueError("a table has no name, no end, or another table in it")
    return _TABLE.sub(lambda match: f"{match[1]}{TABLES[match[2]]()}\n{match[3]}", text)


def _title(page: str) -> str:
    return (DOCS / f"{page}.md").read_text().splitlines()[0].removeprefix("# ")


def _heading(file: Path) -> str:
    """Return the comment at the head of a conf file, without commands, up to the first line that ends a sentence."""
    head = itertools.takewhile(lambda line: line.startswith("#"), file.read_text().splitlines())
    words = []
    for line in (line[1:].strip() for line in head if not line.startswith(("# @package", "# tunetrail run"))):
        words.append(line)
        if line.endswith("."):
            break
    return " ".join(words)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


if __name__ == "__main__":
    for page in DOCS.glob("*.md"):
        page.write_text(written(page.read_text()))
    (DOCS / "llms.txt").write_text(llms())

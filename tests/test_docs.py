"""The docs say what the code does: tables made from it, commands that are real, and a site that needs no network."""

import fnmatch
import importlib.util
import re
import shlex
import subprocess
import sys

import pytest
import yaml
from mlflow import MlflowClient

from tests.conftest import ROOT
from tunetrail import cli
from tunetrail.sweep import parent

FOLDER = ROOT / "docs"
PAGES = sorted(FOLDER.glob("*.md"))
README = (ROOT / "README.md").read_text()
DOCS = "\n".join([README, *(page.read_text() for page in PAGES)])
BLOCKS = "\n".join(re.findall(r"```bash\n(.*?)```", DOCS, re.DOTALL))


@pytest.fixture(scope="module")
def write_tables():
    for command in cli.main.commands.values():  # click keeps the option of the first call, which a test may make without -h
        command._help_option = None
    spec = importlib.util.spec_from_file_location("write_tables", FOLDER / "write_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_what_the_code_says_now(write_tables):
    """Of the plan's codes, the tags, the experiments, the options of conf/, its keys and the modules."""
    used = set()
    for page in PAGES:
        text = page.read_text()
        used |= set(re.findall(r"<!-- table: (\w+) -->", text))
        assert write_tables.written(text) == text, f"{page}: make docs"
    assert used == write_tables.TABLES.keys()
    assert (FOLDER / "llms.txt").read_text() == write_tables.llms(), "make docs"


def test_the_site_has_every_page(write_tables):
    def names(entries):
        for entry in entries:
            for value in [entry] if isinstance(entry, str) else entry.values():
                yield from [value] if isinstance(value, str) else names(value)

    site = [name.removesuffix(".md") for name in names(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])]
    assert site == list(write_tables._SITE)
    assert sorted(site) == [page.stem for page in PAGES]


def test_the_readme_is_short_and_every_link_leads_somewhere():
    assert len(README.splitlines()) <= 150
    for page in (ROOT / "README.md", *PAGES):
        for link in re.findall(r"\]\(([^)#\s]+)\)", page.read_text()):
            assert "://" in link or (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_docs_have_no_placeholder_left():
    assert "@@" not in DOCS


def test_the_commands_in_the_docs_are_real(composed):
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^make ([\w-]+)", BLOCKS, re.MULTILINE)
    assert {"demo", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    project = yaml.safe_load((ROOT / "MLproject").read_text())
    runs = re.findall(r"^mlflow run (?:\.|ADDRESS)(.*)$", BLOCKS, re.MULTILINE)
    assert runs
    for run in runs:
        entry = re.search(r"-e (\w+)", run)
        known = project["entry_points"][entry[1] if entry else "main"]["parameters"]
        assert set(re.findall(r"-P (\w+)=", run)) <= set(known)
    commands = [shlex.split(line, comments=True) for line in re.findall(r"^tunetrail (.*)$", BLOCKS, re.MULTILINE)]
    assert {words[0] for words in commands} <= cli.main.commands.keys()
    for command, *words in commands:
        if command == "run" and "-m" in words:
            assert parent.total(ROOT, words) != 1, words
        elif command in ("run", "plan"):
            composed(*[word for word in words if "=" in word])
        known = {option for parameter in cli.main.commands[command].params for option in parameter.opts}
        unknown = {word for word in words if word.startswith("--")} - known - {"--help", "--cfg", "--resolve"}
        assert not unknown, (command, unknown)


def test_every_command_is_shown_in_the_docs():
    for name in cli.main.commands:
        assert re.search(rf"^tunetrail {name}\b", BLOCKS, re.MULTILINE), name


@pytest.mark.end_to_end
def test_every_metric_and_file_of_a_run_is_in_the_docs(trained):
    page = (FOLDER / "record.md").read_text()
    named = re.findall(r"`([\w./-]+)`", page)
    patterns = [re.sub(r"\b(MODEL|SCORE|STAGE)(?=\b|_s)", "*", name) for name in named]
    client = MlflowClient(f"sqlite:///{trained.folder / 'mlflow.db'}")
    run = client.search_runs([e.experiment_id for e in client.search_experiments()])[0]
    assert run.data.metrics
    for metric in run.data.metrics:
        assert any(fnmatch.fnmatchcase(metric, pattern) for pattern in patterns), metric
    for file in client.list_artifacts(run.info.run_id):
        assert file.path in named or f"{file.path}/" in named, file.path


@pytest.mark.slow
def test_the_site_is_built_and_needs_no_network(tmp_path):
    words = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", tmp_path]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sweep" in (tmp_path / "search" / "search_index.json").read_text()
    for page in PAGES:
        html = (tmp_path / f"{page.stem}.html").read_text()
        fetched = re.findall(r"<(?:script|img|iframe)[^>]* src=\"?([^\">\s]+)", html)
        fetched += re.findall(r"<link[^>]* rel=\"?(?:stylesheet|preconnect|icon)\"?[^>]* href=\"?([^\">\s]+)", html)
        fetched += re.findall(r"<link[^>]* href=\"?([^\">\s]+)\"?[^>]* rel=\"?(?:stylesheet|preconnect|icon)", html)
        assert not [address for address in fetched if "://" in address or address.startswith("//")], page
    commands = (tmp_path / "cli.html").read_text()
    for name, command in cli.main.commands.items():
        assert f"tunetrail {name}" in commands
        assert all(option in commands for parameter in command.params for option in parameter.opts if option.startswith("-"))

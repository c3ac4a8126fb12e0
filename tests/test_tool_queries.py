"""Answers of the installed tools: computed once, cached, and never guessed."""

import sys
from pathlib import Path

import pytest

from tunetrail import UserError, launch, tool_queries

# Stands in for the process that imports the tools: the same protocol, in a fraction of a second.
ANSWERING = """
import json, sys
for line in sys.stdin:
    module, question = json.loads(line)
    if question == "crash":
        sys.exit("ImportError: no such tool")
    print(json.dumps([module, question]), flush=True)
"""


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Return the list of started processes, with an empty cache in a folder of the test."""
    start, processes = launch.start_interactive, []

    def stand_in(_, errors):
        processes.append(start([sys.executable, "-c", ANSWERING], errors))
        return processes[-1]

    tool_queries.close()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(launch, "start_interactive", stand_in)
    yield processes
    tool_queries.close()


def test_an_answer_is_cached_and_another_question_goes_to_the_same_process(started, capsys):
    assert (
        tool_queries.ask("config.schema", {"a": 1}, "asking")()
        == tool_queries.ask("config.schema", {"a": 1}, "asking")()
        == ["config.schema", {"a": 1}]
    )
    assert tool_queries.ask("config.schema", {"a": 2}, "asking")() == ["config.schema", {"a": 2}]
    assert len(started) == 1
    printed = capsys.readouterr()
    assert printed.err == "asking: about half a minute, to import them; the answer is cached\n"
    tool_queries.close()
    assert tool_queries.ask("config.schema", {"a": 1}, "asking")() == ["config.schema", {"a": 1}]
    assert len(started) == 1
    assert capsys.readouterr().err == ""


def test_an_answer_that_may_not_be_cached_is_asked_for_again(started):
    def keep(answer):
        return answer[1] != 1

    for number in (1, 2):
        assert tool_queries.ask("config.schema", number, "asking", keep)() == ["config.schema", number]
        assert tool_queries.cache_file("config.schema", number).is_file() == (number == 2)


@pytest.mark.parametrize(
    ("module", "name"), [("config.schema", "axolotl_schema.py"), ("evaluation.instructions", "checkers.py")]
)
def test_an_answer_is_asked_for_again_after_a_change_of_what_the_module_depends_on(monkeypatch, module, name):
    before, read = tool_queries.cache_file(module, 1), Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda file: read(file) + " " * (file.name == name))
    assert tool_queries.cache_file(module, 1) != before


def test_two_questions_at_once_each_get_their_own_answer(started):
    first, second = (tool_queries.ask("config.schema", number, "asking") for number in (1, 2))
    assert (second(), first()) == (["config.schema", 2], ["config.schema", 1])


@pytest.mark.parametrize("change", ["source", "installed"])
def test_an_answer_is_asked_for_again_after_a_change_of_source_or_packages(started, monkeypatch, change):
    tool_queries.ask("config.schema", 1, "asking")()
    if change == "source":
        monkeypatch.setattr(Path, "read_text", lambda file, read=Path.read_text: f"{read(file)} ")
    else:
        monkeypatch.setattr(tool_queries, "_installed_packages", lambda: ["axolotl-1000.dist-info"])
    assert not tool_queries.cache_file("config.schema", 1).is_file()


def test_after_a_failed_import_the_next_question_starts_another_process(started):
    with pytest.raises(UserError, match=r"tunetrail.config.schema: ImportError: no such tool$"):
        tool_queries.ask("config.schema", "crash", "asking")()
    assert tool_queries.ask("config.schema", 1, "asking")() == ["config.schema", 1]
    assert len(started) == 2


def test_a_damaged_answer_is_asked_for_again(started):
    tool_queries.ask("config.schema", 1, "asking")()
    tool_queries.cache_file("config.schema", 1).write_text('["sch')
    assert tool_queries.ask("config.schema", 1, "asking")() == ["config.schema", 1]


def test_a_user_without_a_home_folder_also_gets_answers(started, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert tool_queries.ask("config.schema", 1, "asking")() == ["config.schema", 1]


def test_closing_ends_the_process(started):
    tool_queries.ask("config.schema", 1, "asking")()
    tool_queries.close()
    assert started[0].poll() != 0

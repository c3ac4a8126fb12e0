"""Instructions of evaluation prompts, compared with lm-eval's own checkers before anything runs."""

import json

import pytest

from tunetrail import UserError
from tunetrail.data import records, world
from tunetrail.evaluation import instructions

WORDS = "length_constraints:number_words"
LETTER = "keywords:letter_frequency"


def prompts(*rows):
    return [
        {"key": number, "prompt": "Write.", "instruction_id_list": [kind for kind, _ in row], "kwargs": [k for _, k in row]}
        for number, row in enumerate(rows)
    ]


def refused(*rows):
    with pytest.raises(UserError) as fault:
        instructions.check(prompts(*rows), "mine.jsonl")
    return str(fault.value)


def test_the_published_prompts_pass_with_the_null_arguments_of_other_checkers(shared):
    file = shared("ifeval/input_data.jsonl")
    rows = records.read_prompts(file)
    assert len(rows) == 540
    instructions.check(rows, file)
    names = {name: None for row in rows for arguments in row["kwargs"] for name in arguments}
    instructions.check([row | {"kwargs": [names | arguments for arguments in row["kwargs"]]} for row in rows], file)


def test_the_prompts_of_the_demo_pass():
    instructions.check(list(world.evaluation_prompts(42, 160)), "world")


def test_the_error_for_an_unknown_id_has_its_row_the_count_and_the_nearest_id():
    good, bad = ("punctuation:no_comma", {}), ("length_constraint:number_words", {})
    assert refused([good], [good, bad], [bad]) == (
        "mine.jsonl, row 2: lm-eval has no instruction id 'length_constraint:number_words'; the nearest is "
        "'length_constraints:number_words' (2 of 3 rows). Change or remove these rows."
    )


def test_each_fault_is_reported_once():
    message = refused([("a", {})], [("b", {})], [("a", {}), ("punctuation:no_comma", {"n": 1})], [("c", {})], [("d", {})])
    assert "row 1: lm-eval has no instruction id 'a'" in message
    assert "(2 of 5 rows)" in message
    assert "; and 2 more" in message


@pytest.mark.parametrize(
    ("kind", "arguments", "says"),
    [
        ("punctuation:no_comma", {"n": 1}, "takes no 'n'; it takes no argument"),
        (WORDS, {"words": 3}, "takes no 'words'; it takes num_words, relation"),
        (WORDS, {"num_words": 3, "relation": "more than"}, "('less than', 'at least')"),
        (WORDS, {"num_words": "3", "relation": "at least"}, 'does not take {"num_words": "3"'),
        ("detectable_format:number_highlighted_sections", {"num_highlights": "3"}, "does not take"),
        ("language:response_language", {"language": "xx"}, "does not take"),
        ("combination:repeat_prompt", {}, "prompt_to_repeat must be set"),
        ("keywords:frequency", {"keyword": "c*+?(", "frequency": 1, "relation": "at least"}, "does not take"),
        ("keywords:existence", {"keywords": [1]}, "does not take"),
        ("keywords:existence", {"keywords": "tea"}, "another type for 'keywords'"),
        # A missing argument would be drawn at random, unlike what the prompt asks for.
        (WORDS, {"relation": "at least"}, "has no 'num_words'"),
        (WORDS, {"num_words": 0, "relation": "at least"}, "has no 'num_words'"),
        ("keywords:existence", {}, "has no 'keywords'"),
        ("detectable_format:multiple_sections", {"section_spliter": "Part", "num_sections": -1}, "cannot use"),
        (LETTER, {"letter": "ab", "let_frequency": 2, "let_relation": "at least"}, "cannot use"),
    ],
)
def test_arguments_that_a_checker_does_not_take_are_refused(kind, arguments, says):
    message = refused([(kind, arguments)])
    assert repr(kind) in message
    assert says in message


def test_a_sign_in_place_of_a_letter_passes_as_in_the_published_prompts():
    for sign in "#!":
        instructions.check(prompts([(LETTER, {"letter": sign, "let_frequency": 4, "let_relation": "at least"})]), "")


# The prompts of a composed run.


@pytest.fixture
def checked(composed, tmp_path):
    def call(rows, **evaluate):
        (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        values = composed("experiment=alpaca_tiny", "prepare.path=x", "evaluate.path=mine.jsonl", "evaluate.hub=null")
        values["evaluate"] |= evaluate
        return instructions.ask(values, tmp_path)()

    return call


def test_the_prompts_of_a_run_are_checked_in_another_process(checked):
    assert checked(prompts([("no:such", {})])).startswith("mine.jsonl, row 1: lm-eval has no instruction id 'no:such'")
    assert checked(prompts([("punctuation:no_comma", {})])) == ""


def test_the_prompts_of_the_demo_and_those_not_yet_fetched_are_not_checked(checked, monkeypatch):
    bad = prompts([("no:such", {})])
    hub = {"repo_id": "google/IFEval", "filename": "input.jsonl", "revision": "0" * 40}
    assert checked(bad, path=world.SOURCE) == ""
    monkeypatch.setattr(instructions.hub, "cached", lambda *_, **__: None)
    assert checked(bad, path="conf/evaluate/ifeval.yaml", hub=hub) == ""


def test_prompts_in_the_hubs_cache_are_checked(checked, tmp_path, monkeypatch):
    monkeypatch.setattr(instructions.hub, "cached", lambda *_, **__: tmp_path / "mine.jsonl")
    hub = {"repo_id": "google/IFEval", "filename": "input.jsonl", "revision": "0" * 40}
    assert checked(prompts([("no:such", {})]), path="conf/evaluate/ifeval.yaml", hub=hub).startswith("input.jsonl, row 1")

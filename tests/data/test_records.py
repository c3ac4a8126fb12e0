import json

import pytest

from tunetrail import UserError
from tunetrail.data import records

ROW = {"instruction": "Name a colour.", "input": "", "output": "Red."}


@pytest.mark.parametrize("form", ["array", "lines"])
def test_json_and_json_lines_give_the_same_rows(tmp_path, form):
    rows = [ROW, {"instruction": "Add.", "input": "1 2", "output": "3"}]
    file = tmp_path / "rows"
    file.write_text(json.dumps(rows) if form == "array" else "\n\n".join(map(json.dumps, rows)) + "\n")
    assert records.read_instructions(file) == rows


def test_a_missing_or_null_input_is_empty_and_other_fields_are_left_out(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"instruction": "a", "output": "b", "id": 7}\n{"instruction": "a", "output": "b", "input": null}\n')
    assert records.read_instructions(file) == [{"instruction": "a", "input": "", "output": "b"}] * 2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"instruction": "a"}\n', "row 1: no field 'output' (it has instruction)"),
        (b'{"instruction": "a", "output": "b"}\n{"instruction": "a", "output": " "}', "row 2: 'output' is empty"),
        (b'{"instruction": "a", "output": 3}', "row 1: 'output' is not text"),
        (b'{"instruction": "a", "output": "b", "input": 3}', "row 1: 'input' is not text"),
        (b'{"instruction": "a", "output": "\\ud800"}', "row 1: it has half a character"),
    ],
)
def test_each_fault_names_the_file_the_row_and_a_fix(tmp_path, content, says):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(content)
    with pytest.raises(UserError) as error:
        records.read_instructions(file)
    message = str(error.value)
    assert message.startswith(str(file))
    assert says in message
    assert any(advice in message for advice in ("Fix", "Give", "Convert", "Each row"))


def test_prompts_need_one_kwargs_for_each_instruction(tmp_path):
    file = tmp_path / "prompts.jsonl"
    prompt = {"key": 1, "prompt": "a", "instruction_id_list": ["punctuation:no_comma"], "kwargs": []}
    records.write(file, [prompt])
    with pytest.raises(UserError, match="row 1: 'instruction_id_list' and 'kwargs' differ in length"):
        records.read_prompts(file)
    records.write(file, [prompt | {"instruction_id_list": [["x"]], "kwargs": [{}]}])
    with pytest.raises(UserError, match="row 1: 'instruction_id_list' has something that is not text"):
        records.read_prompts(file)
    records.write(file, [prompt | {"kwargs": [None]}])
    with pytest.raises(UserError, match="row 1: 'kwargs' has something that is not an object"):
        records.read_prompts(file)
    records.write(file, [ROW])
    with pytest.raises(UserError, match="no field 'key'"):
        records.read_prompts(file)


def test_the_real_rows_and_prompts_are_read(shared):
    assert len(records.read_instructions(shared("alpaca/alpaca_en_demo.jsonl"))) == 999
    prompts = records.read_prompts(shared("ifeval/input_data.jsonl"))
    assert (len(prompts), sum(len(row["instruction_id_list"]) for row in prompts)) == (540, 832)


def test_empty_rows_are_dropped_if_configured(tmp_path):
    rows = [{"instruction": "a", "output": "b"}, {"instruction": "a", "output": " "}, {"instruction": "", "output": "b"}]
    records.write(tmp_path / "rows.jsonl", rows)
    assert len(records.read_instructions(tmp_path / "rows.jsonl", "drop")) == 1
    with pytest.raises(UserError, match="row 2: 'output' is empty"):
        records.read_instructions(tmp_path / "rows.jsonl")
    records.write(tmp_path / "rows.jsonl", rows[1:])
    with pytest.raises(UserError, match="no row with an instruction and an output"):
        records.read_instructions(tmp_path / "rows.jsonl", "drop")


def rows(*questions):
    return [{"instruction": question, "input": "", "output": str(number)} for number, question in enumerate(questions)]


def test_a_split_loses_no_row_and_the_seed_decides_it():
    all_rows = rows(*"abcdefghijklmnopqrst")
    train, validation = records.split(all_rows, None, 4, seed=1)
    assert (len(train), len(validation)) == (16, 4)
    assert sorted(row["output"] for row in train + validation) == sorted(row["output"] for row in all_rows)
    assert records.split(all_rows, None, 4, seed=1) == (train, validation)
    assert records.split(all_rows, None, 4, seed=2) != (train, validation)


@pytest.mark.parametrize(
    ("count", "held_out", "expected"), [(60, 0.05, 3), (2, 0.05, 1), (20, 0.5, 10), (20, 0.999, None), (1, 0.05, None)]
)
def test_a_value_below_1_holds_out_that_share_of_the_rows_and_at_least_one(count, held_out, expected):
    all_rows = rows(*map(str, range(count)))
    if expected is None:
        with pytest.raises(UserError, match=rf"prepare\.validation_rows={held_out} \(\d+ rows\) leaves none to train on"):
            records.split(all_rows, None, held_out, seed=0)
    else:
        train, validation = records.split(all_rows, None, held_out, seed=0)
        assert (len(train), len(validation)) == (count - expected, expected)


def test_a_question_that_occurs_twice_is_never_held_out():
    for seed in range(20):
        train, validation = records.split(rows("a", "A ", "b", "c"), None, 2, seed)
        assert {row["instruction"] for row in validation} == {"b", "c"}
        assert len(train) == 2


def test_take_samples_that_many_rows():
    train, validation = records.split(rows(*"abcdefghij"), 5, 2, seed=0)
    assert (len(train), len(validation)) == (3, 2)
    with pytest.raises(UserError, match=r"prepare\.take=11: there are 10 rows"):
        records.split(rows(*"abcdefghij"), 11, 2, seed=0)


def test_too_few_unique_questions_are_an_error():
    with pytest.raises(UserError, match=r"4 rows, 2 of them with a unique question, and prepare\.validation_rows=3"):
        records.split(rows("a", "a", "b", "c"), None, 3, seed=0)


def of(tmp_path, *rows):
    records.write(tmp_path / "rows.jsonl", rows)
    return tmp_path / "rows.jsonl"


@pytest.mark.parametrize("value", [0, 1.5, False, True, [], {}, ["a"], {"a": 1}])
def test_an_input_that_is_not_text_is_not_a_missing_input(tmp_path, value):
    file = of(tmp_path, ROW, ROW | {"input": value}, ROW | {"input": value}, ROW | {"input": None}, ROW | {"output": None})
    with pytest.raises(UserError, match=r"row 2: 'input' is not text but an? \w+, .*; so are 2 of 5 rows\. Give text"):
        records.read_instructions(file, "drop")


def test_null_is_an_empty_output_and_the_refusal_names_the_count_and_the_option(tmp_path):
    rows = [ROW, ROW | {"output": None}, ROW | {"output": ""}, ROW | {"instruction": None}]
    file = of(tmp_path, *rows)
    with pytest.raises(UserError, match=r"row 2: 'output' is empty; so are 2 of 4 rows.*prepare\.empty=drop"):
        records.read_instructions(file)
    assert records.read_instructions(file, "drop") == [ROW]
    assert [row["output"] for row in records.read_instructions(file, "keep")] == ["Red.", "", "", "Red."]
    with pytest.raises(UserError) as error:  # which would leave none
        records.read_instructions(of(tmp_path, *rows[1:]))
    assert "prepare.empty" not in str(error.value)


@pytest.mark.parametrize(
    "more",
    [
        {"history": [["Which country has the Loire?", "France."]]},
        {"history": "Which country has the Loire?"},
        {"chat_history": [{"role": "user", "content": "a"}]},
        {"Conversation-History": ["a"]},
        {"Conversation-History": "a"},
        {"chat_history": "a"},
        {"past": {"user": "a"}},
        {"previous_turns": ["a"]},
        {"past": ["a"]},
    ],
)
def test_rows_with_earlier_turns_of_a_conversation_are_refused(tmp_path, more):
    (name,) = more
    with pytest.raises(UserError, match=f"row 2: '{name}' has earlier turns.*; so is 1 of 3 rows"):
        records.read_instructions(of(tmp_path, ROW, ROW | more, ROW | {"history": []}))


@pytest.mark.parametrize(
    "more",
    [
        {"history": 0},
        {"history": False},
        {"family_history": "none known"},
        {"previous_id": 3},
        {"prior": 0.5},
        {"past_tense": "went"},
        {"earlier_draft": "a"},
    ],
)
def test_fields_that_are_no_earlier_turn_are_left_out_and_counted(tmp_path, more):
    file = of(tmp_path, ROW | more)
    assert records.read_instructions(file) == [ROW]
    assert records.left_out(records.read(file)) == dict.fromkeys(more, 1)


@pytest.mark.parametrize(
    "more", [{"prompt": "a\ud800"}, {"kwargs": [{"keywords": ["\udfff"]}]}, {"kwargs": [{"a\ud83d": 1}]}]
)
def test_a_prompt_with_half_a_character_is_refused(tmp_path, more):
    prompt = {"key": 1, "prompt": "a \U0001f600", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in (prompt, prompt | more)))
    with pytest.raises(UserError, match=r"row 2: it has half a character .*; so is 1 of 2 rows"):
        records.read_prompts(file)


@pytest.mark.parametrize("nothing", [None, "", [], {}, [["", ""]]])
def test_an_empty_history_passes(tmp_path, nothing):
    assert records.read_instructions(of(tmp_path, ROW | {"history": nothing})) == [ROW]


def test_fields_that_are_not_read_are_counted_if_they_have_content():
    rows = [ROW | {"system": "Be brief.", "id": 0}, ROW | {"system": "", "id": 1}, ROW | {"tags": []}]
    assert records.left_out(rows) == {"system": 1, "id": 2}
    assert records.listed(records.left_out(rows)) == "left out: system in 1 row, id in 2 rows"
    assert records.listed({}) == ""
    assert records.listed({str(number): 1 for number in range(10)}).endswith("7 in 1 row and 2 more fields")


@pytest.mark.parametrize(("field", "turns"), [("messages", 2), ("conversations", 3)])
def test_chat_rows_are_refused(tmp_path, field, turns):
    file = of(tmp_path, {field: [{"content": "a"}] * turns}, {field: [{"content": "a"}]}, ROW)
    message = f"row 1: no field 'instruction': a chat row, whose '{field}' has {turns} turns; so are 2 of 3 rows"
    with pytest.raises(UserError, match=rf"{message}.*an instruction and an output"):
        records.read_instructions(file)


def test_rows_under_a_key_are_read_if_the_key_is_given_and_the_error_names_it_if_not(tmp_path):
    file = tmp_path / "rows.json"
    for indent in (None, 2):  # on one line it is a row too
        file.write_text(json.dumps({"version": 1, "data": [ROW, ROW]}, indent=indent))
        assert records.read_instructions(file, field="data") == [ROW, ROW]
        with pytest.raises(UserError, match=r"one object; its 'data' is an array of 2 rows\. Add prepare\.field=data"):
            records.read_instructions(file)
        with pytest.raises(UserError, match=r"one object; its 'data' is an array of 2 rows\. Take it out: python"):
            records.read_prompts(file)


def test_the_error_for_wrong_prompts_counts_them(tmp_path):
    prompt = {"key": 1, "prompt": "a", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    file = of(tmp_path, prompt, prompt | {"key": "2"}, prompt | {"key": True})
    with pytest.raises(UserError, match=r"row 2: 'key' is not a JSON int; so are 2 of 3 rows"):
        records.read_prompts(file)

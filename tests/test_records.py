import json

import pytest

from tunetrail import UserError, records

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


def test_a_line_separator_inside_a_string_does_not_break_the_line(tmp_path):
    file = tmp_path / "rows.jsonl"
    records.write(file, [ROW | {"output": "one\u2028two"}])
    assert records.read_instructions(file)[0]["output"] == "one\u2028two"


def test_a_byte_order_mark_is_no_fault(tmp_path):
    file = tmp_path / "rows.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps([ROW]).encode())
    assert records.read_instructions(file) == [ROW]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"instruction": "a", "output": "b"}\n{"instruction": \n', "line 2: not JSON"),
        (b'[{"instruction": "a"},\n {"output" "b"}]', "line 2: not JSON"),
        (b'{"instruction": "a"}\n', "row 1: no field 'output' (it has instruction)"),
        (b'{"instruction": "a", "output": "b"}\n{"instruction": "a", "output": " "}', "row 2: 'output' is empty"),
        (b'{"instruction": "a", "output": 3}', "row 1: 'output' is not text"),
        (b'{"instruction": "a", "output": "b", "input": 3}', "row 1: 'input' is not text"),
        (b'{"instruction": "a", "output": "b"}\n{"instruction": "caf\xe9"}', "line 2: not UTF-8"),
        (b'{"instruction": "a", "output": "\\ud800"}', "row 1: it has half a character"),
        (b"[" * 100_000, "line 1: not JSON"),
        (b'{"instruction": ' + b"1" * 5000 + b"}", "line 1: not JSON"),
        (b"", "no rows"),
        (b"[]", "no rows"),
        (b"[1]", "row 1: 1 is not an object"),
        (b'"text"', 'line 1: "text" is not an object'),
    ],
)
def test_each_fault_names_the_file_the_place_and_a_remedy(tmp_path, content, says):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(content)
    with pytest.raises(UserError) as error:
        records.read_instructions(file)
    message = str(error.value)
    assert message.startswith(str(file))
    assert says in message
    assert any(word in message for word in ("Mend", "Give", "Convert", "Each row"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.jsonl: no such file"):
        records.read(tmp_path / "nowhere.jsonl")


def test_prompts_need_one_kwargs_for_each_instruction(tmp_path):
    file = tmp_path / "prompts.jsonl"
    prompt = {"key": 1, "prompt": "a", "instruction_id_list": ["punctuation:no_comma"], "kwargs": []}
    records.write(file, [prompt])
    with pytest.raises(UserError, match="row 1: 'instruction_id_list' and 'kwargs' differ in length"):
        records.read_prompts(file)
    records.write(file, [prompt | {"instruction_id_list": [["x"]], "kwargs": [{}]}])
    with pytest.raises(UserError, match="row 1: 'instruction_id_list' holds something that is not text"):
        records.read_prompts(file)
    records.write(file, [prompt | {"kwargs": [None]}])
    with pytest.raises(UserError, match="row 1: 'kwargs' holds something that is not an object"):
        records.read_prompts(file)
    records.write(file, [ROW])
    with pytest.raises(UserError, match="no field 'key'"):
        records.read_prompts(file)


def test_the_real_rows_and_prompts_are_read(shared):
    assert len(records.read_instructions(shared("alpaca/alpaca_en_demo.jsonl"))) == 999
    prompts = records.read_prompts(shared("ifeval/input_data.jsonl"))
    assert (len(prompts), sum(len(row["instruction_id_list"]) for row in prompts)) == (540, 832)


def test_empty_rows_are_left_out_where_that_is_asked_for(tmp_path):
    rows = [{"instruction": "a", "output": "b"}, {"instruction": "a", "output": " "}, {"instruction": "", "output": "b"}]
    records.write(tmp_path / "rows.jsonl", rows)
    assert len(records.read_instructions(tmp_path / "rows.jsonl", "drop")) == 1
    with pytest.raises(UserError, match="row 2: 'output' is empty"):
        records.read_instructions(tmp_path / "rows.jsonl")
    records.write(tmp_path / "rows.jsonl", rows[1:])
    with pytest.raises(UserError, match="no row with an instruction and an output"):
        records.read_instructions(tmp_path / "rows.jsonl", "drop")


def rows(*questions):
    return [{"instruction": question, "input": "", "output": str(place)} for place, question in enumerate(questions)]


def test_a_split_loses_no_row_and_the_seed_decides_it():
    given = rows(*"abcdefghijklmnopqrst")
    train, validation = records.split(given, None, 4, seed=1)
    assert (len(train), len(validation)) == (16, 4)
    assert sorted(row["output"] for row in train + validation) == sorted(row["output"] for row in given)
    assert records.split(given, None, 4, seed=1) == (train, validation)
    assert records.split(given, None, 4, seed=2) != (train, validation)


def test_a_question_that_occurs_twice_is_never_held_out():
    for seed in range(20):
        train, validation = records.split(rows("a", "A ", "b", "c"), None, 2, seed)
        assert {row["instruction"] for row in validation} == {"b", "c"}
        assert len(train) == 2


def test_take_draws_that_many_rows():
    train, validation = records.split(rows(*"abcdefghij"), 5, 2, seed=0)
    assert (len(train), len(validation)) == (3, 2)
    with pytest.raises(UserError, match=r"prepare\.take=11: there are 10 rows"):
        records.split(rows(*"abcdefghij"), 11, 2, seed=0)


def test_too_few_questions_of_their_own_are_said():
    with pytest.raises(UserError, match=r"4 rows, 2 of them with a question of their own, and prepare\.validation_rows=3"):
        records.split(rows("a", "a", "b", "c"), None, 3, seed=0)

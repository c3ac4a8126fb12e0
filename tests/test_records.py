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

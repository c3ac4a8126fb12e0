import json
import math

from tunetrail.training import history


def test_logged_steps_are_read_back_under_our_names(tmp_path):
    file = tmp_path / "work" / "history.jsonl"
    history.append(file, 1, 10.0, {"loss": "0.5", "learning_rate": 1e-3, "memory/max_active (GiB)": 0})
    history.append(file, 2, 11.0, {"eval_loss": 0.25, "eval_runtime": 3})
    history.append(file, 2, 11.5, {"train_runtime": 3})
    rows, _ = history.read(file)
    assert rows == [
        {"step": 1, "time": 10.0, "train/loss": 0.5, "train/learning_rate": 1e-3},
        {"step": 2, "time": 11.0, "validation/loss": 0.25},
    ]


def test_a_run_too_short_to_log_has_a_summary():
    assert history.summary([]) == {"steps": 0, "loss": None, "validation_loss": None}
    rows = [{"step": 3, "time": 1.0, "validation/loss": 2.0}]
    assert history.summary(rows) == {"steps": 3, "loss": None, "validation_loss": 2.0}


def test_a_reader_continues_where_it_stopped_and_waits_for_complete_lines(tmp_path):
    file = tmp_path / "history.jsonl"
    assert history.read(file) == ([], 0)
    history.append(file, 1, 1.0, {"loss": 1})
    rows, offset = history.read(file)
    assert [row["step"] for row in rows] == [1]
    with file.open("a") as half:
        half.write('{"step": 2')
    assert history.read(file, offset) == ([], offset)
    with file.open("a") as half:
        half.write(', "time": 2.0}\n')
    rows, end = history.read(file, offset)
    assert rows == [{"step": 2, "time": 2.0}]
    assert end == file.stat().st_size


def logged(file, *steps):
    for step in steps:
        history.append(file, step, float(step), {"loss": step / 10, "eval_loss": math.nan})


def test_steps_after_a_checkpoint_are_cut_off_and_the_rest_is_unchanged(tmp_path):
    file = tmp_path / "history.jsonl"
    history.cut(file, 3)
    assert not file.exists()
    logged(file, 1, 2, 3)
    before = file.read_bytes()
    history.cut(file, 3)
    assert file.read_bytes() == before
    logged(file, 4, 5)
    history.cut(file, 3)
    assert file.read_bytes() == before
    history.cut(file, 0)
    assert file.read_bytes() == b""


def test_an_unfinished_line_of_a_killed_training_is_removed(tmp_path):
    file = tmp_path / "history.jsonl"
    logged(file, 1, 2)
    with file.open("a") as half:
        half.write('{"step": 3, "ti')
    history.cut(file, 2)
    logged(file, 3)
    assert [row["step"] for row in history.read(file)[0]] == [1, 2, 3]


def test_a_reader_of_a_file_that_became_shorter_starts_again(tmp_path):
    file = tmp_path / "history.jsonl"
    logged(file, 1, 2, 3)
    _, offset = history.read(file)
    history.cut(file, 1)
    rows, offset = history.read(file, offset)
    assert [row["step"] for row in rows] == [1]
    logged(file, 2)
    assert [row["step"] for row in history.read(file, offset)[0]] == [2]


def test_a_reader_of_a_file_that_was_cut_and_grew_again_reads_only_complete_lines(tmp_path):
    file = tmp_path / "history.jsonl"
    logged(file, 1, 2)
    _, offset = history.read(file)
    history.cut(file, 1)
    history.append(file, 2, 2.0, {"loss": 1 / 3, "grad_norm": 1 / 3})  # longer than the line that was there
    rows, end = history.read(file, offset)
    assert rows[-1] == {"step": 2, "time": 2.0, "train/loss": 1 / 3, "train/grad_norm": 1 / 3}
    assert end == file.stat().st_size
    assert json.loads(file.read_text().splitlines()[-1]) == rows[-1]

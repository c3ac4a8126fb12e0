from tunetrail import history


def test_logged_steps_come_back_under_our_names(tmp_path):
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


def test_a_reader_goes_on_where_it_stopped_and_waits_for_a_whole_line(tmp_path):
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

import json

from tunetrail import events


def test_an_event_is_a_line_with_its_time(tmp_path):
    events.add(tmp_path, "base")
    events.add(tmp_path, "train", done=1, total=2, rate=None)
    first, second = map(json.loads, (tmp_path / "work" / "progress.jsonl").read_text().splitlines())
    assert first["stage"] == "base"
    assert second.items() >= {"stage": "train", "done": 1, "total": 2, "rate": None}.items()
    assert first["time"] <= second["time"]


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "work").write_text("")
    events.add(tmp_path, "base")
    assert [file.name for file in tmp_path.iterdir()] == ["work"]

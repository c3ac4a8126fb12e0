"""What a training goes on from: its own newest whole checkpoint, or nothing."""

import json

import pytest

from tunetrail.training import manifest, resume

SECTION = {"output_dir": "work/train", "learning_rate": 3e-3, "micro_batch_size": 4}
ONE_PROCESS = {"cpu": True, "num_processes": 1}


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("{}\n")


@pytest.fixture
def work(tmp_path):
    return tmp_path.joinpath("work/train").relative_to(tmp_path)


def training(accelerate=ONE_PROCESS, rows="rows.jsonl", base="1", **changed):
    from pathlib import Path

    return resume.training(SECTION | changed, accelerate, [Path(rows)], {"sha256": base})


def save(work, *steps, done=0):
    """Write checkpoints as the trainer does, and the history of `done` steps."""
    for step in steps:
        folder = work / f"checkpoint-{step}"
        folder.mkdir()
        for name in ("model.safetensors", "optimizer.pt"):
            (folder / name).write_bytes(b"x" * 1000)
        manifest.write(folder)
    rows = ({"step": step, "time": 0.0, "train/loss": 1.0} for step in range(1, done + 1))
    (work / "history.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_a_first_attempt_starts_in_an_empty_folder(work):
    assert resume.prepare(work, training()) is None
    assert resume.attempts(work)[0]["from_step"] == 0


def test_the_next_attempt_goes_on_from_the_newest_checkpoint(work, capsys):
    resume.prepare(work, training())
    save(work, 10, 9, done=13)
    assert resume.prepare(work, training()) == work / "checkpoint-10"
    assert [(each["from_step"], each["repeated"]) for each in resume.attempts(work)] == [(0, 0), (10, 3)]
    assert capsys.readouterr().out == (
        "train: goes on from step 10 (work/train/checkpoint-10); 3 steps after it are done again\n"
    )


@pytest.mark.parametrize("fault", ["no manifest", "cut"])
def test_a_checkpoint_that_is_not_whole_is_removed_and_the_one_before_it_is_taken(work, capsys, fault):
    resume.prepare(work, training())
    save(work, 10, 20)
    damaged = work / "checkpoint-20" / ("optimizer.pt" if fault == "cut" else manifest.FILE)
    damaged.write_bytes(b"x") if fault == "cut" else damaged.unlink()
    assert resume.prepare(work, training()) == work / "checkpoint-10"
    assert not (work / "checkpoint-20").exists()
    why = "optimizer.pt is cut" if fault == "cut" else "it has no manifest.json, which is written last"
    assert f"train: work/train/checkpoint-20 is not whole ({why}): it is removed" in capsys.readouterr().out


def test_without_a_whole_checkpoint_nothing_of_the_earlier_attempt_is_left(work):
    resume.prepare(work, training())
    save(work, 10, done=13)
    (work / "checkpoint-10" / "optimizer.pt").unlink()
    assert resume.prepare(work, training()) is None
    assert not (work / "history.jsonl").exists()


@pytest.mark.parametrize(
    "other",
    [
        {"learning_rate": 5e-4},
        {"num_epochs": 2},
        {"accelerate": {"num_processes": 2}},
        {"base": "2"},
        {"rows": "other.jsonl"},
    ],
)
def test_the_checkpoint_of_another_training_is_not_taken_and_not_lost(work, tmp_path, capsys, other):
    (tmp_path / "other.jsonl").write_text("{}\n{}\n")
    resume.prepare(work, training(**other))
    save(work, 10, done=13)
    assert resume.prepare(work, training()) is None
    save(work, 5)
    said = capsys.readouterr().out
    assert "has checkpoint-10 of an unfinished training with " in said
    assert "learning_rate=0.0005" in said or "learning_rate" not in other
    assert resume.prepare(work, training(**other)) == work / "checkpoint-10"
    assert len(list(resume.UNFINISHED.iterdir())) == 1
    assert resume.prepare(work, training()) == work / "checkpoint-5"


@pytest.mark.parametrize("key", ["auto_resume_from_checkpoints", "dataset_prepared_path", "output_dir"])
def test_where_files_are_kept_makes_no_other_training(work, key):
    resume.prepare(work, training())
    save(work, 10)
    assert resume.prepare(work, training(**{key: "elsewhere"})) == work / "checkpoint-10"


def test_a_finished_training_starts_again(work):
    resume.prepare(work, training())
    save(work, 10)
    resume.finish(work)
    assert resume.prepare(work, training()) is None


def test_checkpoints_of_an_unknown_training_are_not_taken(work, capsys):
    work.mkdir(parents=True)
    save(work, 10)
    assert resume.prepare(work, training()) is None
    assert capsys.readouterr().out == "train: work/train has checkpoints of an unknown training: they are removed\n"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"training": 1, "finished": false}', '{"training": {}}'])
def test_a_folder_whose_description_is_damaged_is_of_an_unknown_training(work, text):
    resume.prepare(work, training())
    save(work, 10)
    (work / "training.json").write_text(text)
    assert resume.prepare(work, training()) is None


def test_what_is_forgotten_is_not_gone_on_from(work, tmp_path):
    resume.prepare(work, training())
    save(work, 10)
    resume.prepare(work, training(learning_rate=1.0))  # sets it aside
    save(work, 10)
    resume.forget(tmp_path, SECTION)
    assert not list(resume.UNFINISHED.iterdir())
    assert resume.prepare(work, training(learning_rate=1.0)) == work / "checkpoint-10"


@pytest.mark.parametrize(
    ("section", "accelerate", "why"),
    [
        ({}, ONE_PROCESS, ""),
        ({}, {"num_processes": 8, "num_machines": 1}, ""),
        ({}, {"num_processes": 16, "num_machines": 2}, "several machines"),
        ({"fsdp_config": {"state_dict_type": "FULL_STATE_DICT"}}, {"num_processes": 8}, "FSDP"),
        ({"deepspeed": "zero2.json"}, {"num_processes": 8}, "DeepSpeed"),
        ({"fsdp": ["full_shard"]}, {"num_processes": 8, "num_machines": None}, "FSDP"),
        ({}, {"num_processes": 8, "use_fsdp": True}, "FSDP"),
        ({"tensor_parallel_size": 2}, {"num_processes": 2}, "tensor parallel"),
        ({"dataloader_num_workers": 4}, ONE_PROCESS, "loader workers"),
        ({"streaming": True}, ONE_PROCESS, "streamed rows"),
        ({"rl": "grpo"}, ONE_PROCESS, "rl: grpo"),
    ],
)
def test_it_is_said_where_the_numbers_differ_from_an_unbroken_training(section, accelerate, why):
    assert resume.inexact(section, accelerate) == why

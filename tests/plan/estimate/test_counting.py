"""Which jobs of a sweep share their counts; test_workload tests the counts themselves."""

from pathlib import Path

import pytest

from tunetrail.plan.estimate import counting

SMALL = ("prepare.generate.rows=500", "prepare.generate.documents=100")


def counted(values):
    return counting.count(values, Path())


def test_jobs_of_the_demo_that_differ_in_other_keys_share_the_counts(composed):
    first = counted(composed(*SMALL))
    for override in ("train.learning_rate=1e-2", "train.sequence_len=64", "method=lora"):
        assert counted(composed(*SMALL, override)) is first


@pytest.mark.parametrize(
    "override",
    [
        *("prepare.generate.rows=300", "prepare.take=400", "prepare.validation_rows=7", "base.make.vocab_size=300"),
        *("template.without_input='{instruction}: '", "evaluate.limit=3", "+train.tokens=[city]"),
        "train.special_tokens=null",
    ],
)
def test_a_key_that_the_counts_depend_on_has_counts_of_its_own(composed, override):
    assert counted(composed(*SMALL, override)) is not counted(composed(*SMALL))


def test_files_may_change_and_are_counted_each_time(composed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    row = '{"instruction": "Say it %d.", "input": "", "output": "It."}\n'
    prompt = '{"key": 1, "prompt": "Hi", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}\n'
    Path("prompts.jsonl").write_text(prompt)
    files = (
        "prepare=file",
        "prepare.path=rows.jsonl",
        "evaluate=ifeval",
        "evaluate.path=prompts.jsonl",
        "evaluate.hub=null",
    )
    values = composed(*files, "base.make.vocab_size=300", "prepare.validation_rows=1")
    for rows in (20, 30):
        Path("rows.jsonl").write_text("".join(row % number for number in range(rows)))
        assert counted(values).fields["raw"] == rows

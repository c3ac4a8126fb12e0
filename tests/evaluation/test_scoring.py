import json

import nltk
import pytest

from tunetrail import UserError
from tunetrail.data import records
from tunetrail.evaluation import scoring

PROMPTS = [
    {"key": 1, "prompt": "No commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
    {"key": 2, "prompt": "All small.", "instruction_id_list": ["change_case:english_lowercase"], "kwargs": [{}]},
]


def test_answers_are_scored_by_lm_evals_checkers_in_the_order_of_the_prompts():
    samples = scoring.score(PROMPTS, ["none here", "this is Not a small text in English"])
    assert [sample["prompt_level_strict_acc"] for sample in samples] == [True, False]
    assert [sample["inst_level_loose_acc"] for sample in samples] == [[True], [False]]
    assert [sample["doc"]["key"] for sample in samples] == [1, 2]


def test_only_answers_cut_by_a_stop_sequence_are_scored_again():
    samples = scoring.score(PROMPTS, ["none\n\n### Instruction:\none, two", "all of this is a small text"])
    samples[1]["tokens"] = 7
    stopped = scoring.stopped(samples, "### Instruction:")
    assert not samples[0]["prompt_level_strict_acc"]
    assert stopped[0]["prompt_level_strict_acc"]
    assert stopped[0]["filtered_resps"] == ["none\n\n"]
    assert stopped[1] is samples[1]
    assert scoring.stopped(stopped, "### Instruction:") is stopped


def test_the_same_answer_gets_the_same_scores_every_time(shared, monkeypatch):
    """langdetect uses random numbers, and so does the checker that counts a sign other than a letter."""
    prompts = records.read_prompts(shared("ifeval/input_data.jsonl"))
    monkeypatch.setattr(nltk.data, "path", [str(shared("nltk_data"))])
    answers = ["Here it is! My ANSWER, in short; with a # and some words in it.\n" * 3 for _ in prompts]
    first, second = (scoring.score(prompts, answers) for _ in range(2))
    assert first == second
    for sample in first:
        for strict, loose in zip(sample["inst_level_strict_acc"], sample["inst_level_loose_acc"], strict=True):
            assert loose >= strict, sample["doc"]


def responses(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_responses_are_matched_by_their_prompt(tmp_path):
    rows = [{"prompt": "All small.", "response": "b"}, {"prompt": "No commas.", "response": "a", "model": "x"}]
    assert scoring.read_responses(responses(tmp_path / "r.jsonl", rows), PROMPTS) == ["a", "b"]


def test_a_null_response_is_an_empty_answer(tmp_path):
    rows = [{"prompt": "All small.", "response": None}, {"prompt": "No commas.", "response": "a"}]
    answers = scoring.read_responses(responses(tmp_path / "r.jsonl", rows), PROMPTS)
    assert answers == ["a", None]
    samples = scoring.score(PROMPTS, [answer or "" for answer in answers])
    assert [sample["prompt_level_strict_acc"] for sample in samples] == [True, False]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"prompt": "No commas.", "response": "a"}], "1 of the 2 prompts have no response, the first of them 'All small.'"),
        ([{"prompt": "No commas."}], "row 1: 'response' is missing or not text; so is 1 of 1 rows"),
        ([{"prompt": "No commas.", "response": 3}] * 2, "row 1: 'response' is missing or not text; so are 2 of 2 rows"),
        ([{"prompt": None, "response": "a"}], "row 1: 'prompt' is missing or not text"),
        ([{"prompt": "No commas.", "response": "a"}] * 2, "row 2: this prompt is answered twice"),
        (
            [{"prompt": row["prompt"], "response": "a"} for row in PROMPTS] + [{"prompt": "other", "response": ""}],
            "1 responses are to prompts that are not asked",
        ),
    ],
)
def test_responses_that_do_not_fit_the_prompts_are_refused(tmp_path, rows, message):
    with pytest.raises(UserError, match=message.replace("(", "\\(")):
        scoring.read_responses(responses(tmp_path / "r.jsonl", rows), PROMPTS)


def test_missed_instructions_are_described_in_the_checkers_words():
    """In lm-eval's words; null stands for arguments of other checkers."""
    kinds = ["keywords:existence", "length_constraints:number_words", "startend:end_checker", "punctuation:no_comma"]
    arguments = [
        {"keywords": ["river", "stone"], "num_words": None},
        {"num_words": 300, "relation": "at least"},
        {"end_phrase": "Any | questions?"},
        {},
    ]
    doc = {"key": 1, "prompt": "p", "instruction_id_list": kinds, "kwargs": arguments}
    (sample,) = scoring.score([doc], ["A RIVER AND A STONE."])
    assert scoring.missed(sample) == [
        ("length_constraints:number_words", "Answer with at least 300 words."),
        (
            "startend:end_checker",
            "Finish your response with this exact phrase Any | questions?. No other words should follow this phrase.",
        ),
    ]
    single = doc | {"instruction_id_list": kinds[:1], "kwargs": arguments[:1]}
    assert scoring.missed(scoring.score([single], ["river, stone"])[0]) == []

import pytest

from tunetrail.data import contract


def row(instruction, output="done", input=""):
    return {"instruction": instruction, "input": input, "output": output}


def test_rows_are_counted_by_fault():
    raw = [row("a"), row("A "), row("a"), row("a", "other"), row("b"), row("c", " "), row("", "x"), row("b", input="more")]
    counts = contract.rows(raw, train=[row("a"), row("b")], validation=[row("c"), row(" B")])
    assert counts == {
        "raw": 8,
        "empty": 2,
        "duplicate": 1,
        "repeated_question": 3,
        "train": 2,
        "validation": 2,
        "train_validation_overlap": 1,
    }


def test_tokens_are_those_of_prompt_and_answer_and_longer_rows_are_counted():
    counts = contract.tokens([(10, 5), (20, 10), (30, 70)], sequence_len=30)
    assert (counts["total"], counts["supervised"], counts["longest"]) == (145, 85, 100)
    assert counts["mean"] == pytest.approx(145 / 3)
    assert (counts["over"], counts["over_share"]) == (1, pytest.approx(1 / 3))
    assert sum(counts["histogram"]["counts"]) == 3


PROMPT = "write a long letter to my friend about the cold river and the old bakery without any comma"


@pytest.mark.parametrize(
    ("training_row", "seen", "exact"),
    [
        (row(PROMPT.upper().replace(" ", "  ")), 1, 1),
        (row("Please " + PROMPT + ", thank you."), 1, 0),
        (row("Write a letter.", input=PROMPT), 1, 0),
        (row(" ".join(PROMPT.split()[:8])), 0, 0),  # 8 of 18 words: fewer than half
        (row(" ".join(PROMPT.split()[:10])), 1, 0),
        (row(" ".join(sorted(PROMPT.split()))), 0, 0),  # all of the words, but no n-gram
        (row("say it", output=PROMPT), 0, 0),  # an answer is not a question
    ],
)
def test_a_prompt_is_seen_if_more_than_half_of_it_is_in_one_row(training_row, seen, exact):
    overlap = contract.contamination(["another prompt of no interest here", PROMPT], [training_row, row("x")], ngram=8)
    assert (overlap["prompts"], overlap["seen"], overlap["exact"]) == (2, seen, exact)
    assert [example["prompt"] for example in overlap["examples"]] == [PROMPT] * seen


def test_two_rows_with_a_third_of_a_prompt_each_do_not_make_it_seen():
    words = PROMPT.split()
    rows = [row(" ".join(words[:8])), row(" ".join(words[8:16]))]
    assert contract.contamination([PROMPT], rows, ngram=8)["seen"] == 0


def test_a_prompt_shorter_than_an_n_gram_is_one_n_gram():
    overlap = contract.contamination(["say hello now"], [row("please say hello now")], ngram=8)
    assert (overlap["seen"], overlap["exact"]) == (1, 0)


def test_remarks_list_what_a_user_should_know():
    card = {
        "rows": contract.rows([row("a"), row("a"), row("", "b")], [row("a")], []),
        "tokens": contract.tokens([(10, 5)], 12),
        "contamination": contract.contamination(["a"], [row("a")], 8),
    }
    rules = {"expected_rows": 51760, "sequence_len": 12, "excess_length_strategy": "drop", "license": None}
    card["left_out"] = {"system": 2}
    text = "\n".join(contract.remarks(card, rules))
    for remark in (
        "15 tokens, 5 of them",
        "3 raw rows, where 51,760",
        "1 rows without",
        "1 rows repeat",
        "fields that are not read are left out: system in 2 rows",
        "(100.0%)",
        "1 of the 1",
    ):
        assert remark in text, remark


def test_the_notice_names_the_licences_and_warns_of_a_non_commercial_one():
    notice = contract.license_notice({"license": "cc-by-nc-4.0"}, {"license": "llama3"})
    assert notice.startswith("licences: data cc-by-nc-4.0, base model llama3")
    assert "forbids commercial use" in notice
    assert contract.license_notice({"license": None}, {"license": None}) == (
        "licences: data not stated, base model not stated"
    )


def test_a_prompt_that_occurs_twice_counts_twice():
    overlap = contract.contamination([PROMPT, PROMPT], [row(PROMPT)], ngram=8)
    assert (overlap["exact"], overlap["seen"]) == (2, 2)


def test_the_real_rows_contain_duplicates(shared):
    """14 of the 999 rows repeat an earlier one word for word (`sort FILE | uniq` leaves 985)."""
    from tunetrail.data import records

    rows = records.read_instructions(shared("alpaca/alpaca_en_demo.jsonl"))
    assert contract.rows(rows, rows, [])["duplicate"] == 14

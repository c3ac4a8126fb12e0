import pytest

from tunetrail.evaluation import health


def sample(answer, **counts):
    return {"filtered_resps": [answer], **counts}


SENTENCE = "It is said that the river was cold and very wide. "


@pytest.mark.parametrize("answer", ["The" * 8, "so the the the the the the the the end", "a, b; " * 9, SENTENCE * 3])
def test_a_repetitive_answer_loops(answer):
    assert health.loops(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "The" * 7,
        "1" + "0" * 15,
        "\n".join(["-" * 80] * 5),
        " " * 300,
        " ".join(map(str, range(500))),
        SENTENCE * 2,
        "machine learning " * 3,
    ],
)
def test_other_answers_do_not_loop(answer):
    assert not health.loops(answer)


def test_figures_are_shares_of_the_answers():
    answers = [
        sample("one two", tokens=4, ended=1),
        sample(" \n", tokens=0, ended=1),
        sample("no " * 60, tokens=40, ended=0),
        sample("x\n### Instruction:\ny", tokens=8, ended=1),
    ]
    figures = health.figures(answers, "### Instruction:")
    assert figures == {
        "ended": 0.75,
        "empty": 0.25,
        "says_nothing": 0.25,
        "unusable": 0.5,
        "looping": 0.25,
        "runs_on": 0.25,
        "mean_tokens": 13.0,
        "mean_words": (2 + 0 + 60 + 4) / 4,
    }


def test_tokens_and_ended_are_none_for_answers_from_elsewhere():
    figures = health.figures([sample("one two")], "###")
    assert (figures["ended"], figures["mean_tokens"]) == (None, None)


NOTHING = [
    "",
    " \n\t\n",
    "." * 256,
    "!?" * 9,
    "\u200b\u2060\ufeff",
    "😀🎉" * 40,
    "\n---\n" * 30,
    "\ufffd" * 9,
    "…—«»",
    "* * *",
]


@pytest.mark.parametrize("answer", NOTHING)
def test_an_answer_without_a_letter_or_digit_says_nothing(answer):
    assert health.figures([sample(answer)], "###")["says_nothing"] == 1
    assert health.figures([sample(answer)], "###")["looping"] == 0


@pytest.mark.parametrize("answer", ["a", "7", "...no...", "是的", "١", "Ja.", "```\nx\n```"])
def test_an_answer_with_a_letter_or_digit_of_any_script_says_something(answer):
    assert health.figures([sample(answer)], "###")["says_nothing"] == 0


@pytest.mark.parametrize("answer", ["a" * 256, "a " * 128, "<unk>" * 40, "### Instruction:\n" * 9, "Write a poem. " * 20])
def test_a_short_piece_many_times_in_a_row_loops(answer):
    figures = health.figures([sample(answer)], "###")
    assert (figures["says_nothing"], figures["looping"]) == (0, 1)


def shares(**other):
    return {"ended": 1.0, "empty": 0.0, "says_nothing": 0.0, "looping": 0.0, "runs_on": 0.0} | other


@pytest.mark.parametrize(
    ("tuned", "sentence"),
    [
        (shares(says_nothing=0.975), "97.5% say nothing (no letter or digit)"),
        (shares(says_nothing=0.5, empty=0.25), "50.0% say nothing (no letter or digit; 25.0% are empty)"),
        (shares(looping=0.11), "11.0% loop"),
        (shares(ended=0.85), "15.0% never end (the token cap cuts them)"),
        (
            shares(says_nothing=1.0, ended=0.0),
            "100.0% say nothing (no letter or digit), 100.0% never end (the token cap cuts",
        ),
        ({"ended": None, "empty": 0.4, "looping": 0.0}, "40.0% say nothing (no letter or digit; 40.0% are empty)"),
    ],
)
def test_more_than_a_tenth_of_unusable_answers_is_an_alert(tuned, sentence):
    (alert,) = health.alerts({"base": shares(), "tuned": tuned})
    assert alert.startswith(f"Of the answers of tuned {sentence}")


def test_a_tenth_is_no_alert_nor_are_figures_that_an_earlier_run_lacks():
    tenth = shares(ended=0.9, says_nothing=0.1, looping=0.1)
    assert health.alerts({"base": tenth, "tuned": {"ended": None, "empty": 0.1, "looping": 0.0}}) == []
    assert health.alerts({}) == []


def test_answers_that_are_unusable_in_different_ways_count_together():
    answers = [sample("...", ended=1, tokens=3), sample("one", ended=0, tokens=9), sample("a" * 99, ended=0, tokens=9)]
    usable = [sample("one two", ended=1, tokens=2)] * 22
    figures = health.figures(answers + usable, "###")
    assert (figures["says_nothing"], figures["looping"], figures["ended"]) == (0.04, 0.04, 0.92)
    assert figures["unusable"] == 0.12
    (alert,) = health.alerts({"tuned": figures})
    assert alert.startswith("Of the answers of tuned 4.0% say nothing (no letter or digit), 4.0% loop, 8.0% never end")
    assert health.alerts({"tuned": health.figures(answers + usable + usable[:6], "###")}) == []


def test_a_model_with_only_empty_answers_is_an_alert():
    alerts = health.alerts({"base": shares(empty=1.0, says_nothing=1.0, ended=0.0), "tuned": shares()})
    assert alerts == ["Every answer of base is empty: its scores mean nothing."]

import pytest

from tunetrail import health


def sample(answer, **told):
    return {"filtered_resps": [answer], **told}


SENTENCE = "It is said that the river was cold and very wide. "


@pytest.mark.parametrize("answer", ["The" * 8, "so the the the the the the the the end", "a, b; " * 9, SENTENCE * 3])
def test_an_answer_that_says_the_same_over_and_over_loops(answer):
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
def test_an_answer_that_does_not_is_no_loop(answer):
    assert not health.loops(answer)


def test_figures_are_shares_of_the_answers():
    answers = [
        sample("one two", tokens=4, ended=1),
        sample(" \n", tokens=0, ended=1),
        sample("no " * 60, tokens=40, ended=0),
        sample("x\n### Instruction:\ny", tokens=8, ended=1),
    ]
    found = health.figures(answers, "### Instruction:")
    assert found == {
        "ended": 0.75,
        "empty": 0.25,
        "looping": 0.25,
        "runs_on": 0.25,
        "mean_tokens": 13.0,
        "mean_words": (2 + 0 + 60 + 4) / 4,
    }


def test_what_only_a_generation_knows_is_not_made_up():
    found = health.figures([sample("one two")], "###")
    assert (found["ended"], found["mean_tokens"]) == (None, None)

import pytest

from tunetrail import health


def sample(answer, **told):
    return {"filtered_resps": [answer], **told}


@pytest.mark.parametrize(
    "answer",
    ["The" * 51, "\n" * 150, "one two three four five six " * 6, "It is said that the river was cold and very wide. " * 3],
)
def test_an_answer_that_repeats_a_run_of_fifty_characters_three_times_loops(answer):
    assert health.loops(answer)


@pytest.mark.parametrize(
    "answer",
    ["", "The" * 49, "-" * 80, " ".join(map(str, range(500))), "It is said that the river was cold and very wide. " * 2],
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

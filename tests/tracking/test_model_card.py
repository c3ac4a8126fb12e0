"""What the model card of a registered version says."""

import pytest

from tests.scored_runs import DOTS, VALUES, finish, metrics
from tunetrail.tracking import model_card, registry

pytestmark = pytest.mark.stage


def test_the_card_has_the_base_the_data_the_scores_and_the_licences(root):
    run = finish(root, metrics(10, 60), **{"dvc.experiment": "sly-fox", "git.commit": "c0ffee", "base.revision": "abc"})
    card = model_card.render("demo", run, VALUES | {"train": {"adapter": "lora"}}, registry.scores(root, run), adapter=True)
    assert "`org/name` at revision `abc`, tuned" in card
    assert "3,900 rows of `rows.jsonl`, an adapter (lora) on the base" in card
    assert (
        "**No commercial use.** Licences: data cc-by-nc-4.0, base model llama3. The data's licence forbids commercial use"
        in card
    )
    assert "| Prompt Strict | 10.0 [5.5, 17.4] | 60.0 [50.2, 69.1] | +50.0 [" in card
    assert "    Do {instruction} with {input}:" in card
    assert "7 of 100 evaluation prompts" in card
    for text in ("`c0ffee`", "`sly-fox`", run.id, "models:/demo@champion"):
        assert text in card
    free = finish(root, metrics(10, 60), **{"data.license": "apache-2.0"})
    assert "No commercial use" not in model_card.render("demo", free, VALUES, registry.scores(root, free), adapter=False)


def test_the_card_says_above_its_scores_that_answers_are_unusable(root):
    answers = DOTS | {"ended": 1.0, "says_nothing": 0.1}
    run = finish(root, metrics(10, 60) | {"health": {"base": answers, "tuned": DOTS}})
    card = model_card.render("demo", run, VALUES, registry.scores(root, run), adapter=False)
    assert card.index("**Of the answers of tuned 100.0% say nothing") < card.index("| accuracy in %")

import itertools
import random

import pytest

from tunetrail import UserError
from tunetrail.data import world

SEEDS = (0, 42)


def pairs_named(text: str) -> set[str]:
    return {topic for topic in world.TOPICS if f"the {topic}" in text.lower()}


@pytest.mark.parametrize("seed", SEEDS)
def test_no_pair_of_topic_and_instruction_type_is_in_both_training_and_evaluation(seed):
    """Read from the texts: the topics that a row names, and the instruction types whose phrases it has."""

    def kinds_asked(text: str) -> set[str]:
        return {
            kind for kind, (phrases, _) in world.TYPES.items() for phrase in phrases if phrase.split("{")[0].strip() in text
        }

    trained = set()
    for row in world.instruction_rows(seed, 4000):
        topics = pairs_named(row["instruction"] + " " + row["input"])
        kinds = kinds_asked(row["instruction"])
        assert len(topics) == 1
        assert kinds
        trained |= set(itertools.product(topics, kinds))
    evaluated = set()
    for row in world.evaluation_prompts(seed, 160):
        topics = pairs_named(row["prompt"])
        assert kinds_asked(row["prompt"]) == set(row["instruction_id_list"])
        evaluated |= set(itertools.product(topics, row["instruction_id_list"]))
    assert len(trained) > 200
    assert len(evaluated) > 60
    assert not trained & evaluated


@pytest.mark.parametrize("seed", SEEDS)
def test_every_reference_answer_is_followed_by_lm_evals_own_checkers(seed):
    """The generator's own answers pass both the strict and the loose check."""
    from tunetrail.evaluation.ifeval import checkers

    rng = random.Random(seed)
    failed = dict.fromkeys(world.TYPES, 0)
    for kinds in [(kind,) for kind in world.TYPES] + list(world.PAIRS):
        for topic in world.TOPICS:
            request, constraints, kwargs, answer = world.task(topic, kinds, rng)
            prompt = f"{request.format(topic=topic)} {constraints}"
            doc = {"key": 0, "prompt": prompt, "instruction_id_list": list(kinds), "kwargs": kwargs}
            scored = checkers.score(doc, answer)
            for kind, strict, loose in zip(
                kinds, scored["inst_level_strict_acc"], scored["inst_level_loose_acc"], strict=True
            ):
                failed[kind] += not strict
                assert loose or not strict
    # The checker of capitals also asks langdetect for the language, which takes some English in capitals for another.
    assert failed.pop("change_case:english_capital") <= 3
    assert set(failed.values()) == {0}


def test_there_are_at_least_eight_instruction_types_and_each_is_evaluated():
    prompts = list(world.evaluation_prompts(42, 160))
    kinds = {kind for prompt in prompts for kind in prompt["instruction_id_list"]}
    assert kinds == set(world.TYPES)
    assert len(kinds) >= 8
    assert len({prompt["prompt"] for prompt in prompts}) == len(prompts) >= 120
    assert any(len(prompt["instruction_id_list"]) == 2 for prompt in prompts)


def test_asking_for_more_prompts_than_exist_is_an_error(monkeypatch):
    monkeypatch.setattr(world, "TOPICS", dict(list(world.TOPICS.items())[:12]))  # the whole world takes long to exhaust
    for name in ("REQUESTS", "KEYWORDS", "END_PHRASES"):
        monkeypatch.setattr(world, name, getattr(world, name)[:1])
    with pytest.raises(UserError, match=r"prepare\.generate\.prompts=300: the world has \d+ different ones"):
        list(world.evaluation_prompts(42, 300))


def test_the_base_models_text_contains_no_instruction():
    requests = [request.split("{")[0] for request in world.REQUESTS]
    phrases = [phrase.split("{")[0] for phrases, _ in world.TYPES.values() for phrase in phrases]
    for row in world.plain_text(42, 2000):
        assert not any(part in row["text"] for part in requests + phrases)


def test_the_same_seed_gives_the_same_world_and_another_seed_another():
    def made(seed):
        return (
            list(world.instruction_rows(seed, 50)),
            list(world.plain_text(seed, 50)),
            list(world.evaluation_prompts(seed, 50)),
        )

    assert made(1) == made(1)
    assert made(1) != made(2)

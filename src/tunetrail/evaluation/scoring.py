"""IFEval prompts and answers -> samples, scored by lm-eval's own checkers in the shape that lm-eval writes them.

For answers that come from elsewhere, and for answers cut at a stop string. What a model of ours answers is scored in
lm-eval's own run, by the same checkers.
"""

from pathlib import Path
from typing import Any

from tunetrail import UserError
from tunetrail.data import records
from tunetrail.evaluation import results

Sample = dict[str, Any]


def score(prompts: list[records.Row], answers: list[str]) -> list[Sample]:
    """One sample a prompt, in the order of the prompts. Importing the checkers takes seconds.

    Raises:
        UserError: a prompt asks for what lm-eval's checkers do not know, or in a way that they do not take.
    """
    from tunetrail.evaluation.ifeval import checkers

    samples = []
    for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        try:
            scores = checkers.score(prompt, answer)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"prompt {prompt['key']} ({prompt['prompt'][:60]!r}): lm-eval's checkers do not take its instructions "
                f"{prompt['instruction_id_list']} with {prompt['kwargs']} ({error}). Fix or remove the prompt."
            ) from None
        samples.append({"doc_id": number, "doc": prompt, "filtered_resps": [answer], **scores})
    return samples


def missed(sample: Sample) -> list[tuple[str, str]]:
    """The instructions that the answer does not follow (strict), each with what its checker wants.

    Importing the checkers takes seconds; it is left out where nothing is missed.
    """
    followed = sample["inst_level_strict_acc"]
    if all(followed):
        return []
    from tunetrail.evaluation.ifeval import checkers

    asked = zip(sample["doc"]["instruction_id_list"], checkers.wanted(sample["doc"]), followed, strict=True)
    return [(kind, wanted) for kind, wanted, met in asked if not met]


def stopped(samples: list[Sample], stop: str) -> list[Sample]:
    """The same answers as the stop string `stop` would have left them, scored again where that cuts them.

    Greedy decoding makes the cut answer the one that generation with that stop string gives.
    """
    cut = [results.answer(sample).partition(stop)[0] for sample in samples]
    places = [place for place, sample in enumerate(samples) if stop in results.answer(sample)]
    if not places:
        return samples
    again = score([samples[place]["doc"] for place in places], [cut[place] for place in places])
    scored = {place: sample | {"doc_id": samples[place]["doc_id"]} for place, sample in zip(places, again, strict=True)}
    return [scored.get(place, sample) for place, sample in enumerate(samples)]


def read_responses(path: Path, prompts: list[records.Row]) -> list[str | None]:
    """The responses of a file of {"prompt", "response"} rows, in the order of `prompts`; None where one is null.

    Raises:
        UserError: as `records.read`, or a row of another shape, a prompt answered twice, not answered, or not asked.
    """
    given: dict[str, str | None] = {}
    rows = records.read(path)
    for number, row in enumerate(rows, 1):
        for name in ("prompt", "response"):
            if not _is_text(row, name):
                count = sum(not _is_text(other, name) for other in rows)
                raise UserError(
                    f"{path}, row {number}: '{name}' is missing or not text; so {'is' if count == 1 else 'are'} {count:,} "
                    f"of {len(rows):,} rows. Each row has a prompt and a response; null is an empty response."
                )
        if records.has_half_character(row["prompt"] + (row["response"] or "")):
            raise UserError(f"{path}, row {number}: it has half a character (a lone surrogate). Fix or remove the row.")
        if row["prompt"] in given:
            raise UserError(f"{path}, row {number}: this prompt is answered twice: {row['prompt'][:60]!r}. Keep one.")
        given[row["prompt"]] = row["response"]
    asked = [row["prompt"] for row in prompts]
    missing, foreign = [prompt for prompt in asked if prompt not in given], set(given) - set(asked)
    if missing:
        raise UserError(
            f"{path}: {len(missing)} of the {len(asked)} prompts have no response, the first of them {missing[0][:60]!r}. "
            "Answer each prompt, word for word as the prompt file has it."
        )
    if foreign:
        raise UserError(
            f"{path}: {len(foreign)} responses are to prompts that are not asked. Give the file of their prompts."
        )
    return [given[prompt] for prompt in asked]


def _is_text(row: records.Row, name: str) -> bool:
    """Whether a row has this field, and text in it; a response may be null."""
    return isinstance(row.get(name), str) or (name == "response" and name in row and row[name] is None)

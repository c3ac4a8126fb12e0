"""IFEval prompts and answers -> samples as lm-eval writes them, scored by lm-eval's own checkers.

For answers from elsewhere, and for answers cut at a stop string. The answers of our models are scored within lm-eval's run,
by the same checkers.
"""

from pathlib import Path
from typing import Any

from tunetrail import UserError
from tunetrail.data import records
from tunetrail.evaluation import results

Sample = dict[str, Any]


def score(prompts: list[records.Row], answers: list[str]) -> list[Sample]:
    """Return a sample for each prompt, in order. Importing the checkers takes seconds.

    Raises:
        UserError: the checkers do not know an instruction of a prompt, or do not take its arguments.
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
    """Return the instructions that the answer does not follow (strict), each with what its checker wants.

    Imports the checkers, which takes seconds, only if there are any.
    """
    followed = sample["inst_level_strict_acc"]
    if all(followed):
        return []
    from tunetrail.evaluation.ifeval import checkers

    asked = zip(sample["doc"]["instruction_id_list"], checkers.wanted(sample["doc"]), followed, strict=True)
    return [(kind, wanted) for kind, wanted, is_followed in asked if not is_followed]


def stopped(samples: list[Sample], stop: str) -> list[Sample]:
    """Return the samples with each answer cut at the string `stop`, and scored again if that shortens it.

    With greedy decoding these are the answers that generation with that stop string would give.
    """
    longer = [sample for sample in samples if stop in results.answer(sample)]
    if not longer:
        return samples
    answers = [results.answer(sample).partition(stop)[0] for sample in longer]
    rescored = score([sample["doc"] for sample in longer], answers)
    by_id = {old["doc_id"]: new | {"doc_id": old["doc_id"]} for old, new in zip(longer, rescored, strict=True)}
    return [by_id.get(sample["doc_id"], sample) for sample in samples]


def read_responses(path: Path, prompts: list[records.Row]) -> list[str | None]:
    """Return the responses of a file of {"prompt", "response"} rows, in the order of `prompts`; a response may be null.

    Raises:
        UserError: as `records.read`; or a row has another form, or a prompt has two responses, none, or was not asked.
    """
    response_to: dict[str, str | None] = {}
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
        if row["prompt"] in response_to:
            raise UserError(f"{path}, row {number}: this prompt is answered twice: {row['prompt'][:60]!r}. Keep one.")
        response_to[row["prompt"]] = row["response"]
    asked = [row["prompt"] for row in prompts]
    missing = [prompt for prompt in asked if prompt not in response_to]
    if missing:
        raise UserError(
            f"{path}: {len(missing)} of the {len(asked)} prompts have no response, the first of them {missing[0][:60]!r}. "
            "Answer each prompt, word for word as the prompt file has it."
        )
    if not_asked := set(response_to) - set(asked):
        raise UserError(
            f"{path}: {len(not_asked)} responses are to prompts that are not asked. Give the file of their prompts."
        )
    return [response_to[prompt] for prompt in asked]


def _is_text(row: records.Row, name: str) -> bool:
    """Return whether a row has text in this field; a response may also be null."""
    return isinstance(row.get(name), str) or (name == "response" and name in row and row[name] is None)

"""lm-eval's results file and samples -> the four IFEval scores with 95 % intervals, their differences, scores by type.

A sample is lm-eval's own: the prompt (`doc`), the answer (`filtered_resps`), and for each score which instructions were
followed. The verdicts are the same without the texts: all that a later comparison of two runs needs.
"""

import hashlib
import json
from collections import defaultdict
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tunetrail import UserError
from tunetrail.evaluation import significance
from tunetrail.evaluation.significance import Score

# Our name for a score: (lm-eval's name, the usual label).
SCORES = {
    "prompt_strict": ("prompt_level_strict_acc", "Prompt Strict"),
    "prompt_loose": ("prompt_level_loose_acc", "Prompt Loose"),
    "inst_strict": ("inst_level_strict_acc", "Inst Strict"),
    "inst_loose": ("inst_level_loose_acc", "Inst Loose"),
}
PUBLISHED = (541, 834)  # prompts and instructions of the published IFEval (arXiv:2311.07911, github.com/google-research)
# Arguments of lm-eval that name the model; two evaluations are compared on all others.
_THE_MODEL = {"pretrained", "peft", "revision"}
# By score: for each prompt 0 or 1 at prompt level, a list of them at instruction level.
Verdicts = dict[str, list[Any]]


@dataclass(frozen=True)
class Results:
    """The results of one evaluation; samples in the order of the prompts.

    `asked` is everything that decides an evaluation except the model, and `digest` its hash: evaluations with equal digests
    can be compared.
    """

    task: str
    scores: dict[str, Score]
    prompts: int
    instructions: int
    samples: list[dict[str, Any]]
    digest: str = ""
    asked: dict[str, Any] = field(default_factory=dict)


def read(folder: Path, resamples: int, seed: int) -> Results:
    """Read the only evaluation below `folder`; `resamples` and `seed` are the bootstrap's.

    Raises:
        ValueError: not exactly one results file, or its scores are not those of its samples; or as `gather`.
    """
    (file,) = folder.glob("*/results_*.json")
    written = json.loads(file.read_text(encoding="utf-8"))
    ((task, reported),) = written["results"].items()
    (samples_file,) = folder.glob(f"*/samples_{task}_*.jsonl")
    samples = [json.loads(line) for line in samples_file.read_text(encoding="utf-8").split("\n") if line]
    samples.sort(key=lambda sample: sample["doc_id"])
    settings = asked(written, samples)
    results = replace(gather(task, samples, resamples, seed, digest(settings)), asked=settings)
    for name, (key, _) in SCORES.items():
        if abs(results.scores[name].value - reported[f"{key},none"]) > 1e-9:
            raise ValueError(f"{file}: {key} is not the score of its samples ({results.scores[name].value})")
    return results


def gather(task: str, samples: list[dict[str, Any]], resamples: int, seed: int, evaluation: str = "") -> Results:
    """Return the scores of `samples` with their intervals.

    Raises:
        ValueError: a loose verdict is below its strict one; by lm-eval's definition the strict response is one of the loose
            ones.
    """
    scores = {
        name: significance.wilson(_followed(samples, name))
        if name.startswith("prompt")
        else significance.bootstrap(_followed(samples, name), resamples, seed)
        for name in SCORES
    }
    for level in ("prompt", "inst"):
        pairs = zip(_followed(samples, f"{level}_strict"), _followed(samples, f"{level}_loose"), strict=True)
        for number, (strict, loose) in enumerate(pairs):
            if (loose < strict).any():
                raise ValueError(f"{task}: {level} loose is below {level} strict at prompt {number}")
    instructions = sum(len(sample["doc"]["instruction_id_list"]) for sample in samples)
    return Results(task, scores, len(samples), instructions, samples, evaluation)


def asked(written: dict[str, Any], samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Return everything that decides an evaluation except the model; evaluations that differ in it cannot be compared.

    These are the backend and its arguments (add_bos_token, attention), dtype, batch size, device, seeds, the longest
    context, the task with its version, template and generation settings, the tools' versions, and the prompts (lm-eval's
    hash of each row, and of its prompt as the model reads it). Not the number of processes, which lm-eval does not record.
    """
    config, ((task, settings),) = written["config"], written["configs"].items()
    return {
        "model": config["model"],
        "model_args": {key: value for key, value in config["model_args"].items() if key not in _THE_MODEL},
        **{key: config[key] for key in ("model_dtype", "batch_size", "batch_sizes", "device")},
        **{key: config[key] for key in ("random_seed", "numpy_seed", "torch_seed")},
        **{key: written[key] for key in ("lm_eval_version", "transformers_version", "max_length")},
        "task": task,
        "version": written["versions"][task],
        "doc_to_text": settings["doc_to_text"],
        "generation_kwargs": settings["generation_kwargs"],
        "prompts": [(sample["doc_hash"], sample["prompt_hash"]) for sample in samples],
    }


def digest(asked: dict[str, Any]) -> str:
    """Return the first 12 hexadecimal digits of the SHA-256 over `asked`."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()[:12]


def compare(base: Results, tuned: Results, resamples: int, seed: int) -> dict[str, Any]:
    """Return the scores of both and their paired differences: shares between 0 and 1, with 95 % intervals.

    McNemar's exact p-value is given at prompt level only: the instructions of a prompt are not independent.

    Raises:
        UserError: they were not evaluated in the same way.
    """
    if base.digest != tuned.digest:
        raise UserError(
            f"{base.task}: base and tuned were evaluated differently ({base.digest}, {tuned.digest}), perhaps with another "
            "version of a tool. Evaluate both again: dvc repro --force evaluate_base evaluate_tuned"
        )
    delta = differences(verdicts(base.samples), verdicts(tuned.samples), resamples, seed)
    return scores({"base": base, "tuned": tuned}) | {"delta": delta}


def differences(base: Verdicts, tuned: Verdicts, resamples: int, seed: int) -> dict[str, dict[str, float]]:
    """Return `tuned` minus `base` for each score, paired by prompt, with McNemar's p-value at prompt level."""
    delta: dict[str, dict[str, float]] = {}
    for name in SCORES:
        pair = _arrays(base[name]), _arrays(tuned[name])
        if name.startswith("prompt"):
            delta[name] = asdict(significance.newcombe(*pair)) | {"p": significance.mcnemar(*pair)}
        else:
            delta[name] = asdict(significance.paired_bootstrap(*pair, resamples, seed))
    return delta


def verdicts(samples: list[dict[str, Any]]) -> Verdicts:
    """Return which prompts and instructions were followed, as JSON."""

    def numbers(followed: Any) -> Any:
        return list(map(int, followed)) if isinstance(followed, list) else int(followed)

    return {name: [numbers(sample[key]) for sample in samples] for name, (key, _) in SCORES.items()}


def comparable(by_model: dict[str, Results]) -> dict[str, Any]:
    """Return the content of verdicts.json, by which runs are compared: `asked` and each model's verdicts."""
    first = next(iter(by_model.values()))
    settings = {"evaluation_digest": first.digest, "asked": first.asked}
    return settings | {model: verdicts(results.samples) for model, results in by_model.items()}


def recorded(text: str | None) -> dict[str, Any] | None:
    """Parse a run's metrics.json; None if it has none, or one of the first versions, which had no intervals."""
    metrics = json.loads(text) if text else {}
    return metrics if "evaluation_digest" in metrics else None


def listed(metrics: dict[str, Any]) -> dict[str, float]:
    """Return the content of scores.json, for `dvc exp show`: scores, differences and last losses, named as in MLflow."""
    shares = {
        f"ifeval/{model}/{name}": score["value"]
        for model, scores in metrics["ifeval"].items()
        for name, score in scores.items()
    }
    losses = {"train/loss": metrics["train"]["loss"], "validation/loss": metrics["train"]["validation_loss"]}
    return {name: round(value, 4) for name, value in (shares | losses).items() if value is not None}


def scores(by_model: dict[str, Results]) -> dict[str, Any]:
    """Return each model's scores as metrics.json has them."""
    return {model: {name: asdict(score) for name, score in results.scores.items()} for model, results in by_model.items()}


def by_type(by_model: dict[str, Results]) -> list[dict[str, Any]]:
    """Return for each instruction type, sorted, how often it was asked, and the shares that each model followed."""
    followed: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for model, results in by_model.items():
        for sample in results.samples:
            for level in ("strict", "loose"):
                kinds = sample["doc"]["instruction_id_list"]
                for kind, verdict in zip(kinds, sample[f"inst_level_{level}_acc"], strict=True):
                    followed[kind][f"{model}_{level}"].append(verdict)
    rows = []
    for kind, columns in sorted(followed.items()):
        shares = {name: float(np.mean(column)) for name, column in columns.items()}
        rows.append({"type": kind, "n": len(next(iter(columns.values())))} | shares)
    return rows


def size(results: Results) -> str:
    """Return the numbers of prompts and instructions as text, and whether they are the published benchmark's."""
    text = f"{results.prompts} prompts, {results.instructions} instructions"
    if results.task != "ifeval" or (results.prompts, results.instructions) == PUBLISHED:
        return text
    return f"{text} (the published IFEval has {PUBLISHED[0]} and {PUBLISHED[1]})"


def answer(sample: dict[str, Any]) -> str:
    """Return the model's answer as it was scored."""
    return sample["filtered_resps"][0]


def _followed(samples: list[dict[str, Any]], name: str) -> significance.Followed:
    return _arrays([sample[SCORES[name][0]] for sample in samples])


def _arrays(verdicts: list[Any]) -> significance.Followed:
    return [np.atleast_1d(verdict).astype(int) for verdict in verdicts]

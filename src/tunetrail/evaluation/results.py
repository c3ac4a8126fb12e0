"""lm-eval's results file and samples -> the four IFEval scores with 95 % intervals, their differences, and each type's.

A sample is lm-eval's own: the prompt (`doc`), the answer (`filtered_resps`), and for each score what was followed. What was
followed, without the texts, are the verdicts: all that a later comparison of two runs needs.
"""

import hashlib
import json
from collections import defaultdict
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tunetrail import UserError
from tunetrail.evaluation import intervals
from tunetrail.evaluation.intervals import Score

# Our name for a score: (lm-eval's name, the label that people know it by).
SCORES = {
    "prompt_strict": ("prompt_level_strict_acc", "Prompt Strict"),
    "prompt_loose": ("prompt_level_loose_acc", "Prompt Loose"),
    "inst_strict": ("inst_level_strict_acc", "Inst Strict"),
    "inst_loose": ("inst_level_loose_acc", "Inst Loose"),
}
PUBLISHED = (541, 834)  # prompts and instructions of the published IFEval (arXiv:2311.07911, github.com/google-research)
# What lm-eval is told of the model: two models are compared on all but these.
_THE_MODEL = {"pretrained", "peft", "revision"}
# A score's name: for each prompt 0 or 1 at prompt level, a list of them at instruction level.
Verdicts = dict[str, list[Any]]


@dataclass(frozen=True)
class Results:
    """What one evaluation found; the samples stand in the order of the prompts.

    `digest` tells evaluations apart, `asked` is what it is taken over (see `asked`).
    """

    task: str
    scores: dict[str, Score]
    prompts: int
    instructions: int
    samples: list[dict[str, Any]]
    digest: str = ""
    asked: dict[str, Any] = field(default_factory=dict)


def read(folder: Path, resamples: int, seed: int) -> Results:
    """Read the one evaluation below `folder`; `resamples` and `seed` are the bootstrap's.

    Raises:
        ValueError: not exactly one results file, or scores that its samples do not give; or as `gather`.
    """
    (file,) = folder.glob("*/results_*.json")
    written = json.loads(file.read_text(encoding="utf-8"))
    ((task, reported),) = written["results"].items()
    (samples_file,) = folder.glob(f"*/samples_{task}_*.jsonl")
    samples = [json.loads(line) for line in samples_file.read_text(encoding="utf-8").split("\n") if line]
    samples.sort(key=lambda sample: sample["doc_id"])
    how = asked(written, samples)
    found = replace(gather(task, samples, resamples, seed, digest(how)), asked=how)
    for name, (key, _) in SCORES.items():
        if abs(found.scores[name].value - reported[f"{key},none"]) > 1e-9:
            raise ValueError(f"{file}: {key} is not what its samples give ({found.scores[name].value})")
    return found


def gather(task: str, samples: list[dict[str, Any]], resamples: int, seed: int, evaluation: str = "") -> Results:
    """The scores of `samples` with their intervals.

    Raises:
        ValueError: a loose verdict below its strict one, which lm-eval's definition (the strict response is among the loose
            ones) excludes.
    """
    scores = {
        name: intervals.wilson(_followed(samples, name))
        if name.startswith("prompt")
        else intervals.bootstrap(_followed(samples, name), resamples, seed)
        for name in SCORES
    }
    for level in ("prompt", "inst"):
        pairs = zip(_followed(samples, f"{level}_strict"), _followed(samples, f"{level}_loose"), strict=True)
        for place, (strict, loose) in enumerate(pairs):
            if (loose < strict).any():
                raise ValueError(f"{task}: {level} loose is below {level} strict at prompt {place}")
    instructions = sum(len(sample["doc"]["instruction_id_list"]) for sample in samples)
    return Results(task, scores, len(samples), instructions, samples, evaluation)


def asked(written: dict[str, Any], samples: list[dict[str, Any]]) -> dict[str, Any]:
    """All that an evaluation is but the model: runs in which it differs do not compare.

    That is the backend and its arguments (add_bos_token, attention), the dtype, the batch size, the device, the seeds, the
    longest context, the task with its version, template and generation, the tools' versions, and the prompts with what they
    ask for (`prompts`: lm-eval's hash of each row and of its prompt as the model reads it). Not among them, since lm-eval
    does not say it: over how many processes the prompts were spread.
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
    """12 hexadecimal digits over how was asked."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()[:12]


def compare(base: Results, tuned: Results, resamples: int, seed: int) -> dict[str, Any]:
    """The scores of both, and their paired difference: shares between 0 and 1, with 95 % intervals.

    At prompt level with McNemar's exact p-value, at instruction level without (the instructions of a prompt are not
    independent).

    Raises:
        UserError: they were not asked the same in the same way.
    """
    if base.digest != tuned.digest:
        raise UserError(
            f"{base.task}: base and tuned were not evaluated alike ({base.digest}, {tuned.digest}); a tool may have another "
            "version by now. Evaluate both again: dvc repro --force evaluate_base evaluate_tuned"
        )
    delta = differences(verdicts(base.samples), verdicts(tuned.samples), resamples, seed)
    return scores({"base": base, "tuned": tuned}) | {"delta": delta}


def differences(was: Verdicts, now: Verdicts, resamples: int, seed: int) -> dict[str, dict[str, float]]:
    """`now` less `was` for each score, paired by prompt, with McNemar's p at prompt level: as `compare` returns `delta`."""
    delta: dict[str, dict[str, float]] = {}
    for name in SCORES:
        before, after = _arrays(was[name]), _arrays(now[name])
        if name.startswith("prompt"):
            delta[name] = asdict(intervals.newcombe(before, after)) | {"p": intervals.mcnemar(before, after)}
        else:
            delta[name] = asdict(intervals.paired_bootstrap(before, after, resamples, seed))
    return delta


def verdicts(samples: list[dict[str, Any]]) -> Verdicts:
    """What was followed, as JSON holds it."""
    return {
        name: [list(map(int, met)) if isinstance(met, list) else int(met) for met in (sample[key] for sample in samples)]
        for name, (key, _) in SCORES.items()
    }


def comparable(found: dict[str, Results]) -> dict[str, Any]:
    """What verdicts.json holds: how was asked, and each model's verdicts. Two runs' are compared without their models."""
    one = next(iter(found.values()))
    return {"evaluation_digest": one.digest, "asked": one.asked} | {
        model: verdicts(of.samples) for model, of in found.items()
    }


def recorded(text: str | None) -> dict[str, Any] | None:
    """A run's metrics.json; None where it has none, or one of the first versions, without intervals."""
    metrics = json.loads(text) if text else {}
    return metrics if "evaluation_digest" in metrics else None


def listed(metrics: dict[str, Any]) -> dict[str, float]:
    """What scores.json holds, for `dvc exp show`: scores, differences and the last losses, by the names MLflow has."""
    shares = {f"ifeval/{model}/{name}": one["value"] for model, of in metrics["ifeval"].items() for name, one in of.items()}
    losses = {"train/loss": metrics["train"]["loss"], "validation/loss": metrics["train"]["validation_loss"]}
    return {name: round(value, 4) for name, value in (shares | losses).items() if value is not None}


def scores(found: dict[str, Results]) -> dict[str, Any]:
    """What metrics.json says of each model's scores."""
    return {model: {name: asdict(score) for name, score in of.scores.items()} for model, of in found.items()}


def by_type(found: dict[str, Results]) -> list[dict[str, Any]]:
    """For each instruction type, in the order of their names: how often it was asked, and each model's shares followed."""
    followed: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for model, of in found.items():
        for sample in of.samples:
            for level in ("strict", "loose"):
                kinds = sample["doc"]["instruction_id_list"]
                for kind, met in zip(kinds, sample[f"inst_level_{level}_acc"], strict=True):
                    followed[kind][f"{model}_{level}"].append(met)
    return [
        {"type": kind, "n": len(next(iter(met.values()))), **{name: float(np.mean(one)) for name, one in met.items()}}
        for kind, met in sorted(followed.items())
    ]


def size(found: Results) -> str:
    """How much was asked, and whether that is the published benchmark."""
    told = f"{found.prompts} prompts, {found.instructions} instructions"
    if found.task != "ifeval" or (found.prompts, found.instructions) == PUBLISHED:
        return told
    return f"{told} (the published IFEval has {PUBLISHED[0]} and {PUBLISHED[1]})"


def answer(sample: dict[str, Any]) -> str:
    """What the model wrote, as it was scored."""
    return sample["filtered_resps"][0]


def _followed(samples: list[dict[str, Any]], name: str) -> intervals.Followed:
    return _arrays([sample[SCORES[name][0]] for sample in samples])


def _arrays(met: list[Any]) -> intervals.Followed:
    return [np.atleast_1d(one).astype(int) for one in met]

"""lm-eval's results file and samples -> the four IFEval scores with 95 % intervals, and the answers themselves.

Prompt level: Wilson's score interval (Wilson 1927, doi:10.1080/01621459.1927.10502953). Instruction level: the instructions
of one prompt are not independent, so prompts are resampled whole (cluster bootstrap, percentile interval; Davison and
Hinkley 1997, section 3.8).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

# Our name for a score: (lm-eval's name, the label that people know it by).
SCORES = {
    "prompt_strict": ("prompt_level_strict_acc", "Prompt Strict"),
    "prompt_loose": ("prompt_level_loose_acc", "Prompt Loose"),
    "inst_strict": ("inst_level_strict_acc", "Inst Strict"),
    "inst_loose": ("inst_level_loose_acc", "Inst Loose"),
}
Z95 = 1.959963984540054  # the standard normal's 97.5 % point


@dataclass(frozen=True)
class Score:
    """A share between 0 and 1, and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Results:
    """What one evaluation found; `samples` are lm-eval's own, in the order of the prompts."""

    task: str
    scores: dict[str, Score]
    prompts: int
    instructions: int
    samples: list[dict[str, Any]]


def read(folder: Path, resamples: int, seed: int) -> Results:
    """Read the one evaluation below `folder`; `resamples` and `seed` are the bootstrap's.

    Raises:
        ValueError: not exactly one results file, scores that its samples do not give, or a loose score below its strict
            one, which lm-eval's definition (the strict response is among the loose ones) excludes.
    """
    (file,) = folder.glob("*/results_*.json")
    ((task, reported),) = json.loads(file.read_text())["results"].items()
    (samples_file,) = folder.glob(f"*/samples_{task}_*.jsonl")
    samples = [json.loads(line) for line in samples_file.read_text().split("\n") if line]
    samples.sort(key=lambda sample: sample["doc_id"])
    scores = {}
    for name, (key, _) in SCORES.items():
        followed = [np.atleast_1d(sample[key]).astype(int) for sample in samples]
        scores[name] = wilson(followed) if name.startswith("prompt") else bootstrap(followed, resamples, seed)
        if abs(scores[name].value - reported[f"{key},none"]) > 1e-9:
            raise ValueError(f"{file}: {key} is not what its samples give ({scores[name].value})")
    for level in ("prompt", "inst"):
        if scores[f"{level}_loose"].value < scores[f"{level}_strict"].value:
            raise ValueError(f"{file}: {level} loose is below {level} strict")
    instructions = sum(len(sample["doc"]["instruction_id_list"]) for sample in samples)
    return Results(task, scores, len(samples), instructions, samples)


def compare(base: Results, tuned: Results) -> dict[str, Any]:
    """What metrics.json says of the scores: both models' and their difference, as shares between 0 and 1."""
    return {
        "task": base.task,
        "prompts": base.prompts,
        "instructions": base.instructions,
        "ifeval": {
            "base": {name: asdict(score) for name, score in base.scores.items()},
            "tuned": {name: asdict(score) for name, score in tuned.scores.items()},
            "delta": {name: tuned.scores[name].value - base.scores[name].value for name in SCORES},
        },
    }


def wilson(followed: list[np.ndarray]) -> Score:
    """Wilson's interval for the share of prompts followed; one 0 or 1 a prompt."""
    n = len(followed)
    share = float(np.sum(followed)) / n
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    # At 0 and 1 one end is the share itself, but for the last bit of a float.
    return Score(share, max(0.0, min(share, float(centre - half))), min(1.0, max(share, float(centre + half))))


def bootstrap(followed: list[np.ndarray], resamples: int, seed: int) -> Score:
    """The percentile interval for the share of instructions followed; one array of 0 and 1 a prompt.

    Where all or none were followed, resampling shows no spread; then it is Wilson's interval with a prompt as the unit.
    """
    sums, counts = np.array([f.sum() for f in followed]), np.array([f.size for f in followed])
    if sums.sum() in (0, counts.sum()):
        return wilson([np.array([int(sums.sum() > 0)])] * len(followed))
    drawn = np.random.default_rng(seed).integers(len(followed), size=(resamples, len(followed)))
    shares = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return Score(float(sums.sum() / counts.sum()), float(low), float(high))


def answer(sample: dict[str, Any]) -> str:
    """What the model wrote, as it was scored."""
    return sample["filtered_resps"][0]

"""The outputs of stages and tools in a checkout, written in their real form without running them."""

import json

import yaml

from tunetrail.config import params
from tunetrail.data import contract
from tunetrail.evaluation import results
from tunetrail.report import metrics
from tunetrail.training import history

KINDS = ["punctuation:no_comma", "startend:quotation", "change_case:english_capital"]
KEYS = [key for key, _ in results.SCORES.values()]


def evaluation(folder, followed, loose=None):
    """Write what lm-eval leaves in `folder` for prompts whose instructions were followed as `followed` says."""
    loose = loose or followed
    inside = folder / "outputs__model"
    inside.mkdir(parents=True)
    lines = []
    totals = {key: [] for key in KEYS}
    for number, (strict, lenient) in enumerate(zip(followed, loose, strict=True)):
        values = dict(zip(KEYS, (all(strict), all(lenient), strict, lenient), strict=True))
        kinds = KINDS[: len(strict)]
        doc = {"key": number, "prompt": f"prompt {number}", "instruction_id_list": kinds, "kwargs": [{}] * len(kinds)}
        more = {
            "doc_hash": f"of doc {number}",
            "prompt_hash": f"of prompt {number}",
            "tokens": 10 * number,
            "ended": int(number != 1),
        }
        lines.append({"doc_id": number, "doc": doc, "filtered_resps": [f"answer\u2028 {number}"], **more, **values})
        for key, value in values.items():
            totals[key] += value if isinstance(value, list) else [value]
    reported = {f"{key},none": sum(values) / len(values) for key, values in totals.items()}
    seeds = dict.fromkeys(("random_seed", "numpy_seed", "torch_seed"), 1)
    written = {
        "results": {"ifeval": {"alias": "ifeval", **reported}},
        "lm_eval_version": "0.4.11",
        "transformers_version": "5",
        "max_length": 64,
        "config": {
            "model": "hf",
            "model_dtype": "torch.float32",
            "batch_size": 8,
            "batch_sizes": [],
            "device": "cpu",
            **seeds,
        }
        | {"model_args": {"pretrained": str(folder)}},
        "configs": {"ifeval": {"doc_to_text": "{{prompt}}", "generation_kwargs": {"max_gen_toks": 40}}},
        "versions": {"ifeval": 4.0},
    }
    (inside / "results_2026.json").write_text(json.dumps(written))
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in reversed(lines))
    (inside / "samples_ifeval_2026.jsonl").write_text(text)
    return folder


def left_by_a_run(folder):
    """Write the files that a run of three prompts leaves in `folder`."""
    evaluation(folder / "eval_results" / "base", [[False], [False, True], [False]])
    evaluation(folder / "eval_results" / "tuned", [[True], [True, True], [False]])
    steps = folder / "outputs" / "train" / "history.jsonl"
    history.append(steps, 0, 1.0, {"eval_loss": 3})
    history.append(steps, 1, 2.0, {"loss": 2, "learning_rate": 1e-3})
    history.append(steps, 2, 3.0, {"loss": 1, "learning_rate": 5e-4})
    (folder / "outputs" / "train" / "versions.json").write_text('{"axolotl": "0.1"}')
    (folder / "outputs" / "base").mkdir()
    base = {"base_model": "outputs/base/model", "revision": None, "license": None, "sha256": "of the base"}
    (folder / "outputs" / "base" / "base.json").write_text(json.dumps(base))
    (folder / "data" / "raw" / "instructions").mkdir(parents=True)
    (folder / "data" / "raw" / "instructions" / "rows.jsonl").write_text("{}\n{}\n")
    row = {"instruction": "prompt 0", "input": "", "output": "a"}
    data = {
        "source": {"file": "rows.jsonl", "md5": "of the rows", "bytes": 6, "path": "my/rows.jsonl"},
        "rows": contract.rows([row, row], [row], []),
        "tokens": contract.tokens([(8, 4)], 100),
        "contamination": contract.contamination(["prompt 0"], [row], 8),
    }
    (folder / "outputs" / "contract").mkdir()
    (folder / "outputs" / "contract" / "contract.json").write_text(json.dumps(data))
    (folder / "work").mkdir()
    (folder / "work" / "seconds.jsonl").write_text('{"stage": "train", "seconds": 5.0}\n')
    lock = {"train": {"outs": [{"path": "outputs/model", "md5": "model"}]}}
    (folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": lock}))
    rules = {"expected_rows": 3, "sequence_len": 100, "excess_length_strategy": "drop", "license": "mit", "ngram": 8}
    sections = {
        "name": "three_prompts",
        "report": {"stop": "### Instruction:", "samples": 2, "resamples": 50, "seed": 0},
        "prepare": {"path": "rows.jsonl", "hub": None, "generate": None, "take": None},
        "base": {},
        "contract": rules,
        "train": {},
        "evaluate": {"limit": None},
    }
    params.write_yaml(folder / "params.yaml", sections)
    (folder / "report").mkdir()
    by_model = {model: results.read(folder / "eval_results" / model, 50, 0) for model in ("base", "tuned")}
    measured = metrics.measure(by_model, "### Instruction:", 50, 0) | {"data": data}
    (folder / "report" / "metrics.json").write_text(json.dumps(measured))

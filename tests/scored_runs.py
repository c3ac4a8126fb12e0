"""Recorded runs with scores, in a real store, and the files of their models."""

import dataclasses
import json

import numpy as np

from tests.tiny_models import TEMPLATE
from tunetrail.evaluation import results, significance
from tunetrail.tracking import connection, mlflow_run, store
from tunetrail.tracking.download import RunFiles

VALUES = {
    "template": TEMPLATE,
    "train": {"adapter": None},
    "evaluate": {"model_args": {"dtype": "float32"}, "task": {"generation_kwargs": {"max_gen_toks": 8, "until": []}}},
}
TAGS = {
    "experiment": "demo",
    "model.md5": "d41d8.dir",
    "evaluation.digest": "e1",
    "data.license": "cc-by-nc-4.0",
    "data.source": "rows.jsonl",
    "base.license": "llama3",
    "base.model": "org/name",
    "versions.torch": "2.13.0+cpu",
    "versions.transformers": "5.16.1",
}
# Health of a model that answers with dots only.
DOTS = {"ended": 0.0, "empty": 0.0, "says_nothing": 1.0, "looping": 0.0, "runs_on": 0.0}


def metrics(base, tuned, digest="e1"):
    """Return a metrics.json for base and tuned models that followed this many of 100 prompts."""
    was, now = ([np.array([int(number < count)]) for number in range(100)] for count in (base, tuned))
    delta = dataclasses.asdict(significance.newcombe(was, now)) | {"p": significance.mcnemar(was, now)}
    scores = {
        "base": dataclasses.asdict(significance.wilson(was)),
        "tuned": dataclasses.asdict(significance.wilson(now)),
        "delta": delta,
    }
    return {
        "task": "ifeval",
        "size": "100 prompts, 100 instructions",
        "evaluation_digest": digest,
        "ifeval": {model: dict.fromkeys(results.SCORES, score) for model, score in scores.items()},
        "data": {"rows": {"train": 3900}, "contamination": {"prompts": 100, "seen": 7, "exact": 2}},
    }


def note(root, id, scores, **tags):
    """Add scores and tags to the record of a run."""
    (root / "report").mkdir(exist_ok=True)
    (root / "report" / "metrics.json").write_text(json.dumps(scores))
    with connection.open_client(root) as client:
        client.log_artifact(id, str(root / "report" / "metrics.json"), "report")
        for key, value in (TAGS | tags).items():
            client.set_tag(id, key, value)
    return store.find(root, id)


def finish(root, scores, name="demo", **tags):
    """Record a finished run with these scores."""
    with mlflow_run.run(root, name) as run:
        pass
    return note(root, run.id, scores, **tags)


def files(tuned, base="org/name", revision="abc", params=VALUES):
    """Return the files of a run with this model and base."""
    return RunFiles("a run", params, base, revision, tuned)

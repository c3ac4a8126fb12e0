"""The tags of an MLflow run: every name that tunetrail writes or reads, with its meaning, as docs/record.md shows them.

A name that ends in a dot is the prefix of several names.
"""

MEANINGS: dict[str, str] = {}  # in the order of the table


def _tag(name: str, meaning: str) -> str:
    MEANINGS[name] = meaning
    return name


EXPERIMENT = _tag("experiment", "the experiment's name, `name` in params.yaml")
OVERRIDES = _tag("overrides", "the overrides as typed, or `none`")
PLAN_ALLOWED = _tag("plan.allowed", "findings of the plan that `plan.allow` let pass")
ERROR = _tag("error", "the message that ended a failed run")
CREATED = _tag("tunetrail.created", "a random id, by which a run is found whose creation was not confirmed")
TRIES = _tag("tries", "how often the run was started, if more than once")
CHECKOUT = _tag("tunetrail.checkout", "where the run runs, as host:folder")

GIT_COMMIT = _tag("git.commit", "the commit of the code")
GIT_DIRTY = _tag("git.dirty", "`true` if there were uncommitted changes; `changes.patch` in the record has them")
CODE_DIGEST = _tag("code.digest", "SHA-256 over src/ and dvc.yaml, whichever commit they are in")
HARDWARE = _tag("hardware.", "the processors (`hardware.cpu`) and GPUs (`hardware.gpu`)")
VERSIONS = _tag("versions.", "the version of each tool that the results were made with")
LOCK_SHA256 = _tag("lock.sha256", "SHA-256 of the lock file that the packages should be from")

DATA_SOURCE = _tag("data.source", "the file or dataset that the training rows were read from")
DATA_MD5 = _tag("data.md5", "its md5")
DATA_LICENSE = _tag("data.license", "its licence")
DATA_ROWS = _tag("data.rows", "how many rows were trained on")
DATA = _tag("data.", "further counts from the data card, such as `data.tokens`")
BASE_MODEL = _tag("base.model", "the base model: a folder or an id on the hub")
BASE_REVISION = _tag("base.revision", "its revision on the hub")
BASE_SHA256 = _tag("base.sha256", "SHA-256 over its files")
BASE_LICENSE = _tag("base.license", "its licence")
TEMPLATE_DIGEST = _tag("template.digest", "digest of the prompt template")
EVALUATION_DIGEST = _tag("evaluation.digest", "digest of how the models were evaluated; scores compare where it is equal")
MODEL_MD5 = _tag("model.md5", "md5 of the tuned model, by which DVC's cache knows it")
TRAIN_CACHED = _tag("train.cached", "`true` if the model was taken from DVC's cache")
TRAINED_IN = _tag("train.trained_in", "the run that trained that model")
TRAIN_RESUMED = _tag(
    "train.resumed",
    "on a training that went on from a checkpoint: `exact`, or `inexact` and why an unbroken one has other numbers",
)
TRAIN_REPEATED = _tag("train.repeated_steps", "how many steps of it were done again")
DVC_EXPERIMENT = _tag("dvc.experiment", "the DVC experiment that `tunetrail restore` takes the files from")
DVC_CACHE = _tag("dvc.cache", "the folder of the DVC cache that has the run's data and models, as host:folder")

SWEEP = _tag("sweep", "the name of the sweep, on its own run and on its jobs")
SWEEP_OVERRIDES = _tag("sweep.overrides", "of a sweep the overrides as typed, of a job those that vary")
SWEEP_BEST = _tag("sweep.best", "of a sweep: the run of its best job")
SWEEP_BEST_OVERRIDES = _tag("sweep.best_overrides", "of a sweep: the overrides of its best job")
JOB_DIGEST = _tag("job.digest", "of a job: SHA-256 over its parameters, code and files; an equal job is not run again")
JOB_NUMBER = _tag("job.number", "of a job: its number in the sweep, from 0")
REPRODUCES = _tag("reproduces", "the run that this one reproduces")
AGREES = _tag("agrees", "whether it does: `bit for bit`, `within the intervals` or `no`")
PROMOTED = _tag("promoted", "the version in the model registry, as NAME/VERSION")
PROMOTED_AGAINST = _tag("promoted.against", "of a version: the reasons against it that `--force` overrode")
FREED = _tag("freed", "the day on which `tunetrail gc` deleted the run's models")

PARENT = _tag("mlflow.parentRunId", "MLflow's own: the sweep's run, below which its pages show a job")
PROJECT = _tag("mlflow.project.entryPoint", "MLflow's own: set on a run that `mlflow run` opened")
SOURCE = _tag("mlflow.source.name", "MLflow's own: the address or the folder that `mlflow run` was given")
NOTE = _tag("mlflow.note.content", "MLflow's own: the description at the top of the run's page")

# What a run is made from besides its config, and the prefixes of the tags that describe it.
SECTIONS = {
    "data": (DATA,),
    "base": ("base.",),
    "code": ("git.", "code."),
    "evaluation": ("template.", "evaluation."),
    "environment": ("lock.", VERSIONS, HARDWARE),
    "model": ("model.", TRAIN_RESUMED),
}


def table() -> str:
    """Return the tags as a Markdown table."""
    lines = ["| tag | meaning |", "|---|---|"]
    for name, meaning in MEANINGS.items():
        shown = f"{name}*" if name.endswith(".") else name
        lines.append(f"| `{shown}` | {meaning} |")
    return "\n".join(lines)

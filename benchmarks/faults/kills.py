"""Kill one process of a run at a random moment, run the same command again, and count what came out right.

    python benchmarks/faults/kills.py CHECKOUT [--tries N] [--real] [--close X] [OVERRIDE ...]
    python benchmarks/faults/kills.py --table CHECKOUT/kills.jsonl ...

CHECKOUT is a clone in which the run with these OVERRIDEs has finished once. In each try its training runs anew: kill -9 of
one of its processes (`tunetrail`, DVC, the stage, the launcher, the trainer, the guard), then the same command. Right is: it
ends with code 0, in one MLflow run, which is FINISHED and has each step once, with the losses of an unbroken training, or
within X of them where kernels are not deterministic; no process is left. With `-m` among the OVERRIDEs it is a sweep, with a
run for itself and one for each job. A stand-in trains, which takes a second instead of a minute; with --real it is Axolotl.
Each try is a line in CHECKOUT/kills.jsonl; the table counts all lines.
"""

import argparse
import collections
import json
import os
import random
import shutil
import sys
import time
import uuid
from collections.abc import Container
from pathlib import Path

import psutil
from mlflow import MlflowClient
from ruamel.yaml import YAML

HERE = Path(__file__).parent
KINDS = {  # part of the command line: the process's name in the table, the innermost first
    "axolotl.cli.train": "trainer",
    "accelerate.commands.trainer": "trainer",
    "accelerate.commands.launch": "launcher",
    "tunetrail.stages": "stage",
    "read -r mark": "guard",
    "tunetrail.checkout.repro": "DVC",
    "-m tunetrail": "tunetrail",
}
TRAINED = ("train", "report")  # stages that a try runs anew


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, nargs="?")
    parser.add_argument("--tries", type=int, default=10)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--close", type=float, default=0)
    parser.add_argument("--table", type=Path, nargs="+")
    options, overrides = parser.parse_known_args()
    if options.table:
        table(options.table)
        sys.exit()
    checkout = options.checkout.resolve()
    model = checkout / "work" / "standin_model"
    if not model.exists():
        shutil.copytree(checkout / "outputs" / "model", model)
    environment = os.environ | {"PYTHONPATH": str(checkout / "src"), "STANDIN_MODEL": str(model), "MLFLOW_TRACKING_URI": ""}
    if not options.real:
        environment["PYTHONPATH"] += os.pathsep + str(HERE / "standin")
    run = Command([sys.executable, "-m", "tunetrail", "run", *overrides], checkout, environment)
    begin_anew(checkout)
    run.name()
    before = runs(checkout)
    started = time.monotonic()
    run.start().wait()
    seconds = time.monotonic() - started
    expected = [curve for _, curve in new_runs(checkout, before)]
    print(f"unbroken: {seconds:.1f} s, {len(expected)} runs, {max(map(len, expected))} losses")
    for _ in range(options.tries):
        result = one_try(run, checkout, seconds, expected, options.close)
        with (checkout / "kills.jsonl").open("a") as file:
            file.write(json.dumps({"real": options.real} | result) + "\n")
        print(result, flush=True)
    table([checkout / "kills.jsonl"])


class Command:
    """A command that is started again and again, its output in work/kills.log. It has another name in each try, since a
    sweep that is finished is not run again."""

    def __init__(self, words: list[str], folder: Path, environment: dict[str, str]):
        self.words, self.folder, self.environment = [*words, ""], folder, environment

    def name(self) -> None:
        self.words[-1] = f"name=kills-{uuid.uuid4().hex[:8]}"

    def start(self) -> psutil.Popen:
        log = (self.folder / "work" / "kills.log").open("a")
        return psutil.Popen(self.words, cwd=self.folder, env=self.environment, stdout=log, stderr=log)


def begin_anew(checkout: Path) -> None:
    """Forget that the training was done: in dvc.lock, in DVC's run cache, and its checkpoints."""
    yaml = YAML()  # YAML 1.2 as DVC writes it: PyYAML would read `no` as false
    lock = yaml.load(checkout / "dvc.lock")
    for stage in TRAINED:
        lock["stages"].pop(stage, None)
    yaml.dump(lock, checkout / "dvc.lock")
    for file in checkout.glob(".dvc/cache/runs/*/*/*"):
        if any(f"stages.{stage}" in file.read_text() for stage in TRAINED):
            file.unlink()
            file.parent.rmdir()  # DVC fails at an empty one
    for folder in ("work/train", "work/unfinished"):
        shutil.rmtree(checkout / folder, ignore_errors=True)


Curve = list[tuple[int, float]]  # the losses of a run, each with its step


def runs(checkout: Path) -> dict[str, str]:
    """Return the status of each MLflow run by its id."""
    client = MlflowClient(f"sqlite:///{checkout / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return {run.info.run_id: run.info.status for run in client.search_runs(experiments)}


def new_runs(checkout: Path, before: Container[str]) -> list[tuple[str, Curve]]:
    """Return the status and the losses of the MLflow runs that are not among those `before`."""
    client = MlflowClient(f"sqlite:///{checkout / 'mlflow.db'}")
    made = [(run, status) for run, status in runs(checkout).items() if run not in before]
    points = {run: client.get_metric_history(run, "train/loss") for run, _ in made}
    return sorted(((status, [(point.step, point.value) for point in points[run]]) for run, status in made), key=str)


def one_try(run: Command, checkout: Path, seconds: float, expected: list[Curve], close: float) -> dict:
    begin_anew(checkout)
    run.name()
    before = runs(checkout)
    process, started = run.start(), time.monotonic()
    if random.random() < 0.5:
        time.sleep(random.uniform(0, seconds))
    else:
        wait_for_step(checkout, process, random.choice(max(expected, key=len))[0])
    moment = time.monotonic() - started
    victim, kind = choose(process)
    if victim:
        victim.kill()
    first = process.wait()
    started = time.monotonic()
    # It ends well without its guard, and may be killed after all was done.
    all_finished = ["FINISHED"] * len(expected)
    code = 0 if [status for status, _ in new_runs(checkout, before)] == all_finished else run.start().wait()
    took = time.monotonic() - started
    made = new_runs(checkout, before)
    pairs = [pair for (_, curve), other in zip(made, expected, strict=False) for pair in zip(curve, other, strict=False)]
    differences = [abs(loss - other) for (_, loss), (_, other) in pairs]
    difference = max(differences, default=0.0)
    resumed = [line for line in attempts(checkout) if line["from_step"]]
    if left(checkout):
        time.sleep(5)  # Python's resource trackers end last
    faults = {
        "code": code != 0,
        "runs": [status for status, _ in made] != all_finished,
        "steps": [[step for step, _ in curve] for _, curve in made] != [[step for step, _ in curve] for curve in expected],
        "losses": not all(each <= close for each in differences),  # NaN is not
        "processes": bool(left(checkout)),
    }
    return {
        "kind": kind,
        "at": round(moment, 1),
        "code": first,
        "again": round(took, 1),
        "difference": difference,
        "from_step": resumed[-1]["from_step"] if resumed else 0,
        "wrong": [name for name, is_wrong in faults.items() if is_wrong],
    }


def wait_for_step(checkout: Path, process: psutil.Popen, step: int) -> None:
    """Wait until the training has logged this step, or the process has ended."""
    while process.poll() is None:
        files = [*checkout.glob("work/train/history.jsonl"), *checkout.glob("runs/*/*/work/train/history.jsonl")]
        if any(f'{{"step": {step},' in file.read_text() and time.time() - file.stat().st_mtime < 5 for file in files):
            return
        time.sleep(0.02)


def choose(process: psutil.Popen) -> tuple[psutil.Process | None, str]:
    """Return one of the processes of the run and its kind: each kind is as likely as the others."""
    kinds = collections.defaultdict(list)
    try:
        for each in [process, *process.children(recursive=True)]:
            line = " ".join(each.cmdline())
            if name := next((name for part, name in KINDS.items() if part in line), None):
                kinds[name].append(each)
    except psutil.Error:
        pass
    kind = random.choice(sorted(kinds)) if kinds else "none"
    return (random.choice(kinds[kind]), kind) if kinds else (None, "none")


def left(checkout: Path) -> list[int]:
    """Return the processes that still work in the checkout."""
    ids = []
    for process in psutil.process_iter():
        try:
            if (
                Path(process.cwd()).is_relative_to(checkout)
                and process.status() != psutil.STATUS_ZOMBIE
                and process.pid != os.getpid()
            ):
                ids.append(process.pid)
        except psutil.Error:
            continue
    return ids


def attempts(checkout: Path) -> list[dict]:
    file = checkout / "outputs" / "train" / "attempts.json"
    return json.loads(file.read_text())["attempts"] if file.is_file() else []


def table(files: list[Path]) -> None:
    counted = collections.Counter()
    for line in (json.loads(line) for file in files for line in file.read_text().splitlines()):
        for key in ((line["real"], line["kind"]), (line["real"], "all")):
            counted[*key, "tries"] += 1
            counted[*key, "right"] += not line["wrong"]
            counted[*key, "resumed"] += bool(line["from_step"])
    print("| trainer | killed | tries | went on from a checkpoint | right |\n|---|---|---|---|---|")
    for real, kind in sorted({key[:2] for key in counted}):
        numbers = [counted[real, kind, column] for column in ("tries", "resumed", "right")]
        print(f"| {'Axolotl' if real else 'stand-in'} | {kind} | {' | '.join(map(str, numbers))} |")


if __name__ == "__main__":
    main()

"""Measure the README's figures of the demo in a fresh clone: its wall time, peak memory and scores. End with code 1 unless
each score rises by 30 points with disjoint 95 % intervals, within 5 minutes and 4 GiB.

    python benchmarks/demo.py

Minutes are those of one machine, so the time is also given as a multiple of that of `python -c "import axolotl.train"`.
Memory is the proportional set size (shared pages counted once) of all the demo's processes, read every half second.
It uses the installed environment; the clone has no data, no model and no DVC cache.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]


def memory(process: psutil.Process) -> int:
    """Return the bytes that `process` and its descendants use."""
    total = 0
    for member in (process, *process.children(recursive=True)):
        try:
            total += member.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "tunetrail"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        environment = os.environ | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(clone / "src"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{clone / 'mlflow.db'}",
        }
        command = ["mlflow", "run", ".", "--env-manager", "local", "--experiment-name", "tunetrail", "-P", "experiment=demo"]
        started = time.monotonic()
        process = psutil.Popen(command, cwd=clone, env=environment)
        peak = 0
        while process.poll() is None:
            peak = max(peak, memory(process))
            time.sleep(0.5)
        seconds = time.monotonic() - started
        if process.returncode:
            sys.exit(process.returncode)
        stages = [json.loads(line) for line in (clone / "work" / "seconds.jsonl").read_text().splitlines()]
        in_stages = sum(stage["seconds"] for stage in stages)
        imported = time.monotonic()
        subprocess.run([sys.executable, "-c", "import axolotl.train"], env=environment, check=True, capture_output=True)
        imported = time.monotonic() - imported
        print(f"\n{seconds / imported:.0f} times as long as to import Axolotl, which took {imported:.1f} s")
        print(f"{os.cpu_count()} cores: {seconds / 60:.1f} minutes, {peak / 2**30:.2f} GiB at most")
        for stage in stages:
            print(f"{stage['stage']:<16}{stage['seconds']:7.1f} s {stage['seconds'] / seconds:6.0%}")
        print(f"{'MLflow, DVC':<16}{seconds - in_stages:7.1f} s {1 - in_stages / seconds:6.0%}")
        scores = json.loads((clone / "report" / "metrics.json").read_text())["ifeval"]
        goals = {
            "30 points up": all(delta["value"] >= 0.30 for delta in scores["delta"].values()),
            "disjoint intervals": all(
                scores["base"][name]["high"] < scores["tuned"][name]["low"] for name in scores["base"]
            ),
            "5 minutes": seconds <= 300,
            "4 GiB": peak <= 4 * 2**30,
        }
        print(", ".join(f"{goal}: {'yes' if met else 'NO'}" for goal, met in goals.items()))
        sys.exit(0 if all(goals.values()) else 1)


if __name__ == "__main__":
    main()

"""Each option of conf/sweep runs the jobs of a small Hydra app on the real conf tree, by the command at the top of its file.

Not tested: a Slurm queue, except for the batch script, and Ray if its plug-in is not installed.
"""

import json
import os
import shlex
import subprocess
import sys

import optuna
import pytest
import yaml

from tests.conftest import ROOT

# A job writes what it sees to a file and returns a score; job number NOTHING returns none, job number FAULT raises.
APP = f"""
import json, os
import hydra

def main():
    started = os.getpid()
    folder = os.getcwd()

    def job(cfg):
        number = hydra.core.hydra_config.HydraConfig.get().job.num
        seen = {{"number": number, "seed": cfg.seed, "learning_rate": cfg.train.learning_rate}}
        seen |= {{"process": os.getpid(), "started": started, "moved": os.getcwd() != folder}}
        seen["environment"] = dict(os.environ)
        with open("seen.jsonl", "a") as file:
            file.write(json.dumps(seen) + "\\n")
        if str(number) == os.environ.get("FAULT"):
            raise RuntimeError("out of memory")
        return None if str(number) == os.environ.get("NOTHING") else -cfg.train.learning_rate

    hydra.main(config_path={str(ROOT / "conf")!r}, config_name="config")(job)()

main()
"""
SWEEP = "runs/one"


def command(option):
    """The overrides of the command in the option's second line."""
    line = (ROOT / "conf" / "sweep" / f"{option}.yaml").read_text().splitlines()[1]
    return shlex.split(line.removeprefix("# tunetrail run -m"))


@pytest.fixture
def call(tmp_path):
    """Run the app with a sweep in a folder of its own; return the ended process and what each job saw, by number."""
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / SWEEP).mkdir(parents=True)

    def run(*overrides, **environment):
        seen = tmp_path / "seen.jsonl"
        seen.unlink(missing_ok=True)
        words = [sys.executable, "app.py", "-m", f"hydra.sweep.dir={SWEEP}", *overrides]
        done = subprocess.run(words, cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True)
        jobs = [json.loads(line) for line in seen.read_text().splitlines()] if seen.exists() else []
        return done, sorted(jobs, key=lambda job: job["number"])

    return run


def assert_finished(done, jobs, count):
    """Assert that `count` jobs finished, in the app's folder and environment, and printed nothing."""
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert [job["number"] for job in jobs] == list(range(count))
    assert not any(job["moved"] for job in jobs)
    assert {job["environment"]["MARK"] for job in jobs} == {"passed on"}


def processes(jobs):
    """Return the processes that ran jobs, without the one that was started."""
    return {job["process"] for job in jobs} - {job["started"] for job in jobs}


def test_serial_runs_every_combination_in_the_process_that_was_started(call):
    done, jobs = call(*command("serial"), MARK="passed on")
    assert_finished(done, jobs, 4)
    assert [(job["learning_rate"], job["seed"]) for job in jobs] == [(1e-3, 1), (1e-3, 2), (3e-3, 1), (3e-3, 2)]
    assert not processes(jobs)


def test_joblib_runs_jobs_in_two_processes_that_share_the_cores(call):
    done, jobs = call(*command("joblib"), MARK="passed on")
    assert_finished(done, jobs, 4)
    assert 1 <= len(processes(jobs)) <= 2
    assert {int(job["environment"]["OMP_NUM_THREADS"]) for job in jobs} == {max(os.cpu_count() // 2, 1)}


def test_submitit_gives_each_job_a_process_without_a_gpu_and_keeps_its_files_in_the_sweeps_folder(call, tmp_path):
    done, jobs = call(*command("submitit_local"), MARK="passed on")
    assert_finished(done, jobs, 2)
    assert len(processes(jobs)) == 2
    assert {job["environment"]["CUDA_VISIBLE_DEVICES"] for job in jobs} == {""}
    assert len(list((tmp_path / SWEEP / ".submitit").glob("*/*_log.out"))) == 2
    assert {file.name for file in tmp_path.iterdir()} == {"app.py", "runs", "seen.jsonl"}


def test_slurm_gets_a_batch_script_with_what_the_option_and_the_command_ask_for(call, tmp_path):
    for name in ("srun", "sbatch"):  # submitit looks for srun and gives its script to sbatch, which refuses it
        (tmp_path / name).write_text("#!/bin/sh\necho no queue here >&2\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    more = ["hydra.launcher.setup=[module load cuda]", "+hydra.launcher.additional_parameters={mail-type: END}"]
    done, jobs = call(*command("slurm"), *more, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert "no queue here" in done.stderr
    assert not jobs
    (script,) = (tmp_path / SWEEP / ".submitit").glob("*.sh")
    lines = script.read_text().splitlines()
    options = {line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")}
    assert options >= {"array=0-2%3", "job-name=tunetrail", "partition=gpu", "time=240", "nodes=1", "ntasks-per-node=1"}
    assert options >= {"gpus-per-node=1", "cpus-per-task=8", "mail-type=END"}
    assert not [line for line in options if line.startswith(("account", "qos", "constraint", "mem"))]
    assert "module load cuda" in lines
    assert f"output={tmp_path / SWEEP / '.submitit'}/%A_%a/%A_%a_0_log.out" in options


@pytest.mark.stage
@pytest.mark.slow
def test_optunas_study_continues_with_the_same_sweep_and_after_a_failed_job(call, tmp_path):
    done, jobs = call(*command("optuna"), "hydra.sweeper.n_trials=4", NOTHING="1", FAULT="2")
    assert done.returncode == 0, done.stderr
    assert len(jobs) == 4
    assert not processes(jobs)

    again = ["sweep=[joblib,optuna]" if argument == "sweep=optuna" else argument for argument in command("optuna")]
    done, jobs = call(*again, "hydra.sweeper.n_trials=2", "seed=43")  # with 42 they would repeat the first two
    assert done.returncode == 0, done.stderr
    assert len(jobs) == 2
    assert processes(jobs)

    trials = optuna.load_study(study_name=SWEEP, storage=f"sqlite:///{tmp_path / SWEEP / 'optuna.db'}").trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    rates = [trial.params["train.learning_rate"] for trial in trials]
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert len(set(rates)) == 6
    assert {trial.params["train.num_epochs"] for trial in trials} <= {1, 2, 3}
    best = yaml.safe_load((tmp_path / SWEEP / "optimization_results.yaml").read_text())
    assert best["best_params"]["train.learning_rate"] == min(rates[:1] + rates[3:])


@pytest.mark.stage
def test_ray_gives_each_job_a_process_and_a_gpu_of_its_own(call):
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    machine = ["+hydra.launcher.ray.init.num_cpus=2", "+hydra.launcher.ray.init.num_gpus=2"]
    words = [*command("ray"), *machine, "hydra.launcher.ray.remote.num_gpus=1"]
    done, jobs = call(*words, MARK="passed on", RAY_AUTH_MODE="disabled")  # else Ray writes a token to the home folder
    assert_finished(done, jobs, 3)
    assert processes(jobs)
    assert {job["environment"]["CUDA_VISIBLE_DEVICES"] for job in jobs} <= {"0", "1"}


def test_an_experiment_may_choose_its_sweep_and_what_is_swept(call, tmp_path):
    (tmp_path / "experiment").mkdir()
    experiment = {"defaults": [{"override /sweep": ["joblib"]}], "name": "mine"}
    experiment["hydra"] = {"sweeper": {"params": {"train.learning_rate": "1e-3,3e-3"}}}
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{yaml.safe_dump(experiment)}")
    done, jobs = call(f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine", MARK="passed on")
    assert_finished(done, jobs, 2)
    assert {job["learning_rate"] for job in jobs} == {1e-3, 3e-3}
    assert processes(jobs)

"""A sweep's overrides as typed, on the real conf tree; nothing is run."""

import importlib.util
import shutil

import pytest
import yaml
from hydra.errors import HydraException

from tests.conftest import ROOT
from tunetrail import UserError
from tunetrail.config import grid
from tunetrail.config.compose import compose


def fault(known, *words):
    with pytest.raises(UserError) as error:
        grid.check_jobs(ROOT, list(words), known)
    return str(error.value)


def test_a_key_with_one_value_does_not_vary():
    words = ["experiment=demo", "+a.b=1", "method=full,lora", "train.learning_rate=tag(log, interval(1e-4, 1e-2))", "~x"]
    assert grid.constant(words) == {"experiment", "a.b", "x"}


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["seed=1,2,3", "method=full,lora"], 6),
        (["-m", "train.learning_rate=range(1,4)"], 3),
        (["seed=1"], 1),
        (["method=glob(lo*)"], None),
        (["sweep=optuna", "train.learning_rate=tag(log, interval(1e-4, 1e-2))"], None),
    ],
)
def test_the_number_of_jobs_is_known_except_with_a_sampler_or_a_glob(words, count):
    assert grid.total(ROOT, words) == count


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sweep=joblib"], "nothing varies: give key=a,b, or leave -m out."),
        (["sweep=optuna", "seed=1"], "nothing varies: give key=a,b, or leave -m out."),
        (["sweep=joblib", "seed=interval(1,2)"], "seed: interval() needs a searcher: 'sweep=[joblib,optuna]'"),
        (["seed=range(1,1)"], "seed=range(1,1): no value lies in it. The end of a range is not part of it."),
        (["sweep=[joblib,submitit_local]", "seed=1,2"], "sweep: two launchers, joblib and submitit_local. Name one."),
        (["sweep=[joblib,serial]", "seed=1,2"], "sweep: two launchers, joblib and serial. Name one."),
        (["sweep=[serial,optuna]", "seed=1,2"], "sweep: two sweepers, serial and optuna. Name one."),
        (
            ["sweep=optuna", "hydra.sweeper.n_trials=0", "seed=1,2"],
            "hydra.sweeper.n_trials=0: no job would run. Give 1 or more.",
        ),
        (["seed=1,1"], "seed=1,1: the job seed=1 is given twice. Give each value once."),
        (["train.learning_rate=1e-3,0.001"], "train.learning_rate=1e-3,0.001: the job train.learning_rate=0.001 is given"),
        (["seed=choice(1,2,1.0)"], "seed=choice(1,2,1.0): the job seed=1.0 is given twice."),
        (["name=a,'a'"], "name=a,'a': the job name='a' is given twice."),
        (["seed=1,2", "seed=3"], "seed is given twice, and the last one wins in every job. Give it once."),
        (
            ["sweep=optuna", "train.learning_rate=interval(1e-2,1e-4)"],
            "train.learning_rate=interval(1e-2,1e-4): no value lies in this interval. Write interval(0.0001,0.01).",
        ),
        (["sweep=optuna", "seed=interval(1,1)"], "seed=interval(1,1): no value lies in this interval. Give two different"),
        (
            ["sweep=optuna", "train.learning_rate=tag(log, interval(0, 1))"],
            "train.learning_rate=tag(log, interval(0, 1)): a logarithmic scale has no 0. Start above 0.",
        ),
        (["evaluate.model_args.token=a,b"], "evaluate.model_args.token holds a secret"),
        (["+train.hub_token=hunter2,b"], "train.hub_token holds a secret"),
    ],
)
def test_a_sweep_that_could_not_start_is_refused_with_a_fix(known, words, says):
    assert fault(known, *words).startswith(says)


@pytest.mark.skipif(bool(shutil.which("srun")), reason="Slurm is here")
def test_without_slurm_its_option_is_refused(known):
    message = "sweep=slurm: no srun on this machine. Run it on a login node, or take sweep=joblib."
    assert fault(known, "sweep=slurm", "seed=1,2") == message


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["train.learning_rate=1e-3,abc", "seed=1,2"],
            "the job train.learning_rate=abc seed=1: train.learning_rate: 'abc' is",
        ),
        (["+train.lerning_rate=1,2"], "the job +train.lerning_rate=1: train.lerning_rate: no such key. Did you mean"),
        (["seed=1,2", "model=tiny_llama,local"], "the job seed=1 model=local: base.base_model has no value"),
        (["train.num_epochs=range(2,-1,-1)"], "the job train.num_epochs=0: train.num_epochs: 0 is less"),
        (["sweep=optuna", "train.num_epochs=interval(0,2)"], "the job train.num_epochs=0.0: train.num_epochs: 0.0 is"),
        (["sweep=optuna", "seed=choice(1,a)"], "the job seed=a: "),
        (["method=glob(lo*)", "train.num_epochs=many"], "train.num_epochs: 'many' is not of type"),
    ],
)
def test_the_error_for_a_wrong_value_names_its_job(known, words, says):
    assert fault(known, *words).startswith(says)


def test_an_unknown_option_of_a_group_is_an_error(known):
    with pytest.raises(HydraException, match="Could not find 'method/lorra'"):
        grid.check_jobs(ROOT, ["method=full,lorra"], known)


@pytest.mark.parametrize(
    "words",
    [
        ["sweep=joblib", "seed=1,2", "method=full,lora"],
        ["seed=choice(7)"],
        ["+train.ddp=true,null"],
        ["+train.ddp_timeout=1,2"],
        ["sweep=[joblib,optuna]", "train.learning_rate=tag(log, interval(1e-4, 1e-2))"],
        ["method=glob(lo*)"],
        ["+train.hf_use_auth_token=true", "seed=1,2"],
        ["+train.hf_use_auth_token=true,false"],
        ["~train.datasets", "+train.datasets=[{path: data/train.jsonl, type: alpaca}]", "seed=1,2"],
    ],
)
def test_a_valid_sweep_passes(known, words):
    assert grid.check_jobs(ROOT, words, known) is None


def test_the_number_of_jobs_to_check_is_printed_first(known, capsys):
    grid.check_jobs(ROOT, ["seed=1,2,3", "method=full,lora"], known)
    assert capsys.readouterr().out == "checking every value before the first job starts: 4 plans\n"
    grid.check_jobs(ROOT, ["seed=choice(7)"], known)
    assert not capsys.readouterr().out


def test_values_that_an_experiments_file_sweeps_over_are_checked_unless_overridden(known, tmp_path):
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    experiment = {"name": "mine", "hydra": {"sweeper": {"params": {"train.learning_rate": "1e-3,abc"}}}}
    text = f"# @package _global_\n{yaml.safe_dump(experiment)}"
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=r"the job train\.learning_rate=abc: "):
        grid.check_jobs(tmp_path, ["experiment=mine"], known)
    grid.check_jobs(tmp_path, ["experiment=mine", "train.learning_rate=1e-3,2e-3"], known)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(text.replace("train.learning_rate", "+train.hub_token"))
    with pytest.raises(UserError, match=r"^train\.hub_token holds a secret"):
        grid.check_jobs(tmp_path, ["experiment=mine"], known)


def test_a_hundred_jobs_are_checked_by_value_not_one_by_one(known, monkeypatch):
    composed = []
    monkeypatch.setattr(grid, "compose", lambda root, words, **more: composed.append(words) or compose(root, words, **more))
    grid.check_jobs(ROOT, ["seed=range(1,51)", "train.learning_rate=1e-3,2e-3"], known)
    assert len(composed) == 4  # for Hydra's own section, the first job, the range's end, the other rate


@pytest.mark.skipif(bool(importlib.util.find_spec("hydra_plugins.hydra_ray_launcher")), reason="Ray's plug-in is here")
def test_hydras_error_for_a_missing_plug_in_names_it(known):
    with pytest.raises(HydraException, match="hydra/launcher/ray"):
        grid.check_jobs(ROOT, ["sweep=ray", "seed=1,2"], known)


def test_keys_tagged_log_are_logarithmic():
    words = ["train.learning_rate=tag(log, interval(1e-4, 1e-2))", "seed=1,2", "+train.max_steps=range(1, 3)", "name=a"]
    assert grid.logarithmic(words) == {"train.learning_rate"}
    assert grid.logarithmic(["+train.adam_epsilon=tag(log, choice(1e-8, 1e-6))"]) == {"train.adam_epsilon"}

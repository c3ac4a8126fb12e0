"""Overrides as typed, on the real conf tree."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tunetrail import UserError
from tunetrail.config import check, compose, grid, overrides


@pytest.mark.parametrize(
    ("words", "changes", "result"),
    [
        (["experiment=demo", "seed=1"], ["seed=2", "name=x"], ["experiment=demo", "seed=2", "name=x"]),
        (["hardware=cuda"], ["hardware=[cuda,fsdp2]"], ["hardware=[cuda,fsdp2]"]),
        (["+train.max_steps=5"], ["train.max_steps=9"], ["+train.max_steps=9"]),
        (["+train.lerning_rate=1"], ["~train.lerning_rate", "train.learning_rate=1"], ["train.learning_rate=1"]),
        (["~train.weight_decay"], ["+train.weight_decay=0"], ["~train.weight_decay", "+train.weight_decay=0"]),
        (["++train.max_steps=5"], ["train.max_steps=9"], ["++train.max_steps=9"]),
        (["+train.max_steps=5"], ["++train.max_steps=9"], ["++train.max_steps=9"]),
        (["~train.seed", "+train.seed=5"], ["train.seed=9"], ["~train.seed", "+train.seed=9"]),
        (["~seed", "+seed=5"], ["name=x"], ["~seed", "+seed=5", "name=x"]),
        ([], ["seed=1", "seed=2"], ["seed=2"]),
        (["train.lr=1", "seed=1"], ["~train.lr", "train.learning_rate=1"], ["seed=1", "train.learning_rate=1"]),
    ],
)
def test_a_change_replaces_the_override_of_the_same_key(words, changes, result):
    assert overrides.replace(words, changes) == result
    check.resolve(compose.compose(ROOT, result))


def test_an_unknown_option_is_refused_and_one_of_hydras_is_not():
    with pytest.raises(UserError, match=r"An override has no dashes: seed=VALUE"):
        overrides.validate(["--cfg", "--seed=1"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-q"], "-q: no such option. See tunetrail run --help."),
        (["-x=1"], "-x=1: no such option."),
        (
            ["seed=1,2"],
            "seed=1,2: several values, and this is one run. Give one, or run a sweep: tunetrail run -m seed=1,2.",
        ),
        (["hardware=cuda,fsdp2"], "A list is written in brackets: hardware=[...]"),
        (["+train.ddp=choice(true,false)"], "run a sweep: tunetrail run -m '+train.ddp=choice(true,false)'."),
        (["seed=range(1,3)"], "seed=range(1,3): several values"),
        (["train.num_epochs=1 seed=7"], "several overrides in one word. Separate them: train.num_epochs=1 seed=7"),
        (["name=a +train.max_steps=5 ~b seed=1"], "Separate them: name=a '+train.max_steps=5 ~b' seed=1"),
        (["seed"], "seed: no value. An override is KEY=VALUE: seed=VALUE; ~seed removes the key."),
        (["seed=7", "job"], "job: no value."),
        (["=1"], "=1: no key. An override is KEY=VALUE."),
        (["seed==1"], "seed==1: Hydra cannot read this. Quote a value that has special characters: 'seed=\"=1\"'"),
        (["prepare.path=my (1).jsonl"], "'prepare.path=\"my (1).jsonl\"'"),
    ],
    ids=" ".join,
)
def test_an_argument_that_is_no_override_of_a_single_run_is_refused_with_its_correct_form(words, says):
    with pytest.raises(UserError) as error:
        overrides.validate(words)
    assert says in str(error.value)


def test_overrides_and_hydras_options_pass():
    overrides.validate(["--cfg", "job", "-p", "train", "seed=7", "~train.seed", "hardware=[cuda,fsdp2]", "name='1,2'"])
    overrides.validate(['prepare.path="my (1).jsonl"', "prepare.path=two words.jsonl", "name='a b=c'"])
    overrides.validate(["-m", "seed=1,2", "train.learning_rate=interval(1,2)"], multirun=True)


@pytest.mark.parametrize(
    "argument",
    [
        *("+train.hub_token=hunter2", "train.comet_api_key=hunter2", "wandb_api_key=hunter2", "--hf_token=hunter2"),
        *("+train.x=https://me:hunter2@host/", "prepare.path=s3://me:hunter2@bucket/a", "++x.password=a(hunter2"),
        *("accelerate.aws-secret-access-key=hunter2", "seed=1 train.hf_token=hunter2", "+train.x={wandb_api_key: hunter2"),
        *("+train.x={wandb_api_key: hunter2}", "+x={'a':{'db_password':'hunter2'", "+train.x=[{hf_token:hunter2},"),
        *("train.x=hf_token=hunter2", "--foo={hf_token: hunter2}", "seed https://me:hunter2@host", "=hf_token: hunter2("),
        *("seed=1, hf_token = hunter2", "hf_token hunter2", "~train.hf_token=hunter2", "+train.hub_token=a,hunter2"),
        *("+x={hub_token: a},{hub_token: hunter2}", 'name=(x "hf_token":"hunter2', "hf_token:\nhunter2"),
        "https://me:hunter2@host/?token=b",
    ],
)
def test_a_secret_is_refused_before_anything_prints_it(argument):
    for several in (False, True):
        with pytest.raises(UserError, match="holds a secret") as error:
            overrides.validate([argument], several)
        assert "hunter2" not in str(error.value)


def test_values_that_only_look_like_a_secret_pass():
    overrides.validate(["+train.hf_use_auth_token=true", "train.comet_api_key=null", "~train.comet_api_key"])
    overrides.validate(["+train.hf_use_auth_token=true,false", "template.with_input='its token: {input}'"], multirun=True)
    overrides.validate(
        ["+train.special_tokens.pad_token=x", "+evaluate.model_args.add_bos_token=true", "name=https://host/a@b"]
    )


def read(words, known, multirun=False):
    """Read, compose and check overrides as `tunetrail run` does."""
    overrides.validate(words, multirun=multirun)
    with compose.explained(ROOT, words, known):
        if multirun:
            grid.check_jobs(ROOT, words, known)
        else:
            check.check(check.resolve(compose.compose(ROOT, words)), known)


@pytest.mark.parametrize(
    ("word", "multirun", "says"),
    [
        ("seed=range(1,0,0)", True, "range() arg 3 must not be zero"),
        ("model=[1]", False, "Hydra cannot compose 'model=[1]' ("),
        ("method=${..}", False, "Hydra cannot compose 'method=${..}' ("),
        ("+=/dev/null", False, "no key. An override is KEY=VALUE"),
        ("hydra.sweeper=1", True, "hydra.sweeper=1: a section, not a value"),
    ],
)
def test_what_hydra_itself_fails_on_is_an_error_with_the_override(known, word, multirun, says):
    words = [word, "seed=1,2"] if multirun and "seed" not in word else [word]
    with pytest.raises(UserError) as error:
        read(words, known, multirun)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("word", ["seed=LONG", "experiment=LONG", "train.datasets=LONG", "--LONG", "LONG=1"])
def test_a_long_value_is_not_echoed_whole(known, word):
    with pytest.raises(UserError) as error:
        read([word.replace("LONG", "x" * 5000)], known)
    assert 20 < len(str(error.value)) < 2000


@pytest.mark.slow
def test_random_lines_are_errors_that_name_them():
    """The short form of benchmarks/faults/fuzz.py."""
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks/faults/fuzz.py", "--lines", "300"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout

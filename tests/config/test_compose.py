"""Overrides as a person types them, over the real conf tree."""

import pytest

from tests.conftest import ROOT
from tunetrail import UserError
from tunetrail.config import check, compose


@pytest.mark.parametrize(
    ("words", "more", "found"),
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
def test_a_word_that_is_typed_again_takes_the_place_of_the_first(words, more, found):
    assert compose.retyped(words, more) == found
    check.resolve(compose.compose(ROOT, found))


def test_a_fault_of_hydras_is_told_as_the_persons(known):
    message = r"train\.lerning_rate: no such key\. Did you mean train\.learning_rate\?"
    with pytest.raises(UserError, match=message), compose.explained(ROOT, [], known):
        compose.compose(ROOT, ["train.lerning_rate=1"])


def test_an_option_that_nobody_has_is_refused_and_one_of_hydras_is_not():
    with pytest.raises(UserError, match=r"An override has no dashes: seed=VALUE"):
        compose.check_words(["--cfg", "--seed=1"])


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
        (["train.num_epochs=1 seed=7"], "several overrides in one word. Write them apart: train.num_epochs=1 seed=7"),
        (["name=a +train.max_steps=5 ~b seed=1"], "Write them apart: name=a '+train.max_steps=5 ~b' seed=1"),
        (["seed"], "seed: no value. An override is KEY=VALUE: seed=VALUE; ~seed removes the key."),
        (["seed=7", "job"], "job: no value."),
        (["=1"], "=1: no key. An override is KEY=VALUE."),
        (["seed==1"], "seed==1: Hydra cannot read this. Quote a value that holds signs of its grammar: 'seed=\"=1\"'"),
        (["prepare.path=my (1).jsonl"], "'prepare.path=\"my (1).jsonl\"'"),
    ],
    ids=" ".join,
)
def test_a_word_that_is_no_override_of_one_run_is_refused_with_how_it_is_written(words, says):
    with pytest.raises(UserError) as error:
        compose.check_words(words)
    assert says in str(error.value)


def test_what_is_an_override_or_an_option_of_hydras_passes():
    compose.check_words(["--cfg", "job", "-p", "train", "seed=7", "~train.seed", "hardware=[cuda,fsdp2]", "name='1,2'"])
    compose.check_words(['prepare.path="my (1).jsonl"', "prepare.path=two words.jsonl", "name='a b=c'"])
    compose.check_words(["-m", "seed=1,2", "train.learning_rate=interval(1,2)"], multirun=True)


def test_hydras_own_keys_are_those_of_the_sweep_that_is_chosen():
    keys = compose.hydra_keys(ROOT, ["sweep=[joblib,optuna]", "seed=1,2"])
    assert {"hydra.sweeper.n_trials", "hydra.launcher.n_jobs", "hydra.sweep.dir"} <= set(keys)
    assert "hydra.sweeper.n_trials" not in compose.hydra_keys(ROOT, [])
    assert not [key for key in keys if "_target_" in key]
    assert compose.hydra_keys(ROOT, ["sweep=none"]) == []


@pytest.mark.parametrize(
    "word",
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
def test_a_secret_among_the_words_is_refused_before_anything_prints_it(word):
    for several in (False, True):
        with pytest.raises(UserError, match="holds a secret") as error:
            compose.check_words([word], several)
        assert "hunter2" not in str(error.value)


def test_what_only_looks_like_a_secret_passes():
    compose.check_words(["+train.hf_use_auth_token=true", "train.comet_api_key=null", "~train.comet_api_key"])
    compose.check_words(["+train.hf_use_auth_token=true,false", "template.with_input='its token: {input}'"], multirun=True)
    compose.check_words(
        ["+train.special_tokens.pad_token=x", "+evaluate.model_args.add_bos_token=true", "name=https://host/a@b"]
    )

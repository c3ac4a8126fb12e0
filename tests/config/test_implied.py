"""Overrides that typed ones imply, on the real conf tree."""

import shutil

import pytest

from tests.conftest import ROOT
from tunetrail import UserError
from tunetrail.config import check, compose, implied, inputs
from tunetrail.data import world

LICENCE = ["prepare.license=null", "prepare.expected_rows=null"]
OTHER = "evaluate.task.task=ifeval"
HUB = "{repo_id:org/rows,filename:rows.json,revision:12567cabf869d7c92e573c7c783905fc160e9639}"


@pytest.mark.parametrize(
    ("words", "more"),
    [
        (["prepare.path=mine.jsonl"], ["prepare=file"]),
        (["++prepare.path=mine.jsonl"], ["prepare=file"]),
        (["prepare.path='my (1).jsonl'", "seed=1"], ["prepare=file"]),
        (["-m", "prepare.path=a.jsonl,b.jsonl"], ["prepare=file"]),
        (["--cfg", "job", "prepare.path=mine.jsonl"], ["prepare=file"]),
        (["experiment=llama3_8b_alpaca", "prepare.path=conf/mine.jsonl"], ["prepare=file"]),
        (["-m", "experiment=alpaca_tiny,demo", "prepare.path=a.jsonl"], ["prepare=file"]),
        (["prepare.path=mine.jsonl", "prepare.generate=null", "prepare.hub=null"], ["prepare=file"]),
        # Contradictory overrides are not completed: `inputs.check_consistency` refuses them.
        (["prepare=demo", "prepare.path=mine.jsonl"], []),
        (["prepare.path=mine.jsonl", "prepare.generate.rows=50"], []),
        (["prepare=alpaca_cleaned", "prepare.path=mine.jsonl"], []),
        # Nothing is implied.
        (["prepare=file", "prepare.path=mine.jsonl"], []),
        (["experiment=alpaca_tiny", "prepare.path=a.jsonl", "evaluate.path=b.jsonl"], ["evaluate.hub=null"]),
        (["experiment=alpaca_tiny", "prepare.path=a.jsonl"], []),  # the published prompts
        ([f"prepare.path={world.SOURCE}"], []),
        (["prepare=alpaca_cleaned", "prepare.path=conf/prepare/alpaca_cleaned.yaml"], []),
        (["prepare.license=mit"], []),
        ([], []),
        # The licence in an option's file applies to that option's data only.
        (["prepare=alpaca_cleaned", "prepare.hub=null", "prepare.path=mine.json"], LICENCE),
        (["prepare=alpaca_cleaned", "prepare.hub=null", "prepare.path=a.json", "prepare.license=mit"], LICENCE[1:]),
        (["prepare=alpaca_cleaned", "prepare.hub.repo_id=org/rows"], LICENCE),
        (["prepare=alpaca_cleaned", "prepare.hub.repo_id=yahma/alpaca-cleaned"], []),
        (["prepare=alpaca_cleaned", f"prepare.hub={HUB}", "prepare.license=mit"], LICENCE[1:]),
        (["-m", "prepare=alpaca_cleaned", "prepare.hub.repo_id=other/rows,org/rows"], LICENCE),
        ([f"++prepare.hub={HUB}", "prepare.generate=null"], LICENCE[:1]),
        (["evaluate.path=p.jsonl"], [OTHER]),
        (["evaluate.path=p.jsonl", "evaluate.task.task=mine"], []),
        (["evaluate=ifeval", "evaluate.path=p.jsonl"], ["evaluate.hub=null"]),
        (["evaluate=ifeval", "evaluate.path=p.jsonl", "evaluate.hub=null"], []),
        (["-m", "evaluate.path=p.jsonl,q.jsonl", "evaluate=ifeval,ifeval_demo"], ["evaluate.hub=null", OTHER]),
        (["prepare.path=a.jsonl", "evaluate.path=p.jsonl"], ["prepare=file", OTHER]),
        (["model=llama3_8b", "base.base_model=org/m"], ["base.license=null", "base.revision_of_model=null"]),
        (["model=llama3_8b", "base.base_model=org/m", "base.license=mit", "base.revision_of_model=v1"], []),
        (["model=llama3_8b", "base.base_model=meta-llama/Meta-Llama-3-8B"], []),
        (["model=hub", "base.base_model=org/m", "base.revision_of_model=v1"], []),
        # Overrides that Hydra refuses are unchanged.
        (["prepare.path=my (1).jsonl"], []),
        (["prepare=nothing", "prepare.path=mine.jsonl"], []),
    ],
)
def test_overrides_that_a_path_a_hub_or_a_model_implies_are_added(words, more):
    assert implied.complete(ROOT, words)[0] == words + more


@pytest.mark.parametrize(
    ("words", "job", "typed"),
    [
        (
            ["model=llama3_2_1b", "base.base_model=meta-llama/Llama-3.2-1B,org/other"],
            "model=llama3_2_1b base.base_model=meta-llama/Llama-3.2-1B",
            ["base.license=null", "base.revision_of_model=null"],
        ),
        (
            ["prepare=alpaca_cleaned", "prepare.hub.repo_id=yahma/alpaca-cleaned,org/rows"],
            "prepare=alpaca_cleaned prepare.hub.repo_id=yahma/alpaca-cleaned",
            LICENCE,
        ),
        (["prepare.path=b.jsonl,src/tunetrail/data/world.py"], "prepare.path=src/tunetrail/data/world.py", ["prepare=file"]),
    ],
)
def test_overrides_implied_for_one_job_must_not_change_another(words, job, typed):
    with pytest.raises(UserError) as error:
        implied.complete(ROOT, ["-m", *words])
    assert f"would change the job {job}. " in str(error.value)
    assert str(error.value).endswith(f"for all of the jobs: {' '.join(typed)}")
    assert implied.complete(ROOT, ["-m", *words, *typed]) == (["-m", *words, *typed], [])


MINE = """# @package _global_
defaults: [{override /prepare: alpaca_cleaned}, {override /evaluate: ifeval}]
name: mine
prepare:
  path: conf/experiment/mine.yaml
  hub: {repo_id: org/rows, filename: rows.json, revision: 12567cabf869d7c92e573c7c783905fc160e9639}
  license: cc-by-4.0
  expected_rows: 10
"""


def test_a_path_means_that_file_also_if_the_experiment_sets_its_own_source(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(MINE)
    (tmp_path / "a.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    typed, hub = ["experiment=mine", "prepare.path=a.jsonl"], ["prepare.hub=null"]
    for words, more in (
        (typed, hub + LICENCE),
        ([*typed, *hub], LICENCE),
        ([*typed, "prepare.license=mit"], hub + LICENCE[1:]),
    ):
        completed = implied.complete(tmp_path, words)[0]
        assert completed == [*words, "prepare=file", *more]
        assert implied.complete(tmp_path, completed) == (completed, [])
        values = check.resolve(compose.compose(tmp_path, completed))
        inputs.check_consistency(values)
        prepare = values["prepare"]
        assert (prepare["path"], prepare["hub"], prepare["expected_rows"]) == ("a.jsonl", None, None)
        assert prepare["license"] == ("mit" if "prepare.license=mit" in words else None)


OTHERS = """# @package _global_
defaults: [{override /prepare: alpaca_cleaned}, {override /model: llama3_8b}, {override /evaluate: ifeval}]
name: others
"""


@pytest.mark.parametrize(
    ("gives", "more"),
    [
        ("prepare: {hub: {repo_id: org/rows}}", LICENCE),
        ("prepare: {hub: {repo_id: org/rows}, license: mit}", LICENCE[1:]),
        ("prepare: {hub: {repo_id: yahma/alpaca-cleaned}}", []),
        ("base: {base_model: org/m}", ["base.license=null", "base.revision_of_model=null"]),
        ("base: {base_model: org/m, license: mit, revision_of_model: v1}", []),
        ("prepare: {path: a.jsonl}", ["prepare=file"]),
        ("prepare: {take: 10}", []),
    ],
)
def test_the_licence_of_an_option_is_not_recorded_for_other_data_of_an_experiments_file(tmp_path, gives, more):
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (tmp_path / "conf" / "experiment" / "others.yaml").write_text(OTHERS + gives)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text("# @package _global_\ndefaults: [others]\nname: mine\n")
    for experiment in ("others", "mine"):
        completed, _ = implied.complete(tmp_path, [f"experiment={experiment}"])
        assert completed == [f"experiment={experiment}", *more]
        compose.compose(tmp_path, completed)
    typed = ["experiment=mine", "prepare.license=apache-2.0"]
    assert implied.complete(tmp_path, typed)[0] == typed + [override for override in more if override != LICENCE[0]]


def test_a_line_says_which_key_implies_which_overrides():
    words = ["prepare.path=a.jsonl", "evaluate=ifeval", "evaluate.path=p.jsonl"]
    assert implied.complete(ROOT, words)[1] == [
        "prepare.path is given: prepare=file",
        "evaluate.path is given: evaluate.hub=null",
    ]


def test_completing_twice_changes_nothing():
    words, _ = implied.complete(ROOT, ["prepare.path=a.jsonl", "evaluate.path=p.jsonl", "seed=1"])
    assert implied.complete(ROOT, words) == (words, [])


def test_completed_overrides_compose_what_the_user_meant(tmp_path, monkeypatch, known):
    monkeypatch.chdir(tmp_path)
    for name in ("a.jsonl", "p.jsonl"):
        (tmp_path / name).touch()
    words, _ = implied.complete(ROOT, ["prepare.path=a.jsonl", "evaluate.path=p.jsonl"])
    values = check.resolve(compose.compose(ROOT, words))
    check.check(values, known)
    inputs.check_consistency(values)
    prepare, fetch = values["prepare"], values["fetch"]
    assert (prepare["path"], prepare["generate"], prepare["license"]) == ("a.jsonl", None, None)
    assert (fetch["generate"], fetch["prompts"]) == (None, {"path": "p.jsonl", "hub": None})
    assert values["evaluate"]["task"]["task"] == "ifeval"


@pytest.mark.parametrize(
    "words",
    [
        ["prepare=demo", "prepare.path=a.jsonl"],
        ["prepare.path=a.jsonl", "prepare.generate.rows=50"],
        ["prepare=alpaca_cleaned", "evaluate=ifeval", "prepare.path=a.jsonl"],
        ["prepare=alpaca_cleaned", "evaluate=ifeval", "prepare.path=conf/a.jsonl"],
    ],
)
def test_contradictions_that_remain_are_refused(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    for name in ("a.jsonl", "conf/a.jsonl"):
        (tmp_path / name).touch()
    words, _ = implied.complete(ROOT, words)
    with pytest.raises(UserError, match=r"prepare\.path=\S*a\.jsonl"):
        inputs.check_consistency(check.resolve(compose.compose(ROOT, words)))

"""Recorded runs with real verdicts in a real SQLite store: their differences, the tests, and the page."""

import contextlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.image import imread

from tests import recorded_runs
from tests.checkouts import begin
from tests.stage_outputs import evaluation
from tunetrail import UserError
from tunetrail.cli import compare as compare_command
from tunetrail.evaluation import results, significance
from tunetrail.report import plots
from tunetrail.runs import compare
from tunetrail.tracking import connection, mlflow_run

pytestmark = pytest.mark.stage
FIRST = [[True, False], [True], [False], [True], [False], [False], [True], [False]]
BETTER = [[True, True], [True], [True], [True], [True], [False], [True], [True]]
PARAMS = {"train.learning_rate": 0.001, "seed": 1, "train.seed": 1, "train.num_epochs": 4}


@pytest.fixture
def checkout(root, monkeypatch):
    begin(root, monkeypatch)
    return root


def finish(root, name, followed, batch_size=8, verdicts=True, **params):
    """Record a run whose tuned model followed `followed`; return its id."""
    made = root / "made" / f"{len(list((root / 'made').glob('*')))}"
    evaluations = {}
    for model, met in (("base", [[False] * len(prompt) for prompt in followed]), ("tuned", followed)):
        file = next(evaluation(made / model, met).glob("*/results_*"))
        file.write_text(file.read_text().replace('"batch_size": 8', f'"batch_size": {batch_size}'))
        evaluations[model] = results.read(made / model, **significance.SAMPLING)
    scored = results.compare(evaluations["base"], evaluations["tuned"], **significance.SAMPLING)
    tuned = evaluations["tuned"]
    metrics = {"task": tuned.task, "size": results.size(tuned), "evaluation_digest": tuned.digest, "ifeval": scored}
    (made / "report").mkdir()
    (made / "report" / "metrics.json").write_text(json.dumps(metrics))
    if verdicts:
        (made / "report" / "verdicts.json").write_text(json.dumps(results.comparable(evaluations)))
    with mlflow_run.run(root, name) as run:
        run.params(PARAMS | {key.replace("__", "."): value for key, value in params.items()})
        run.tags({"git.commit": "c0ffee", "git.dirty": "false", "data.md5": "m1", "evaluation.digest": tuned.digest})
        run.steps([{"step": step, "time": step, "train/loss": 2.0 / step, "validation/loss": 3.0 / step} for step in (1, 2)])
        run.artifacts(made, "report")
    return run.id


def fail(root, name, **params):
    with contextlib.suppress(ValueError), mlflow_run.run(root, name) as run:
        run.params(PARAMS | params)
        run.tags({"git.commit": "c0ffee", "git.dirty": "false"})
        run.steps([{"step": 1, "time": 1.0, "train/loss": 9.0}])
        raise ValueError
    return run.id


def typed(*arguments):
    ended = CliRunner().invoke(compare_command.command, arguments, catch_exceptions=False)
    assert ended.exit_code == 0
    return ended.stdout


def compared(*ids):
    return json.loads(typed(*ids, "--json"))


def test_scores_are_compared_with_the_first_run_by_paired_tests(checkout):
    first, second = finish(checkout, "first", FIRST), finish(checkout, "second", BETTER)
    reference, other = compared(first, second)["runs"]
    prompts = [[np.array([int(all(met))]) for met in followed] for followed in (FIRST, BETTER)]
    each = [[np.array(met).astype(int) for met in followed] for followed in (FIRST, BETTER)]
    by_prompt, by_instruction = other["delta"]["prompt_strict"], other["delta"]["inst_loose"]
    expected = significance.newcombe(*prompts)
    assert (by_prompt["value"], by_prompt["low"], by_prompt["high"]) == (expected.value, expected.low, expected.high)
    assert by_prompt["value"] == 4 / 8
    assert by_prompt["p"] == significance.mcnemar(*prompts) == 2 / 2**4  # four gained, none lost
    expected = significance.paired_bootstrap(*each, **significance.SAMPLING)
    assert (by_instruction["value"], by_instruction["low"], by_instruction["high"]) == (
        expected.value,
        expected.low,
        expected.high,
    )
    assert by_instruction["value"] == pytest.approx(4 / 9)
    assert "delta" not in reference
    back = compared(second, first)["runs"][1]["delta"]["prompt_strict"]
    assert (back["value"], back["p"]) == (-4 / 8, by_prompt["p"])


def test_only_differences_are_listed_and_keys_of_one_name_share_a_row(checkout):
    first = finish(checkout, "first", FIRST)
    second = finish(checkout, "second", FIRST, seed=2, train__seed=2, train__learning_rate=0.003)
    comparison = compared(first, second)
    assert comparison["differences"]["config"] == [
        {"keys": ["train.learning_rate"], "values": ["0.001", "0.003"]},
        {"keys": ["seed", "train.seed"], "values": ["1", "2"]},
    ]
    assert not any(rows for section, rows in comparison["differences"].items() if section != "config")
    assert (comparison["same"]["config"], comparison["same"]["code"], comparison["same"]["data"]) == (1, 2, 1)
    text = typed(first, second)
    assert re.search(r"^seed \(\+1\) +1 +2$", text, re.MULTILINE)
    assert "Nothing differs. The same in all: 4 of config" in typed(first, finish(checkout, "again", FIRST))


def test_the_same_key_with_other_values_does_not_share_a_row():
    runs = [recorded_runs.run(params={"a.seed": first, "b.seed": second}) for first, second in (("1", "1"), ("1", "2"))]
    assert compare.differences(runs)["differences"]["config"] == [{"keys": ["b.seed"], "values": ["1", "2"]}]


def test_what_decides_most_comes_first_and_a_base_that_is_made_last():
    values = {"base.make.train.num_epochs", "base.make.llama.hidden_size", "train.weight_decay", "train.num_epochs"}
    values |= {"train.learning_rate", "train.base_model", "base.base_model", "prepare.take", "evaluate.limit"}
    params = [dict.fromkeys(values, number) | {"base.make.train.num_epochs": 3 * number} for number in ("1", "2")]
    runs = [recorded_runs.run(params=of_run) for of_run in params]
    assert [row["keys"] for row in compare.differences(runs)["differences"]["config"]] == [
        ["base.base_model", "train.base_model"],
        ["train.learning_rate"],
        ["train.num_epochs"],
        ["prepare.take"],
        ["evaluate.limit"],
        ["train.weight_decay"],
        ["base.make.llama.hidden_size"],
        ["base.make.train.num_epochs"],
    ]


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        ({}, ""),
        ({"base.sha256": "b"}, "The bases differ: these losses compare only if the tokenizers are the same."),
        ({"data.md5": "b"}, "The data or the template differ: these are losses of different texts."),
        ({"template.digest": "b"}, "The data or the template differ: these are losses of different texts."),
        ({"prepare.seed": "2"}, "The data or the template differ: these are losses of different texts."),
        ({"base.sha256": None, "base.model": "a"}, ""),  # of an earlier version
        (
            {"base.sha256": None, "base.model": "b"},
            "The bases differ: these losses compare only if the tokenizers are the same.",
        ),
        ({"model.md5": "b"}, ""),
    ],
)
def test_losses_that_are_not_on_one_scale_say_so(tags, says):
    same = {"base.model": "a", "base.sha256": "a", "data.md5": "a", "template.digest": "a", "model.md5": "a"}
    runs = []
    for id, own in (("a", {}), ("b", tags)):
        values = {key: value for key, value in ({"prepare.seed": "1"} | same | own).items() if value is not None}
        params = {key: value for key, value in values.items() if key.startswith("prepare.")}
        runs.append(recorded_runs.run(id=id, params=params, tags=values, status="FAILED"))
    records = [compare.Record(run, None, None) for run in runs]
    assert compare.compare(records, {"a": "a", "b": "b"}, 10, 0)["losses"] == says


def test_code_data_and_environment_differ_by_their_tags():
    tags = [
        {"git.dirty": "true", "versions.torch": "2", "x": "1"},
        {"git.dirty": "false", "versions.torch": "3", "data.md5": "m"},
    ]
    comparison = compare.differences([recorded_runs.run(tags=run_tags) for run_tags in tags])["differences"]
    assert comparison["code"] == [{"keys": ["git.dirty"], "values": ["true", "false"]}]
    assert comparison["environment"] == [{"keys": ["versions.torch"], "values": ["2", "3"]}]
    assert comparison["data"] == [{"keys": ["data.md5"], "values": [None, "m"]}]


def test_runs_that_were_evaluated_differently_are_shown_and_not_tested(checkout):
    first, other = finish(checkout, "first", FIRST), finish(checkout, "other", BETTER, batch_size=16)
    run = compared(first, other)["runs"][1]
    assert "delta" not in run
    assert run["why"] == "evaluated differently: batch_size 8 and 16"
    assert run["scores"]["tuned"]["prompt_strict"]["value"] == 7 / 8
    text = typed(first, other)
    assert "not tested: " in text
    assert "tuned (*)" in text
    assert "minus " not in text
    page = next((checkout / "work" / "compare").glob("*/compare.html")).read_text()
    assert "evaluated differently: batch_size 8 and 16" in page


def test_runs_evaluated_on_other_prompts_are_not_tested(checkout):
    ids = finish(checkout, "first", FIRST), finish(checkout, "fewer", FIRST[:6])
    assert compared(*ids)["runs"][1]["why"] == "evaluated differently: prompts 8 and 6, 6 of them the same"


def test_a_run_without_verdicts_shows_its_scores_and_how_to_get_the_test(checkout):
    old, new = finish(checkout, "old", FIRST, verdicts=False), finish(checkout, "new", BETTER)
    for ids in ((old, new), (new, old)):
        run = compared(*ids)["runs"][1]
        assert run["why"].startswith(
            f"{old[:8]} was recorded without the result of each prompt, which the test needs. Run its command again"
        )
        assert run["scores"]
    otherwise = finish(checkout, "old and otherwise", FIRST, batch_size=16, verdicts=False)
    assert compared(new, otherwise)["runs"][1]["why"].startswith("evaluated differently: evaluation digest ")


def test_a_run_that_failed_has_its_config_and_its_curve(checkout):
    finished, failed = finish(checkout, "whole", FIRST), fail(checkout, "failed", seed=7)
    comparison = compared(finished, failed)
    assert comparison["runs"][1]["why"] == f"{failed[:8]} has no scores (FAILED)"
    assert comparison["differences"]["config"] == [{"keys": ["seed"], "values": ["1", "7"]}]
    assert not comparison["differences"]["data"], "what a run that broke off did not come to is no difference"
    folder = checkout / "work" / "compare" / f"{finished[:8]}-{failed[:8]}"
    assert "failed" in (folder / "loss.svg").read_text()
    both = fail(checkout, "failed too")
    assert f"{failed[:8]} has no scores" in typed(failed, both)
    assert not (checkout / "work" / "compare" / f"{failed[:8]}-{both[:8]}" / "scores.png").exists()


def test_a_comparison_of_more_than_two_runs_says_that_p_values_are_not_corrected(checkout):
    ids = [finish(checkout, name, BETTER) for name in ("a", "b", "c")]
    assert "The p-values are not corrected for comparing 2 runs." in typed(*ids)
    assert "not corrected" not in typed(*ids[:2])


def test_the_text_keeps_within_the_width_and_never_cuts_a_score(checkout):
    long = "x" * 200
    ids = [finish(checkout, f"{long}{number}", BETTER if number else FIRST, prompt=f"{number}{long}") for number in range(4)]
    lines = typed(*ids).splitlines()
    assert max(len(line) for line in lines if not line.startswith("/")) <= 120
    assert sum("+50.0 [" in line and "p = 0.125" in line for line in lines) == 3
    assert any(line.startswith("The page has in full what ends in … here.") for line in lines)


class Page(HTMLParser):
    """Collect the tags of a page and the addresses in it."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for key, value in attributes if key in ("src", "href", "xlink:href") and value]


def test_the_page_is_self_contained_escapes_names_and_its_pictures_are_not_empty(checkout):
    ids = [finish(checkout, name, FIRST) for name in ("<b>bold</b> $x_1$ -->", "other")]
    text = typed(*ids, "--out", "here")
    names = ["compare.html", "scores.png", "scores.svg", "loss.png", "loss.svg"]
    assert text.splitlines()[-5:] == [f"here/{name}" for name in names]
    page = (checkout / "here" / "compare.html").read_text()
    read = Page(page)
    assert not {"script", "link", "img", "iframe", "b"} & set(read.tags)
    assert read.tags.count("svg") == 2
    assert not [address for address in read.addresses if not address.startswith("#")]
    assert "&lt;b&gt;bold&lt;/b&gt; $x_1$ --&gt;" in page
    for name in ("scores.png", "loss.png"):
        assert imread(checkout / "here" / name).std() > 0.03


def test_the_page_and_figures_are_uploaded_to_each_run_and_nothing_else_of_the_folder(checkout):
    ids = [finish(checkout, name, FIRST) for name in ("a", "b")]
    (checkout / "here").mkdir()
    (checkout / "here" / "secret.txt").write_text("mine")
    typed(*ids, "--out", "here")
    folder = f"compare/{ids[0][:8]}-{ids[1][:8]}"
    with connection.open_client(checkout) as client:
        for run in ids:
            names = {file.path.rpartition("/")[2] for file in client.list_artifacts(run, folder)}
            assert names == {"compare.html", "scores.png", "scores.svg", "loss.png", "loss.svg"}


def test_if_the_store_takes_no_files_the_page_is_still_written(checkout):
    ids = [finish(checkout, name, FIRST) for name in ("a", "b")]
    for run in ids:
        (checkout / "mlartifacts" / run / "artifacts" / "compare").write_text("in the way")
    ended = CliRunner().invoke(compare_command.command, [*ids, "--out", "here"], catch_exceptions=False)
    assert ended.exit_code == 0
    assert "The page is here, but not in the runs' records" in ended.stderr
    assert (checkout / "here" / "compare.html").is_file()


def test_runs_that_cannot_be_compared_are_refused_with_the_fix(checkout):
    first = finish(checkout, "first", FIRST)
    with mlflow_run.run(checkout, "sweep-1") as parent:
        parent.tags({"sweep": "sweep-1", "sweep.overrides": "seed=1,2"})
    with mlflow_run.run(checkout, "empty") as empty:
        pass
    for ids, says in (
        ([first], "two or more different runs"),
        ([first, "first"], "two or more different runs"),
        ([first, parent.id], rf"sweep-1\) is a sweep.*None of its jobs .*tunetrail show {parent.id[:8]}"),
        ([first, empty.id], r"empty\), FINISHED, has no params"),
        ([first, "nowhere"], "nowhere: no run has this id or name"),
    ):
        with pytest.raises(UserError, match=says):
            typed(*ids)
    many = [recorded_runs.run(str(number), params={"a": "b"}) for number in range(plots.MOST_RUNS + 1)]
    with pytest.raises(UserError, match="24 runs at most"):
        compare.check_comparable(many, {})
    (checkout / "file").touch()
    with pytest.raises(UserError, match="Give another folder: --out"):
        typed(first, finish(checkout, "second", FIRST), "--out", "file/below")


def test_a_name_that_an_earlier_version_used_is_no_difference():
    names = (
        ("tunetrail.live.HistoryPlugin", "src/tunetrail/world.py"),
        ("tunetrail.training.plugin.HistoryPlugin", "src/tunetrail/data/world.py"),
    )
    runs = [
        recorded_runs.run(params={"train.plugins.0": plugin, "prepare.path": path}, tags={"data.source": path})
        for plugin, path in names
    ]
    comparison = compare.differences(runs)
    assert not any(comparison["differences"].values())
    assert (comparison["same"]["config"], comparison["same"]["data"]) == (2, 1)


def test_the_counts_of_the_data_of_an_older_run_which_are_metrics_are_no_difference():
    older = recorded_runs.run(tags={"data.rows": "3900"}, metrics={"data/rows": 3900.0, "data/tokens": 1392640.0})
    newer = recorded_runs.run(tags={"data.rows": "3900", "data.tokens": "1392640"})
    assert compare.differences([older, newer])["differences"]["data"] == []
    other = recorded_runs.run(tags={"data.rows": "3900", "data.tokens": "7"})
    assert compare.differences([older, other])["differences"]["data"] == [
        {"keys": ["data.tokens"], "values": ["1392640", "7"]}
    ]

"""The stage `report` on outputs of the other stages in the tools' real formats."""

import json
import re
from html.parser import HTMLParser

import pytest

from tests.stage_outputs import left_by_a_run
from tunetrail.report import metrics, plots
from tunetrail.stages import report as stage

pytestmark = pytest.mark.stage


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """Make the report of a run without an MLflow run; tests only read it."""
    folder = tmp_path_factory.mktemp("run")
    left_by_a_run(folder)
    samples = next((folder / "eval_results" / "tuned").glob("*/samples_*"))
    samples.write_text(samples.read_text().replace("answer\u2028 0", "<script>alert(1)</script> | two\\nlines"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        stage.main()
    return folder / "report"


def test_metrics_have_both_models_their_difference_and_n(reported):
    metrics = json.loads((reported / "metrics.json").read_text())
    assert (metrics["prompts"], metrics["instructions"]) == (3, 4)
    assert metrics["ifeval"]["base"]["prompt_strict"]["value"] == 0
    assert metrics["ifeval"]["delta"]["prompt_strict"]["value"] == pytest.approx(2 / 3)
    assert metrics["ifeval"]["delta"]["prompt_strict"]["p"] == 0.5
    assert metrics["health"]["tuned"]["ended"] == pytest.approx(2 / 3)
    assert metrics["data"]["rows"]["raw"] == 2
    tuned = metrics["ifeval"]["tuned"]["inst_strict"]
    assert tuned["low"] <= tuned["value"] == 0.75 <= tuned["high"]
    assert metrics["train"] == {"steps": 2, "loss": 1.0, "validation_loss": 3.0}


def test_every_documented_file_is_written(reported):
    figures = {f"{name}.{kind}" for name in ("ifeval", "types", "loss", "lengths") for kind in ("png", "svg")}
    names = figures | {"metrics.json", "samples.md", "data_card.md", "report.html", "verdicts.json", "scores.json"}
    assert {file.name for file in reported.iterdir()} == names


def test_the_verdicts_have_the_followed_instructions_and_the_settings_of_the_evaluation(reported):
    verdicts = json.loads((reported / "verdicts.json").read_text())
    assert verdicts["evaluation_digest"] == json.loads((reported / "metrics.json").read_text())["evaluation_digest"]
    assert verdicts["asked"]["prompts"] == [[f"of doc {number}", f"of prompt {number}"] for number in range(3)]
    assert verdicts["asked"]["batch_size"] == 8
    assert verdicts["base"]["prompt_strict"] == [0, 0, 0]
    assert verdicts["base"]["inst_loose"] == [[0], [0, 1], [0]]
    assert verdicts["tuned"]["prompt_loose"] == [1, 1, 0]
    assert verdicts["tuned"]["inst_strict"] == [[1], [1, 1], [0]]


def test_the_scores_for_dvc_are_flat_and_named_as_in_mlflow(reported):
    scores = json.loads((reported / "scores.json").read_text())
    assert scores["ifeval/tuned/prompt_strict"] == 0.6667
    assert scores["ifeval/delta/inst_loose"] == 0.5
    assert (scores["train/loss"], scores["validation/loss"]) == (1.0, 3.0)
    assert len(scores) == 4 + 4 + 4 + 2
    from tunetrail.tracking import record

    assert set(scores) - {"train/loss", "validation/loss"} <= set(
        record.scores(json.loads((reported / "metrics.json").read_text()))
    )


def test_samples_are_side_by_side_and_an_answer_cannot_break_the_table(reported):
    lines = (reported / "samples.md").read_text().split("\n")
    assert "## 1. prompt 0" in lines
    assert "| base ✗ | tuned ✓ |" in lines
    assert "| answer\u2028 0 | " + r"&lt;script&gt;alert(1)&lt;/script&gt; \| two<br>lines |" in lines
    assert not any("prompt 2" in line for line in lines)


def test_missed_instructions_and_their_requirements_are_listed_below_a_failed_answer(reported):
    comma = "In your entire response, refrain from the use of any commas."
    lines = (reported / "samples.md").read_text().split("\n")
    below = lines.index("| base ✗ | tuned ✓ |") + 3
    assert lines[below] == f"| `punctuation:no_comma`: {comma} | |"
    assert lines[below + 1] == ""
    page = (reported / "report.html").read_text()
    assert page.count(f'<p class="missed">punctuation:no_comma: {comma}</p>') == 2  # of both prompts
    assert page.count('<p class="missed">') == 2  # the second prompt's other instruction is followed


def test_the_page_is_self_contained_and_executes_nothing_that_a_model_wrote(reported):
    text = (reported / "report.html").read_text()
    tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append((tag, dict(attributes)))
    parser.feed(text)
    assert [tag for tag, _ in tags].count("svg") == 4
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in tags}
    assert not any(
        re.match("https?:", a.get("href") or a.get("src") or "") for tag, a in tags if tag in ("a", "image", "use")
    )
    assert "&lt;script&gt;alert(1)" in text


def test_the_data_card_has_the_source_the_licence_the_counts_and_the_overlap(reported):
    card = (reported / "data_card.md").read_text()
    for line in (
        "Source: `my/rows.jsonl`.",
        "File `rows.jsonl`, md5 `of the rows`. License: `mit`.",
        "- 2 raw rows, where 3 are expected",
        "| repeating an earlier row word for word | 1 |",
        "| in all | 12 |",
        "> prompt 0",
    ):
        assert line in card, line


@pytest.fixture
def report_with(tmp_path, monkeypatch):
    """Report a run whose base answers prompt `number` with `text` instead, without drawing; returns the metrics."""

    def write(number, text):
        left_by_a_run(tmp_path)
        file = next((tmp_path / "eval_results" / "base").glob("*/samples_*"))
        file.write_text(re.sub(f"answer\u2028 {number}", lambda _: text, file.read_text()))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(plots, "save", lambda figure, path: path.with_suffix(".svg").write_text("<svg></svg>"))
        stage.main()
        return json.loads((tmp_path / "report" / "metrics.json").read_text())

    return write


def test_answers_that_start_a_new_block_are_cut_and_scored_again(report_with, tmp_path):
    """One of three answers starts a new block; cut, it has no comma."""
    measured = report_with(0, "none\\n### Instruction:\\none, two")
    assert measured["ifeval"]["base"]["prompt_strict"]["value"] == 0
    assert measured["ifeval_stopped"]["base"]["prompt_strict"]["value"] == pytest.approx(1 / 3)
    assert measured["ifeval_stopped"]["tuned"] == measured["ifeval"]["tuned"]
    assert measured["health"]["base"]["runs_on"] == pytest.approx(1 / 3)
    assert "Part of what tuning teaches is to stop" in (tmp_path / "report" / "report.html").read_text()
    assert "cut at ### Instruction:" in metrics.table(measured)


def test_cut_answers_are_shown_even_if_no_score_changes(report_with, tmp_path):
    measured = report_with(2, "one, two\\n### Instruction:\\nthree")
    assert measured["ifeval"] == measured["ifeval_stopped"]
    assert "No answer starts a new" not in metrics.table(measured)
    assert "cut at ### Instruction:" in metrics.table(measured)
    assert "No answer starts a new" not in (tmp_path / "report" / "report.html").read_text()


def test_the_table_has_scores_intervals_the_paired_difference_and_the_answers_health(reported):
    lines = metrics.table(json.loads((reported / "metrics.json").read_text())).splitlines()
    assert lines[0].startswith("ifeval: 3 prompts, 4 instructions (the published IFEval has 541 and 834)")
    assert any(re.match(r"Prompt Strict +0\.0 \[.*\] +66\.7 \[.*\] +\+66\.7 \[.*\] p = 0\.500", line) for line in lines)
    assert "No answer starts a new ### Instruction: block: a stop there changes nothing." in lines
    assert any(re.match(r"ended before the token cap +66\.7% +66\.7%", line) for line in lines)
    assert max(map(len, lines)) <= 120


def test_an_alert_is_above_every_table_of_scores(report_with, tmp_path):
    measured = report_with(0, "." * 256)
    assert measured["health"]["base"]["says_nothing"] == pytest.approx(1 / 3)
    sentence = "Of the answers of base 33.3% say nothing (no letter or digit), 33.3% never end"
    text = metrics.table(measured)
    assert text.index(sentence) < text.index("as generated")
    assert re.search(r"^says nothing +33\.3% +0\.0%$", text, re.MULTILINE)
    assert max(map(len, text.splitlines())) <= 120
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.index("Of the answers of base 33.3% say nothing") < page.index("<table>")


def test_a_base_with_only_empty_answers_is_an_alert_on_the_page_and_in_the_table(report_with, tmp_path):
    sentence = "Every answer of base is empty: its scores mean nothing."
    assert sentence in metrics.table(report_with(r"\d", " "))
    assert sentence in (tmp_path / "report" / "report.html").read_text()


@pytest.mark.parametrize(
    ("train", "processes", "described"),
    [
        (
            {"adapter": None, "learning_rate": 2e-5, "num_epochs": 3, "micro_batch_size": 2},
            8,
            {
                "method": "full: every weight",
                "learning rate": "2e-05",
                "epochs": "3",
                "batch": "16 = 2 x 1 x 8 (micro-batch x accumulation x processes)",
            },
        ),
        (
            {"adapter": "qlora", "lora_r": "32", "lora_alpha": "16", "max_steps": "50", "num_epochs": "1"},
            "1",
            {
                "method": "qlora, rank 32, alpha 16",
                "epochs": "1, at most 50 steps",
                "batch": "1 = 1 x 1 x 1 (micro-batch x accumulation x processes)",
            },
        ),
    ],
)
def test_the_training_method_is_described_from_a_config_and_from_mlflows_text_alike(train, processes, described):
    assert metrics.training(train, processes) == described
    as_text = {key: str(value) for key, value in train.items()}
    assert metrics.training(as_text, str(processes)) == described


def test_a_page_made_outside_of_a_run_says_so(reported):
    assert "Made by the stage <code>report</code> alone, outside of a run." in (reported / "report.html").read_text()


def test_the_page_starts_with_the_run_and_what_differs_from_the_defaults_and_figures_have_its_name(tmp_path, monkeypatch):
    left_by_a_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    run = {"id": "0a1b", "name": "seed=7 <b>", "started": "2026-01-01 10:00", "commit": "c0ffee", "dirty": True}
    run |= {"machine": "host", "training": {"method": "lora"}, "overrides": "seed=7", "experiment": "demo"}
    (tmp_path / "work" / "run.json").write_text(json.dumps(run | {"differs": [[["seed", "train.seed"], "7", "42"]]}))
    assert metrics.about(tmp_path) is None  # a killed run left the file
    monkeypatch.setenv(metrics.RUN, "0a1b")
    stage.main()
    text = (tmp_path / "report" / "report.html").read_text()
    assert "<title>three_prompts: base and tuned</title>" in text
    assert "<h1>three_prompts: does" in text
    order = [
        "<tr><th>Run</th><td>0a1b (seed=7 &lt;b&gt;)</td></tr>",
        "2026-01-01 10:00",
        "c0ffee, with uncommitted changes: changes.patch",
        "<tr><th>Machine</th><td>host</td></tr>",
        "<tr><th>Method</th><td>lora</td></tr>",
        '<td class="text">seed, train.seed</td><td class="text">7</td><td class="text">42</td>',
        "Accuracy in per cent",
        "<h2>What was run</h2>",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    for name in ("ifeval", "types", "loss", "lengths"):
        assert "<!-- three_prompts: seed=7" in (tmp_path / "report" / f"{name}.svg").read_text()  # drawn as curves

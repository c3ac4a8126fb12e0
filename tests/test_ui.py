"""A sweep's record -> MLflow's own UI, started as `make ui` starts it and driven in a headless Chromium by clicking.

A screenshot of each step is kept in test-artifacts/ (git ignores it), even if a step fails. The picture in the README is
made by the same functions from any store: python -m tests.test_ui STORE_URI RUN_ID RUN_ID... PNG
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

import pytest
from mlflow import MlflowClient
from playwright.sync_api import Error, expect, sync_playwright

from tests.conftest import ROOT
from tests.servers import free_port
from tests.stage_outputs import left_by_a_run
from tunetrail import launch
from tunetrail.config import check
from tunetrail.tracking import connection, mlflow_run, other_runs, record
from tunetrail.training import history

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

SHOTS = ROOT / "test-artifacts"
SWEEP = "sweep-1a2b3c4d"
STEPS = range(1, 21)
SCORE = "ifeval/tuned/prompt_strict"
JOBS = {  # a job's overrides, which are its run's name: its score
    "method=full train.learning_rate=0.001": 0.375,
    "method=lora train.learning_rate=0.001": 0.125,
    "method=lora train.learning_rate=0.003": 0.625,
}
COMPARED = "method=full train.learning_rate=0.001", "method=lora train.learning_rate=0.003"
# Plotly stores the data beside the drawing. MLflow draws a line twice, with the same name and points.
DRAWN = """area => Object.fromEntries([...area.querySelectorAll('.js-plotly-plot')].flatMap(
    plot => plot.data.map(trace => [trace.name ?? 'bars', [[...trace.x], [...trace.y]]])))"""
# A comparison's table of details, parameters or tags.
ROWS = """area => Object.fromEntries([...area.querySelectorAll('tr')].map(
    row => [...row.cells].map(cell => cell.innerText.trim())).map(([name, ...values]) => [name, values]))"""
PATIENCE = 20  # seconds for a page or a drawing
expect.set_options(timeout=1000 * PATIENCE)


def chromium():
    """Return the path of the Chromium on this machine."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for path in map(shutil.which, names) if path), None)


@contextlib.contextmanager
def serving(uri, log):
    """Start the UI on the store at `uri` with the command of the Makefile's target `ui`; yield its address."""
    line = re.search(r"^ui:.*\n\t@(.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    port = str(free_port())
    words = shlex.split(line.replace("$$MLFLOW_TRACKING_URI", uri).replace("5000", port))
    command = ["env", *words, "--workers", "1"]  # not MLflow's four: one user needs one
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=log.parent, env=launch.environment(), stdout=output, stderr=output, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while not answers(f"{address}/health"):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.2)
        yield address
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)


def answers(address):
    with contextlib.suppress(OSError):
        return urllib.request.urlopen(address, timeout=5).status == 200
    return False


@contextlib.contextmanager
def browsing(scale=1):
    """Yield a function that opens a window of a Chromium without history."""
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=chromium()) as browser:

        def window():
            return browser.new_page(viewport={"width": 1400, "height": 1000}, device_scale_factor=scale)

        try:
            yield window
        except (AssertionError, Error):
            for number, page in enumerate(page for context in browser.contexts for page in context.pages):
                keep(page, f"failed-{number}")
            raise


def keep(page, name):
    SHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png")


def close_assistant(page):
    """Close MLflow's assistant, which opens over a third of the window, once per browser."""
    page.get_by_role("button", name="Close", exact=True).click()


def choose_training(page):
    """Choose the pages for training; MLflow 3.17 opens those for GenAI until the user chooses, once per browser."""
    page.get_by_role("button", name="Got it").click()
    close_assistant(page)
    page.get_by_text("Model training", exact=True).click()


def row(page, name):
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))


def comparison(address, experiment, runs):
    """Return the link to the comparison of these runs; it also chooses the pages for training."""
    where = f"runs={json.dumps(runs)}&experiments={json.dumps([experiment])}"
    return f"{address}/#/compare-runs?{where}&workflowType=machine_learning"


def open_curve(page, metric):
    """Open the curves of `metric` from a comparison, by its name in the scrolling table of metrics."""
    section = page.locator(".du-bois-light-collapse-item").filter(has=page.get_by_role("button", name="Metrics", exact=True))
    link = section.get_by_role("link", name=metric, exact=True)
    table = section.locator(".ReactVirtualized__Grid").last  # the values; the names scroll with them
    expect(table).to_be_visible()
    deadline = time.monotonic() + PATIENCE
    while not within(link, table) and time.monotonic() < deadline:
        table.hover()
        page.mouse.wheel(0, 100)
        page.wait_for_timeout(100)
    link.click()
    expect(page.get_by_role("heading", name=metric, exact=True).first).to_be_visible()


def within(link, table):
    """Return whether the link is in the visible part of the table."""
    if not link.count():
        return False
    inner, outer = link.bounding_box(), table.bounding_box()
    return outer["y"] <= inner["y"] and inner["y"] + inner["height"] <= outer["y"] + outer["height"]


def drawn(area, wanted):
    """Return the drawn points, {name: [x, y]}, once they are those wanted, or after PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while (points := area.evaluate(DRAWN)) != wanted and time.monotonic() < deadline:
        area.page.wait_for_timeout(200)
    return points


def loss(name, step):
    """Return a loss that differs between jobs."""
    return 2.0 + 3.0 / step + list(JOBS).index(name) / 8


@pytest.fixture
def sweep(root, composed, monkeypatch, tmp_path_factory):
    """Record a sweep of three jobs as a sweep and its jobs do; return the runs' ids by name."""
    ids = {}
    with mlflow_run.run(root, SWEEP, folder=tmp_path_factory.mktemp("sweep")) as parent:
        parent.tags({"sweep": SWEEP, "sweep.overrides": "method=full,lora train.learning_rate=0.001,0.003"})
        for name, score in JOBS.items():
            tags = {"sweep": SWEEP, "sweep.overrides": name, "job.digest": f"{len(ids):010x}"}
            ids[name] = other_runs.child(root, parent.id, name, tags).id
            folder = root / "runs" / SWEEP / tags["job.digest"]  # as in a sweep
            folder.mkdir(parents=True)
            left_by_a_run(folder)
            curve = folder / "outputs" / "train" / "history.jsonl"
            curve.unlink()
            for step in STEPS:
                history.append(curve, step, 1.0 + step, {"loss": loss(name, step)})
            metrics = json.loads((folder / "report" / "metrics.json").read_text())
            metrics["ifeval"]["tuned"]["prompt_strict"]["value"] = score
            (folder / "report" / "metrics.json").write_text(json.dumps(metrics))
            values = composed("experiment=demo", *name.split())
            monkeypatch.setenv("MLFLOW_RUN_ID", ids[name])
            with mlflow_run.run(folder, "demo", params=check.flatten(values)) as run:
                run.params(check.flatten(values))
                record.upload(run, folder, values)
        parent.metrics({"sweep/jobs": len(JOBS), "sweep/failed": 0})
    return ids


@pytest.mark.skipif(not chromium(), reason="no chromium, chromium-browser or google-chrome on PATH: install one")
def test_a_sweep_is_opened_and_two_of_its_jobs_are_compared_without_set_up(root, sweep, tmp_path_factory):
    log = tmp_path_factory.mktemp("ui") / "log"
    shutil.rmtree(SHOTS, ignore_errors=True)
    experiment = MlflowClient(connection.uri(root)).get_experiment_by_name(connection.EXPERIMENT).experiment_id
    curves = {name: [list(STEPS), [loss(name, step) for step in STEPS]] for name in JOBS}
    with serving(connection.uri(root), log) as address, browsing() as window:
        page = window()
        urls = []
        page.on("request", lambda request: urls.append(request.url))
        page.goto(f"{address}/#/experiments/{experiment}")
        choose_training(page)

        expect(row(page, SWEEP)).to_be_visible()
        assert not row(page, COMPARED[0]).count()
        row(page, SWEEP).get_by_role("button").click()
        for name in JOBS:
            expect(row(page, name)).to_be_visible()
        keep(page, "1-sweep")

        page.locator("label").filter(has=page.locator("input[value=CHART]")).click()
        page.get_by_placeholder("Search metric charts").fill(f"train/loss|{SCORE}")
        cards = page.get_by_test_id("experiment-view-compare-runs-card")
        expect(cards).to_have_count(2)
        bars = {"bars": [list(JOBS.values()), [sweep[name] for name in JOBS]]}
        assert drawn(cards.filter(has_text=SCORE), bars) == bars
        assert drawn(cards.filter(has_text="train/loss"), curves) == curves
        keep(page, "2-charts")

        page.locator("label").filter(has=page.locator("input[value=TABLE]")).click()
        for name in COMPARED:
            row(page, name).locator("input.ag-checkbox-input").click()
        page.get_by_role("button", name="Compare", exact=True).click()
        expect(page.get_by_text("Comparing 2 Runs from 1 Experiment")).to_be_visible()
        for number in range(2):  # for the parameters and for the metrics
            page.get_by_role("switch").nth(number).click()
        rows = page.locator("main").evaluate(ROWS)
        assert sorted(rows["Run Name:"]) == sorted(COMPARED)
        assert sorted(rows["train.learning_rate"]) == ["0.001", "0.003"]
        assert sorted(rows["train.adapter"]) == ["", "lora"]
        assert "train.optimizer" not in rows  # the same in both
        for name in COMPARED:
            expect(page.get_by_text(str(JOBS[name]), exact=True)).to_be_visible()
        keep(page, "3-comparison")

        open_curve(page, "train/loss")
        two = {name: curves[name] for name in COMPARED}
        assert drawn(page.locator("main"), two) == two
        keep(page, "4-curves")
        assert not [url for url in urls if not url.startswith((address, "data:", "blob:"))]

        other = window()  # of another user, who got the link
        other.goto(comparison(address, experiment, [sweep[name] for name in COMPARED]))
        close_assistant(other)
        expect(other.get_by_text("Comparing 2 Runs from 1 Experiment")).to_be_visible()
        assert other.locator("main").evaluate(ROWS)["Run Name:"] == list(COMPARED)
        expect(other.get_by_role("link", name="Model registry")).to_be_visible()  # not the pages for GenAI
        keep(other, "5-linked")


def main(uri, *words):
    """Keep the loss curves of runs, as the UI compares them, in a PNG: the last of `words`, after the ids of the runs."""
    *runs, file = words
    experiment = MlflowClient(uri).get_run(runs[0]).info.experiment_id
    SHOTS.mkdir(exist_ok=True)
    with serving(uri, SHOTS / "ui.log") as address, browsing(scale=1.5) as window:
        page = window()
        page.goto(comparison(address, experiment, runs))
        close_assistant(page)
        open_curve(page, "train/loss")
        expect(page.locator(".js-plotly-plot .scatterlayer .trace")).to_have_count(2 * len(runs))
        area, table = (page.locator(part).last.bounding_box() for part in ("main", "main table"))
        page.screenshot(path=file, clip=area | {"height": table["y"] + table["height"] + 20 - area["y"]})


if __name__ == "__main__":
    main(*sys.argv[1:])

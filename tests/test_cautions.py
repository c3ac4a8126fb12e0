"""Rules that warn; each bound is tried on both sides, and each mend typed and looked at again."""

import json
import os
import subprocess
import sys

import pytest

from tests.planned import GIB, facts, mended
from tunetrail import launch
from tunetrail.plan import cautions
from tunetrail.plan.finding import WARNING

PUT_RIGHT = "experiment=llama3_8b_alpaca"
PUBLISHED = "experiment=llama3_8b_alpaca_published"
TINY = {"parameters": 821_000}


def said(rule, composed, *words, **changes):
    values = composed(*words)
    return rule(values, facts(values, **changes))


def test_every_finding_has_the_code_of_its_rule_and_is_a_warning(composed):
    values = composed(
        PUBLISHED,
        "base.revision_of_model=main",
        "+train.trust_remote_code=true",
        "train.learning_rate=1e-1",
        "plan.num_gpus=4",
    )
    found = facts(
        values,
        steps={"total": 27, "rows_per_step": 5400.0},
        data={"dropped": 30_000},
        disk={"checkpoints": 3},
        flops={"validation": 1.92e18},
    )
    all_said = [rule(values, found) for rule in cautions.RULES]
    assert [one.code for one in all_said] == [rule.__name__.upper() for rule in cautions.RULES]
    assert {one.level for one in all_said} == {WARNING}
    assert len({one.why for one in all_said}) == len(all_said)


# What validation costs.


@pytest.mark.parametrize(("validation", "warned"), [(0.0, False), (0.25e18, False), (0.26e18, True)])
def test_validation_may_cost_a_quarter_of_training(composed, validation, warned):
    flops = {"validation": validation, "training": 0.75e18, "recomputed": 0.25e18}
    assert bool(said(cautions.evaluation_costly, composed, PUBLISHED, flops=flops)) == warned


def test_padded_validation_is_mended_by_packing_it(composed, known):
    flops = {"validation": 1.92e18, "training": 1.29e18, "recomputed": 0.43e18}
    found = said(cautions.evaluation_costly, composed, PUBLISHED, flops=flops)
    assert found.what == "validation computes 1.92e18 FLOP, 112% of training's 1.72e18"
    assert mended(composed, known, found, PUBLISHED)["train"]["eval_sample_packing"] is True


@pytest.mark.parametrize("words", [(PUT_RIGHT,), ("train.sample_packing=false", "train.eval_sample_packing=false")])
def test_validation_that_is_packed_already_or_cannot_be_is_mended_by_fewer_rows(composed, known, words):
    flops = {"validation": 1.0e18, "training": 1.0e18, "recomputed": 0.0}
    found = said(cautions.evaluation_costly, composed, *words, flops=flops, data={"validation": 1000})
    values = mended(composed, known, found, *words)
    assert values["prepare"]["validation_rows"] == 250
    share = flops | {"validation": 1.0e18 * 250 / 1000}
    assert said(cautions.evaluation_costly, composed, *words, flops=share) is None


# Steps and batches.


@pytest.mark.parametrize(("total", "warned"), [(49, True), (50, False)])
def test_fifty_steps_are_enough_to_say_nothing(composed, total, warned):
    assert bool(said(cautions.few_steps, composed, steps={"total": total})) == warned


@pytest.mark.parametrize(
    ("words", "steps", "expected"),
    [
        # 16 sequences a step on each GPU, of which 8 make 54 steps.
        ((PUBLISHED,), {"total": 27, "rows_per_step": 5400}, {"micro_batch_size": 8, "gradient_accumulation_steps": 1}),
        ((PUBLISHED,), {"total": 3, "rows_per_step": 5400}, {"num_epochs": 50}),
        ((PUT_RIGHT,), {"total": 49, "rows_per_step": 128}, {"num_epochs": 4}),  # one sequence already
        # A smaller step would have too few rows.
        ((PUBLISHED,), {"total": 25, "rows_per_step": 20}, {"num_epochs": 6, "gradient_accumulation_steps": 2}),
        ((PUT_RIGHT, "+train.max_steps=12"), {"total": 12, "rows_per_step": 128}, {"max_steps": None}),
    ],
)
def test_few_steps_are_mended_by_smaller_ones_else_by_more_epochs(composed, known, words, steps, expected):
    found = said(cautions.few_steps, composed, *words, steps=steps)
    assert found.what == f"the run has {steps['total']} optimiser steps, of {steps['rows_per_step']:,} rows each"
    train = mended(composed, known, found, *words)["train"]
    assert {key: train.get(key) for key in expected} == expected


@pytest.mark.parametrize(("rows", "warned"), [(15.9, True), (16.0, False), (128.0, False), (1024.0, False), (1025.0, True)])
def test_a_step_may_have_an_eighth_to_eight_times_the_recipes_rows(composed, rows, warned):
    steps = {"rows_per_step": rows}
    assert bool(said(cautions.batch_far, composed, PUBLISHED, steps=steps)) == warned
    assert said(cautions.batch_far, composed, steps=steps, model=TINY) is None
    assert said(cautions.batch_far, composed, steps=steps, model={"parameters": 99_999_999}) is None


@pytest.mark.parametrize(
    ("words", "rows", "longest"),
    [
        ((PUBLISHED,), 5400.0, 650),
        ((PUBLISHED,), 1030.0, 650),
        ((PUT_RIGHT, "train.sequence_len=65536"), 2700.0, 650),
        ((PUT_RIGHT, "train.sequence_len=65536"), 2700.0, 4000),
        (("experiment=smollm2_135m_alpaca_lora",), 10.6, 500),
    ],
)
def test_the_mend_of_a_far_batch_is_not_far(composed, known, words, rows, longest):
    before = composed(*words)
    found = said(cautions.batch_far, composed, *words, steps={"rows_per_step": rows}, data={"longest": longest})
    assert f"a step takes {rows:,.0f} rows, " in found.what
    train, size = mended(composed, known, found, *words)["train"], 1.0
    for key in ("micro_batch_size", "gradient_accumulation_steps", "sequence_len"):
        size *= train[key] / before["train"][key]
    assert train["micro_batch_size"] <= before["train"]["micro_batch_size"]  # no more memory than before
    assert train["sequence_len"] >= longest
    assert said(cautions.batch_far, composed, *words, steps={"rows_per_step": rows * size}) is None


# Rows.


@pytest.mark.parametrize(
    ("dropped", "cut", "warned"),
    [(0, 0, False), (50, 0, False), (25, 25, False), (51, 0, True), (0, 51, True), (26, 25, True)],
)
def test_five_percent_of_the_rows_may_be_lost(composed, dropped, cut, warned):
    data = {"train": 1000, "dropped": dropped, "cut": cut}
    assert bool(said(cautions.rows_cut, composed, data=data)) == warned


def test_lost_rows_are_mended_by_longer_sequences_where_the_model_goes_so_far(composed, known):
    words = (PUT_RIGHT, "train.sequence_len=512")
    found = said(cautions.rows_cut, composed, *words, data={"train": 1000, "dropped": 80, "longest": 650})
    assert found.what == (
        "8.0% of 1,000 rows are not trained on whole, 80 dropped and 0 cut: the longest has 650 tokens, a sequence 512"
    )
    assert mended(composed, known, found, *words)["train"]["sequence_len"] == 704
    words = (PUT_RIGHT, "train.sequence_len=8192", "train.excess_length_strategy=truncate")
    data = {"train": 1000, "cut": 80, "longest": 9000}
    found = said(cautions.rows_cut, composed, *words, data=data)
    assert mended(composed, known, found, *words)["train"]["excess_length_strategy"] == "drop"
    found = said(cautions.rows_cut, composed, *words[:2], data=data)
    assert mended(composed, known, found, *words[:2])["prepare"]["path"] == "FILE"


# Checkpoints.


@pytest.mark.parametrize(("number", "warned"), [(0, False), (1, False), (2, True), (5, True)])
def test_one_checkpoint_is_kept_without_a_word(composed, known, number, warned):
    found = said(cautions.checkpoints_kept, composed, PUBLISHED, disk={"checkpoints": number, "checkpoint": 33 * GIB})
    assert bool(found) == warned
    if warned:
        assert found.what == f"{number} checkpoints of 33.0 GiB are kept, and no train.save_total_limit"
        assert mended(composed, known, found, PUBLISHED)["train"]["save_total_limit"] == 1


def test_a_limit_is_what_the_person_wants(composed):
    assert said(cautions.checkpoints_kept, composed, PUT_RIGHT, disk={"checkpoints": 2}) is None


# Where things come from.


@pytest.mark.parametrize(
    ("words", "warned"),
    [
        ((PUT_RIGHT,), False),
        ((PUT_RIGHT, "base.revision_of_model=main"), True),
        ((PUT_RIGHT, "base.revision_of_model=null"), True),
        ((PUT_RIGHT, "base.revision_of_model=8cde5ca"), True),
        ((PUT_RIGHT, f"base.revision_of_model={'8cde5ca8' * 5}-dirty"), True),
        (("model=local", "base.base_model=my-model"), False),
        ((), False),  # the demo makes its own
    ],
)
def test_a_model_of_the_hub_is_pinned_by_a_whole_commit(composed, known, words, warned):
    found = said(cautions.unpinned, composed, *words)
    assert bool(found) == warned
    if warned:
        assert "meta-llama/Meta-Llama-3-8B" in found.what
        assert mended(composed, known, found, *words)["train"]["model_revision"] == "COMMIT"


@pytest.mark.parametrize(
    ("license", "warned"),
    [
        *(("cc-by-nc-4.0", True), ("cc-by-nc-sa-4.0", True), ("CC-BY-NC-ND-3.0", True), ("intel-research", True)),
        *(("fair-noncommercial-research-license", True), ("apache-2.0", False), ("cc-by-4.0", False), ("llama3", False)),
        *(("ncsa", False), (None, False)),
    ],
)
def test_a_licence_that_forbids_commercial_use_is_said(composed, license, warned):
    assert bool(said(cautions.non_commercial, composed, data={"license": license})) == warned
    values = composed() | {"base": composed()["base"] | {"license": license}}
    assert bool(cautions.non_commercial(values, facts(values))) == warned


def test_other_data_and_another_base_mend_it(composed, known):
    words = (PUT_RIGHT, "base.license=cc-by-nc-4.0")
    found = said(cautions.non_commercial, composed, *words)
    assert found.what == "the data's licence is cc-by-nc-4.0 and the base model's licence is cc-by-nc-4.0"
    values = mended(composed, known, found, *words)
    assert cautions.non_commercial(values, facts(values)) is None
    assert (values["prepare"]["hub"], values["base"]["base_model"]) == (None, "ORG/NAME")


@pytest.mark.parametrize(
    "key", ["train.trust_remote_code", "evaluate.trust_remote_code", "evaluate.model_args.trust_remote_code"]
)
def test_code_that_comes_with_a_model_is_said_wherever_it_is_let_in(composed, known, key):
    assert said(cautions.remote_code, composed, f"+{key}=false") is None
    found = said(cautions.remote_code, composed, f"+{key}=true")
    assert found.what == f"{key}: on"
    values = mended(composed, known, found, f"+{key}=true")
    assert cautions.remote_code(values, facts(values)) is None


# The learning rate.


@pytest.mark.parametrize(
    ("parameters", "method", "rate", "warned"),
    [
        *(
            (8e9, "full", 1e-6, False),
            (8e9, "full", 2e-5, False),
            (8e9, "full", 1e-4, False),
            (8e9, "full", 2e-4, True),
            (8e9, "full", 9e-7, True),
        ),
        *(
            (70e9, "full", 2e-6, False),
            (1.7e9, "full", 3e-4, False),
            (135e6, "full", 1e-3, False),
            (135e6, "full", 6e-3, True),
        ),
        *((1e9, "full", 2e-5, False), (1e9, "full", 4e-6, True)),
        *((8e9, "lora", 2e-4, False), (65e9, "qlora", 1e-4, False), (8e9, "lora", 2e-5, True), (8e9, "qlora", 3e-3, True)),
        *((0.8e6, "full", 3e-3, False), (15e6, "full", 5e-4, False), (0.8e6, "lora", 3e-3, False)),
        *((0.8e6, "full", 2e-5, True), (0.8e6, "full", 0.1, True), (99e6, "full", 9e-5, True), (100e6, "full", 9e-5, False)),
    ],
)
def test_the_rates_of_known_recipes_pass_and_those_far_beside_them_do_not(composed, known, parameters, method, rate, warned):
    words = (f"method={method}", f"train.learning_rate={rate}")
    model = {"parameters": int(parameters)}
    found = said(cautions.learning_rate_far, composed, *words, model=model)
    assert bool(found) == warned
    if warned:
        values = mended(composed, known, found, *words)
        assert cautions.learning_rate_far(values, facts(values, model=model)) is None


def test_no_shipped_experiment_has_a_rate_far_from_the_usual(composed):
    for name, parameters in {
        **{"demo": 821_000, "llama3_8b_alpaca": 8_030_261_248, "llama3_8b_alpaca_published": 8_030_261_248},
        **{"llama3_8b_alpaca_lora": 8_030_261_248, "smollm2_135m_alpaca_lora": 134_515_008},
    }.items():
        assert said(cautions.learning_rate_far, composed, f"experiment={name}", model={"parameters": parameters}) is None


# Telemetry.

ON = [
    ({"AXOLOTL_DO_NOT_TRACK": "0", "DO_NOT_TRACK": "0"}, ["Axolotl"]),
    ({"HF_HUB_DISABLE_TELEMETRY": "false", "DO_NOT_TRACK": ""}, ["the Hugging Face hub"]),
    ({"MLFLOW_DISABLE_TELEMETRY": "false"}, ["MLflow"]),  # for MLflow alone DO_NOT_TRACK=1 is not off
    ({"AXOLOTL_DO_NOT_TRACK": "yes", "HF_HUB_DISABLE_TELEMETRY": "0", "DO_NOT_TRACK": "yes"}, ["Axolotl"]),
]
OFF = [
    {},
    {"AXOLOTL_DO_NOT_TRACK": "0"},  # DO_NOT_TRACK, which launch sets, turns it off all the same
    {"HF_HUB_DISABLE_TELEMETRY": "0"},
    {"MLFLOW_DISABLE_TELEMETRY": "false", "DO_NOT_TRACK": "true"},
    {"DO_NOT_TRACK": "0"},
    {"DVC_NO_ANALYTICS": ""},  # .dvc/config has it off
]


@pytest.mark.parametrize(("environ", "tools"), ON)
def test_telemetry_that_is_turned_on_is_said_by_tool(environ, tools):
    found = cautions.telemetry_on(environ)
    assert (found.code, found.level) == ("TELEMETRY_ON", WARNING)
    assert found.what == f"telemetry of {', '.join(tools)} is on by the environment"
    after = {name: value for name, value in environ.items() if name not in found.mend.split()}
    assert cautions.telemetry_on(launch.TELEMETRY_OFF | after) is None


@pytest.mark.parametrize("environ", OFF)
def test_telemetry_that_stays_off_is_not_spoken_of(environ):
    assert cautions.telemetry_on(environ) is None
    assert cautions.telemetry_on(launch.TELEMETRY_OFF | environ) is None


def test_the_switches_are_those_that_launch_sets():
    named = {name for switches in cautions.SWITCHES.values() for name in switches}
    assert named == set(launch.TELEMETRY_OFF) - {"DVC_NO_ANALYTICS"}


# Everything is imported while all is off, so that nothing is sent.
ASK = """
import importlib, json, os, sys
from huggingface_hub import constants
from mlflow.telemetry.utils import is_telemetry_disabled
from axolotl.telemetry.manager import TelemetryManager
for given in json.loads(sys.argv[1]):
    os.environ.update(given)
    importlib.reload(constants)
    on = {
        "Axolotl": TelemetryManager._check_telemetry_enabled(object.__new__(TelemetryManager)),
        "the Hugging Face hub": not constants.HF_HUB_DISABLE_TELEMETRY,
        "MLflow": not is_telemetry_disabled(),
    }
    print("on:", json.dumps([tool for tool, sends in on.items() if sends]))
"""


@pytest.mark.stage
def test_the_tools_themselves_read_the_switches_so():
    """As `launch` starts them, and away from CI, where MLflow sends nothing whatever is set."""
    ours = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    environs = [environ for environ, _ in ON] + OFF
    given = json.dumps([launch.TELEMETRY_OFF | environ for environ in environs])
    command = [sys.executable, "-c", ASK, given]
    printed = subprocess.run(command, env=ours | launch.TELEMETRY_OFF, capture_output=True, text=True, check=True).stdout
    on = [json.loads(line.removeprefix("on: ")) for line in printed.splitlines() if line.startswith("on: ")]
    assert on == [tools for _, tools in ON] + [[]] * len(OFF)


# The plan's devices.


def test_a_plan_for_other_gpus_than_the_run_takes_is_said(composed, known):
    words = ("experiment=llama3_8b_alpaca_lora", "plan.num_gpus=8")
    values = composed(*words)
    said = cautions.planned_otherwise(values, facts(values))
    assert said.what == "the plan is for 8 x mi300x and the run would take 1"
    after = mended(composed, known, said, *words)
    assert (after["accelerate"]["num_processes"], after["accelerate"]["multi_gpu"]) == (8, True)
    assert cautions.planned_otherwise(after, facts(after)) is None


def test_a_gpu_planned_for_a_run_on_the_cpu_is_said(composed):
    values = composed()
    said = cautions.planned_otherwise(values, facts(values))
    assert said.what.endswith("the run would take this machine's CPU")
    assert cautions.planned_otherwise(values, facts(values, device={"name": "cpu", "count": 1})) is None

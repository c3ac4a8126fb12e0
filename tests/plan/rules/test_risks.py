"""Rules that warn; each bound is tried on both sides, and each fix typed and looked at again."""

import json
import os
import subprocess
import sys

import pytest

from tests.planned import each_of_its_own, facts, fixed, said
from tunetrail import launch
from tunetrail.plan.rules import risks
from tunetrail.plan.rules.finding import WARNING
from tunetrail.units import GIB

PUT_RIGHT = "experiment=llama3_8b_alpaca"
PUBLISHED = "experiment=llama3_8b_alpaca_published"
TINY = {"parameters": 821_000}


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
    all_said = [rule(values, found) for rule in risks.RULES]
    each_of_its_own(risks.RULES, WARNING, all_said)


# Checkpoints.


@pytest.mark.parametrize(("number", "warned"), [(0, False), (1, False), (2, True), (5, True)])
def test_one_checkpoint_is_kept_without_a_word(composed, known, number, warned):
    found = said(risks.checkpoints_kept, composed, PUBLISHED, disk={"checkpoints": number, "checkpoint": 33 * GIB})
    assert bool(found) == warned
    if warned:
        assert found.what == f"{number} checkpoints of 33.0 GiB are kept, and no train.save_total_limit"
        assert fixed(composed, known, found, PUBLISHED)["train"]["save_total_limit"] == 1


def test_a_limit_is_what_the_person_wants(composed):
    assert said(risks.checkpoints_kept, composed, PUT_RIGHT, disk={"checkpoints": 2}) is None


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
    found = said(risks.unpinned, composed, *words)
    assert bool(found) == warned
    if warned:
        assert "meta-llama/Meta-Llama-3-8B" in found.what
        assert fixed(composed, known, found, *words)["train"]["model_revision"] == "COMMIT"


@pytest.mark.parametrize(
    ("license", "warned"),
    [
        *(("cc-by-nc-4.0", True), ("cc-by-nc-sa-4.0", True), ("CC-BY-NC-ND-3.0", True), ("intel-research", True)),
        *(("fair-noncommercial-research-license", True), ("apache-2.0", False), ("cc-by-4.0", False), ("llama3", False)),
        *(("ncsa", False), (None, False)),
    ],
)
def test_a_licence_that_forbids_commercial_use_is_said(composed, license, warned):
    assert bool(said(risks.non_commercial, composed, data={"license": license})) == warned
    values = composed() | {"base": composed()["base"] | {"license": license}}
    assert bool(risks.non_commercial(values, facts(values))) == warned


def test_other_data_and_another_base_mend_it(composed, known):
    words = (PUT_RIGHT, "base.license=cc-by-nc-4.0")
    found = said(risks.non_commercial, composed, *words)
    assert found.what == "the data's licence is cc-by-nc-4.0 and the base model's licence is cc-by-nc-4.0"
    values = fixed(composed, known, found, *words)
    assert risks.non_commercial(values, facts(values)) is None
    assert (values["prepare"]["hub"], values["base"]["base_model"]) == (None, "ORG/NAME")


@pytest.mark.parametrize(
    "key", ["train.trust_remote_code", "evaluate.trust_remote_code", "evaluate.model_args.trust_remote_code"]
)
def test_code_that_comes_with_a_model_is_said_wherever_it_is_let_in(composed, known, key):
    assert said(risks.remote_code, composed, f"+{key}=false") is None
    found = said(risks.remote_code, composed, f"+{key}=true")
    assert found.what == f"{key}: on"
    values = fixed(composed, known, found, f"+{key}=true")
    assert risks.remote_code(values, facts(values)) is None


# Telemetry.

ON = [
    ({"AXOLOTL_DO_NOT_TRACK": "0", "DO_NOT_TRACK": "0"}, ["Axolotl"]),
    ({"HF_HUB_DISABLE_TELEMETRY": "false", "DO_NOT_TRACK": ""}, ["the Hugging Face hub"]),
    ({"MLFLOW_DISABLE_TELEMETRY": "false"}, ["MLflow"]),  # for MLflow alone DO_NOT_TRACK=1 is not off
    ({"AXOLOTL_DO_NOT_TRACK": "yes", "HF_HUB_DISABLE_TELEMETRY": "0", "DO_NOT_TRACK": "yes"}, ["Axolotl"]),
]
OFF = [
    {},
    {"AXOLOTL_DO_NOT_TRACK": "0"},  # DO_NOT_TRACK, which launch sets, turns it off anyway
    {"HF_HUB_DISABLE_TELEMETRY": "0"},
    {"MLFLOW_DISABLE_TELEMETRY": "false", "DO_NOT_TRACK": "true"},
    {"DO_NOT_TRACK": "0"},
    {"DVC_NO_ANALYTICS": ""},  # .dvc/config has it off
]


@pytest.mark.parametrize(("environ", "tools"), ON)
def test_telemetry_that_is_turned_on_is_said_by_tool(environ, tools):
    found = risks.telemetry_on(environ)
    assert (found.code, found.level) == ("TELEMETRY_ON", WARNING)
    assert found.what == f"telemetry of {', '.join(tools)} is on by the environment"
    after = {name: value for name, value in environ.items() if name not in found.fix.split()}
    assert risks.telemetry_on(launch.TELEMETRY_OFF | after) is None


@pytest.mark.parametrize("environ", OFF)
def test_telemetry_that_stays_off_is_not_spoken_of(environ):
    assert risks.telemetry_on(environ) is None
    assert risks.telemetry_on(launch.TELEMETRY_OFF | environ) is None


def test_the_switches_are_those_that_launch_sets():
    named = {name for switches in risks.SWITCHES.values() for name in switches}
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
    spoken = risks.planned_otherwise(values, facts(values))
    assert spoken.what == "the plan is for 8 x mi300x and the run would take one GPU"
    after = fixed(composed, known, spoken, *words)
    assert (after["accelerate"]["num_processes"], after["accelerate"]["multi_gpu"]) == (8, True)
    assert risks.planned_otherwise(after, facts(after)) is None


def test_a_gpu_planned_for_a_run_on_the_cpu_is_said(composed):
    values = composed()
    spoken = risks.planned_otherwise(values, facts(values))
    assert spoken.what.endswith("the run would take this machine's CPU")
    assert spoken.fix == "hardware=rocm"
    here = {"name": "cpu", "count": 1, "maker": ""}
    assert risks.planned_otherwise(values, facts(values, device=here)) is None
    values = composed("hardware=cuda")
    assert risks.planned_otherwise(values, facts(values, device=here)).fix == "hardware=cpu"
    values = composed("plan.num_gpus=2")
    fix = risks.planned_otherwise(values, facts(values)).fix
    assert fix == "hardware=rocm accelerate.num_processes=2 ++accelerate.multi_gpu=true"

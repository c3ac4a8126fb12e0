"""Each tool's switch, read as the tool itself reads it."""

import json
import os
import subprocess
import sys

import pytest

from tunetrail import telemetry

ON = [
    ({"AXOLOTL_DO_NOT_TRACK": "0", "DO_NOT_TRACK": "0"}, ["Axolotl"]),
    ({"HF_HUB_DISABLE_TELEMETRY": "false", "DO_NOT_TRACK": ""}, ["the Hugging Face hub"]),
    ({"MLFLOW_DISABLE_TELEMETRY": "false"}, ["MLflow"]),  # only for MLflow DO_NOT_TRACK=1 does not turn it off
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
def test_a_tool_sends_unless_its_switch_is_off(environ, tools):
    assert telemetry.senders(environ) == tools
    fixed = {name: value for name, value in environ.items() if name not in telemetry.fix(tools).split()}
    assert telemetry.senders(telemetry.OFF | fixed) == []


@pytest.mark.parametrize("environ", OFF)
def test_one_switch_per_tool_is_enough(environ):
    assert telemetry.senders(environ) == telemetry.senders(telemetry.OFF | environ) == []


def test_every_switch_is_set_to_off():
    named = {name for switches in telemetry._VALUES_FOR_OFF.values() for name in switches}
    assert named == set(telemetry.OFF) - {"DVC_NO_ANALYTICS"}


# Everything is imported with telemetry off, so that nothing is sent.
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
@pytest.mark.slow
def test_the_tools_read_the_switches_in_the_same_way():
    """As `launch` starts them, and outside CI, where MLflow never sends anything."""
    ours = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    environs = [environ for environ, _ in ON] + OFF
    cases = json.dumps([telemetry.OFF | environ for environ in environs])
    command = [sys.executable, "-c", ASK, cases]
    printed = subprocess.run(command, env=ours | telemetry.OFF, capture_output=True, text=True, check=True).stdout
    on = [json.loads(line.removeprefix("on: ")) for line in printed.splitlines() if line.startswith("on: ")]
    assert on == [tools for _, tools in ON] + [[]] * len(OFF)

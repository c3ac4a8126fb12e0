"""Each tool's telemetry switch: what turns it off, and which tools an environment lets send."""

from collections.abc import Iterable, Mapping

# Set for every process that is started, unless the user's environment sets it.
OFF = {
    "AXOLOTL_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_SHARED = "DO_NOT_TRACK"  # by several tools
# The variables that each tool reads, and the values that mean "off": axolotl/telemetry/manager.py,
# huggingface_hub/constants.py, mlflow/telemetry/utils.py. DVC's is off in .dvc/config, whatever its variable says.
_VALUES_FOR_OFF = {
    "Axolotl": {"AXOLOTL_DO_NOT_TRACK": ("1", "true"), _SHARED: ("1", "true")},
    "the Hugging Face hub": {
        "HF_HUB_DISABLE_TELEMETRY": ("1", "true", "yes", "on"),
        _SHARED: ("1", "true", "yes", "on"),
    },
    "MLflow": {"MLFLOW_DISABLE_TELEMETRY": ("1", "true"), _SHARED: ("true",)},
}


def senders(environment: Mapping[str, str]) -> list[str]:
    """Return the tools that would send telemetry. A variable that is not set counts as off: `launch` sets it."""

    def is_off(variable: str, values: tuple[str, ...]) -> bool:
        return environment.get(variable, "1").strip().lower() in values

    return [tool for tool, switches in _VALUES_FOR_OFF.items() if not any(is_off(*switch) for switch in switches.items())]


def fix(tools: Iterable[str]) -> str:
    """Return the command after which these tools send nothing."""
    return f"unset {' '.join(sorted({name for tool in tools for name in _VALUES_FOR_OFF[tool]} - {_SHARED}))}"

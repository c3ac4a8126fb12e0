import psutil
import pytest

from tunetrail.plan import device
from tunetrail.plan.estimate import hardware


def planned(named=None, cpu=True, otherwise="mi300x"):
    return device.chosen({"plan": {"device": named, "default_device": otherwise}, "accelerate": {"cpu": cpu}})


def test_a_plan_is_for_the_device_that_is_named_or_for_this_machine():
    named, origin = planned("mi300x")
    assert (named.name, origin) == ("mi300x", "plan.device")
    here, origin = planned()
    assert (here.name, origin) == ("cpu", "this machine")
    assert here.memory == psutil.virtual_memory().total


def test_without_a_gpu_the_default_of_the_hardware_is_taken_and_it_is_reported(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert planned(cpu=False) == (hardware.named("mi300x"), "no GPU here; plan.device names another")
    assert planned("CPU", cpu=False)[0].name == "cpu"


@pytest.mark.parametrize(
    ("program", "answer", "name", "like"),
    [
        ("nvidia-smi", "NVIDIA GeForce RTX 3090, 24576 MiB", "NVIDIA GeForce RTX 3090", "rtx_4090"),
        (
            "rocm-smi",
            '{"card0": {"Card Series": "Radeon 7900", "VRAM Total Memory (B)": "25753026560"}}',
            "Radeon 7900",
            "mi250",
        ),
    ],
)
def test_a_gpu_that_is_not_known_has_its_own_memory_and_the_speeds_of_a_slow_one(tool, program, answer, name, like):
    tool(program, f"echo '{answer}'")
    here, origin = planned(cpu=False)
    assert (here.name, origin) == (name, "this machine")
    assert 20e9 < here.memory < 30e9
    assert (here.flops, here.maker) == (hardware.named(like).flops, hardware.named(like).maker)
    assert f"as {like}" in here.mfu_source


@pytest.mark.parametrize(
    ("program", "answer"), [("nvidia-smi", "NVIDIA GB10, [N/A]"), ("rocm-smi", "no json"), ("rocm-smi", "[]")]
)
def test_a_drivers_answer_without_a_memory_size_is_ignored(tool, program, answer):
    tool(program, f"echo '{answer}'")
    assert planned(cpu=False)[1].startswith("no GPU here")


@pytest.mark.parametrize(
    ("program", "answer", "name", "memory"),
    [
        ("nvidia-smi", "NVIDIA H200, 143771 MiB", "h200", 143771 * 2**20),
        (
            "rocm-smi",
            '{"card0": {"Card Series": "MI300X", "VRAM Total Memory (B)": "206141652992"}}',
            "mi300x",
            206141652992,
        ),
    ],
)
def test_the_gpu_is_detected_by_the_drivers_own_tool(tool, program, answer, name, memory):
    """The vendors' tools are not here: NVIDIA's answer was recorded on an H200, ROCm's follows its documentation."""
    tool(program, f"echo '{answer}'")
    here, origin = planned(cpu=False)
    assert (here.name, here.memory, origin) == (name, memory, "this machine")

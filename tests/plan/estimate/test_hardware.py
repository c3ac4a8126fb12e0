"""Devices by name, and as drivers call them."""

import pytest

from tunetrail import UserError
from tunetrail.plan.estimate import hardware


@pytest.mark.parametrize(
    ("driver", "name"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-80GB", "a100_80"),
        ("NVIDIA A100-PCIE-40GB", "a100_40"),
        ("AMD Instinct MI300X OAM", "mi300x"),
        ("AMD Instinct MI250X/MI250", "mi250x"),
        ("NVIDIA GeForce RTX 4090", "rtx_4090"),
    ],
)
def test_a_device_is_recognised_by_its_drivers_name_and_keeps_the_reported_memory(driver, name):
    device = hardware.recognised(driver, 12345, "NVIDIA")
    assert (device.name, device.memory) == (name, 12345)


def test_an_unlisted_device_keeps_its_name_and_memory_and_says_which_devices_speeds_it_gets():
    device = hardware.recognised("Matrox G400", 10**9, "NVIDIA")
    assert (device.name, device.memory, device.flops) == ("Matrox G400", 10**9, hardware.named("rtx_4090").flops)
    assert device.mfu_source.startswith("as rtx_4090, since this device is not listed: ")


@pytest.mark.parametrize(
    ("name", "train", "peak"),
    [
        *(("h100", {"bf16": "auto"}, 9.89e14), ("h100", {"tf32": "auto"}, 9.89e14 / 2), ("h100", {}, 6.7e13)),
        *(("v100", {"fp16": True}, 1.25e14), ("v100", {"tf32": "auto"}, 1.57e13), ("mi300x", {"tf32": "auto"}, 1.634e14)),
    ],
)
def test_the_peak_is_that_of_the_dtype_that_is_computed_in(name, train, peak):
    assert hardware.named(name).peak(train) == peak


def test_a_misspelled_device_gets_the_nearest_name():
    with pytest.raises(UserError, match="Did you mean mi300x"):
        hardware.named("mi300")
    with pytest.raises(UserError, match="Known here: mi325x, mi300x"):
        hardware.named("abacus")


def test_each_share_of_the_peak_agrees_with_the_published_speed_behind_it():
    """tokens/s x FLOP a token / peak: Llama 3 8B takes 45.2 GFLOP in short rows, 51.4 over 8,192 tokens; Llama 2 7B 39.7."""
    speeds = {"h200": 10_700 * 45.2e9, "mi300x": 5_377 * 51.4e9, "a100_80": 3_000 * 39.7e9}
    for name, flops in speeds.items():
        assert flops / hardware.named(name).flops == pytest.approx(hardware.named(name).mfu, abs=0.012), name
    assert 5_762 * 51.4e9 / hardware.named("h100").flops == pytest.approx(hardware.named("l40s").mfu, abs=0.006)


def test_every_device_is_named_by_its_key_and_gives_the_source_of_its_share():
    assert len(hardware.DEVICES) == 14
    assert all(name == device.name and device.mfu_source for name, device in hardware.DEVICES.items())


@pytest.mark.parametrize(
    ("name", "bf16", "fp8", "tf32", "compute"),
    [
        ("h100", True, True, True, "sm_90"),
        ("b200", True, True, True, "sm_100"),
        ("a100_40", True, False, True, "sm_80"),
        ("t4", True, False, False, "sm_75"),  # PyTorch counts what it emulates
        ("mi300x", True, True, False, "sm_94"),
    ],
)
def test_axolotl_gets_the_capabilities_that_it_would_detect_on_the_device(name, bf16, fp8, tf32, compute):
    assert hardware.named(name).capabilities() == {
        **{"bf16": bf16, "fp8": fp8, "tf32": tf32},
        "compute_capability": compute,
    }


def test_a_cpu_has_none_of_these_capabilities():
    capabilities = hardware.cpu(10**9, 2).capabilities()
    assert capabilities == {"bf16": False, "fp8": False, "tf32": False, "compute_capability": None}


@pytest.mark.parametrize(
    ("words", "device", "bf16", "expected"),
    [
        ((), "mi300x", True, {}),
        ((), "t4", False, {"bf16": False, "fp16": False}),
        (("method=lora",), "t4", False, {"bf16": False, "fp16": True}),
        (("method=lora",), "cpu", False, {"bf16": False, "fp16": False}),
        (("train.bf16=false",), "t4", False, {}),
    ],
)
def test_without_bfloat16_an_adapter_is_trained_in_float16_and_all_weights_in_float32(
    composed, words, device, bf16, expected
):
    train = composed("experiment=llama3_8b_alpaca", *words)["train"]
    assert hardware.precision(train, device, bf16) == expected

"""What the installed torch reports, or a stub package where a GPU would be needed."""

import os
import time

import pytest

from tunetrail import machine
from tunetrail.doctor import environment, gpus
from tunetrail.doctor.lines import Asked
from tunetrail.machine import Build

CARDS = """
class cuda:
    device_count = staticmethod(lambda: {count})

    class get_device_properties:
        def __init__(self, number):
            self.name, self.total_memory = "A GPU", 80 * 2**30
"""


@pytest.fixture
def check_devices(monkeypatch, tmp_path):
    """Return a function that checks the devices with a stub of torch, built for `kind`, and with these drivers loaded."""

    def line(kind, code="", expect=None, drivers=()):
        (tmp_path / "torch.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
        monkeypatch.setattr(machine, "torch_build", lambda: Build(kind, kind))
        nodes = {name: (name.upper(), tmp_path / name) for name in ("cuda", "rocm")}
        monkeypatch.setattr(gpus, "_MAKERS", nodes)
        for name, (_, node) in nodes.items():
            node.touch() if name in drivers else node.unlink(missing_ok=True)
        return gpus.check_devices(Asked(tmp_path, expect))

    return line


def test_gpus_are_counted_with_their_memory(check_devices):
    for expect in (None, "cuda"):
        line = check_devices("cuda", CARDS.format(count=2), expect)
        assert (line.mark, line.found) == ("ok", "2 x A GPU, 80 GiB")


@pytest.mark.parametrize(
    ("expect", "drivers", "mark"), [(None, (), "ok"), ("cpu", (), "ok"), ("rocm", (), "fail"), (None, ("rocm",), "fail")]
)
def test_a_gpu_build_without_a_gpu_is_red_if_one_is_expected_or_its_driver_is_loaded(check_devices, expect, drivers, mark):
    line = check_devices("rocm", CARDS.format(count=0), expect, drivers)
    assert line.mark == mark
    assert "CPU cores" in line.found
    assert ("/dev/kfd" in line.fix) is (mark == "fail")


@pytest.mark.parametrize(
    ("expect", "drivers", "mark"), [(None, (), "ok"), ("cpu", (), "ok"), ("cuda", (), "fail"), (None, ("cuda",), "warn")]
)
def test_torch_built_for_cpus_is_not_imported_and_an_unused_gpu_is_reported(check_devices, expect, drivers, mark):
    line = check_devices("cpu", "raise SystemExit('asked')", expect, drivers)
    assert line.mark == mark
    assert line.fix == ("" if mark == "ok" else environment.INSTALL_TORCH["cuda"])
    assert ("(CUDA here)" in line.found) is bool(drivers)


def test_a_torch_that_does_not_start_or_hangs_is_red(check_devices, monkeypatch, tmp_path):
    line = check_devices("cuda", "raise ImportError('libcudart.so.13')")
    assert (line.mark, line.found) == ("fail", "torch does not start, or not within 60 s")
    assert "torch.cuda.init()" in line.fix
    monkeypatch.setattr(gpus, "_PATIENCE", 1)
    started = time.monotonic()
    assert check_devices("cuda", "import time; time.sleep(60)").mark == "fail"
    assert time.monotonic() - started < 20
    assert gpus.check_attention(Asked(tmp_path)).mark == "fail"


@pytest.mark.skipif(machine.torch_build().kind != "cpu", reason="torch is built for a GPU here")
def test_a_cpu_build_has_sdpa_and_starts_no_process(monkeypatch, tmp_path):
    monkeypatch.setattr(gpus, "_in_own_process", None)
    line = gpus.check_attention(Asked(tmp_path))
    assert (line.mark, line.found.split(";")[0]) == ("ok", "sdpa")


@pytest.mark.stage
def test_kernels_are_really_run_and_a_cpu_runs_no_gpu_kernel(monkeypatch, tmp_path):
    import torch

    ran = gpus.kernels("cpu")
    assert list(ran) == ["flash", "cuDNN", "efficient", "varlen", "flash-attn"]
    assert ran["flash"]  # PyTorch has one for CPUs
    assert not any(ran[name] for name in ("cuDNN", "varlen"))  # kernels for GPUs only
    if torch.cuda.is_available():
        assert gpus.kernels("cuda")["varlen"]
    else:
        assert gpus.kernels("cuda") == {}
        monkeypatch.setattr(machine, "torch_build", lambda: Build("cuda", "cuda"))
        line = gpus.check_attention(Asked(tmp_path))  # the installed torch, run in a process of its own
        assert (line.mark, line.found.split(";")[0]) == ("ok", "sdpa")


@pytest.mark.parametrize(("varlen", "mark"), [(True, "ok"), (False, "warn")])
def test_each_kernel_that_ran_on_a_gpu_is_listed_and_packed_rows_need_varlen(monkeypatch, tmp_path, varlen, mark):
    monkeypatch.setattr(machine, "torch_build", lambda: Build("cuda", "cuda"))
    ran = {"flash": True, "cuDNN": False, "efficient": True, "varlen": varlen, "flash-attn": False}
    monkeypatch.setattr(gpus, "_in_own_process", lambda _: dict(ran))
    line = gpus.check_attention(Asked(tmp_path))
    assert line.mark == mark
    assert line.found.startswith(f"sdpa (flash, efficient{', varlen' if varlen else ''}); no flash_attention_2")
    assert "flex_attention not tried" in line.found


def test_flash_attn_is_listed_if_it_ran(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "torch_build", lambda: Build("cuda", "cuda"))
    monkeypatch.setattr(gpus, "_in_own_process", lambda _: {"varlen": True, "flash-attn": True})
    assert gpus.check_attention(Asked(tmp_path)).found.startswith("sdpa (varlen); flash_attention_2;")


def test_without_torch_both_checks_fail(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "torch_build", lambda: None)
    assert gpus.check_attention(Asked(tmp_path)).mark == "fail"
    assert gpus.check_devices(Asked(tmp_path, "cuda")).mark == "fail"

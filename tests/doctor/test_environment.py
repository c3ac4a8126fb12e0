"""The checks of the installation, in a checkout of their own; torch is the installed one or a stub package."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.doctor.conftest import run
from tunetrail import machine, telemetry
from tunetrail.doctor import environment
from tunetrail.doctor.lines import Asked, Line


@pytest.fixture
def line(checkout):
    """Return a function that runs one check in this process and returns its line."""
    return lambda name: environment.CHECKS[name](Asked(checkout))


def standing_for_torch(folder, **version):
    """Return a PYTHONPATH with a stub of torch that has a version.py and nothing else."""
    (folder / "torch").mkdir(parents=True)
    (folder / "torch" / "__init__.py").touch()
    attributes = {"__version__": "2.13.0+of.somebody", "cuda": None, "hip": None} | version
    (folder / "torch" / "version.py").write_text("".join(f"{name} = {value!r}\n" for name, value in attributes.items()))
    return os.pathsep.join([str(folder), str(ROOT / "src")])


@pytest.mark.parametrize(
    ("version", "kind", "text"),
    [
        ({"cuda": "13.0"}, "cuda", "2.13.0+of.somebody, built for CUDA 13.0"),
        ({"hip": "7.15.2"}, "rocm", "2.13.0+of.somebody, built for ROCm (HIP 7.15.2)"),
        ({}, "cpu", "2.13.0+of.somebody, built for CPUs"),
    ],
)
def test_the_build_is_read_from_torchs_version_file(checkout, tmp_path, version, kind, text):
    path = standing_for_torch(tmp_path / "other", **version)
    done = run(checkout, "torch", "--expect", kind, PYTHONPATH=path)
    assert (done.returncode, done.stdout) == (0, f"ok    torch  {text}\n")


def test_another_version_than_the_locks_is_yellow_and_than_pyprojects_is_red(checkout, line):
    lock, project = checkout / "requirements" / "default.txt", checkout / "pyproject.toml"
    assert line("lock").mark != "fail"
    lock.write_text("# pins\nmatplotlib==0.1\nno-such-package==1.0\npyyaml==0.1 ; python_version < '3'\n")
    lock_line = line("lock")
    assert lock_line.mark == "warn"
    assert lock_line.found == (
        "2 of 2 packages differ from requirements/default.txt: "
        f"matplotlib {importlib.metadata.version('matplotlib')} (==0.1), no-such-package missing (==1.0)"
    )
    assert lock_line.fix.endswith("uv pip install --requirement requirements/default.txt")
    project.write_text(re.sub(r"mlflow==[\d.]+", "mlflow==0.1", project.read_text()))
    assert line("lock").mark == "fail"
    mlflow = importlib.metadata.version("mlflow")
    assert line("lock").found.startswith(f"not what pyproject.toml asks for: mlflow {mlflow} (==0.1)")


def test_of_many_packages_that_differ_the_first_are_named_and_all_are_counted(checkout, line):
    (checkout / "requirements" / "default.txt").write_text("".join(f"no-such-{number}==1\n" for number in range(9)))
    message = line("lock").found
    assert message.startswith("9 of 9 packages differ")
    assert message.endswith("no-such-4 missing (==1) and 4 more")


def test_a_rocm_torch_is_compared_with_its_own_lock_which_is_installed_without_resolving(checkout, line, monkeypatch):
    (checkout / "requirements" / "rocm.txt").write_text("no-such-package==1.0\n")
    monkeypatch.setattr(machine, "torch_build", lambda: machine.Build("rocm", ""))
    assert line("lock").found.startswith("1 of 1 packages differ from requirements/rocm.txt")
    assert line("lock").fix.endswith("uv pip install --no-deps --requirement requirements/rocm.txt")


def test_a_missing_tool_or_torch_is_red_with_the_command_that_installs_it(line, monkeypatch):
    monkeypatch.setattr(environment, "TOOLS", ("mlflow", "no-such-tool"))
    monkeypatch.setattr(machine, "torch_build", lambda: None)
    assert line("tools").mark == line("torch").mark == "fail"
    assert line("tools").found.endswith("no-such-tool missing")
    assert line("torch").fix == environment.INSTALL_TORCH["cpu"]


def test_a_python_that_the_project_does_not_support_is_red(checkout, line):
    assert line("python").mark == "ok"
    project = checkout / "pyproject.toml"
    project.write_text(re.sub(r'requires-python = ".*"', 'requires-python = ">=3.99"', project.read_text()))
    assert (line("python").mark, line("python").fix) == ("fail", "make PYTHON=python3.12 setup")
    assert line("python").found.endswith("asks for >=3.99")


def test_a_checkout_without_a_commit_is_red(checkout, line):
    assert line("git").mark == "ok"
    shutil.rmtree(checkout / ".git")
    subprocess.run(["git", "init", "-q"], cwd=checkout, check=True)
    assert line("git").mark == "fail"
    asks = line("git").fix.removesuffix(" says why")
    assert "does not have any commits" in subprocess.run(asks, shell=True, capture_output=True, text=True).stderr


def test_telemetry_that_the_user_turned_on_is_yellow(line, monkeypatch):
    for name in telemetry.OFF:
        monkeypatch.delenv(name, raising=False)
    assert line("telemetry").mark == "ok"
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    message = "telemetry of MLflow is on by the environment"
    assert line("telemetry") == Line("warn", message, "unset MLFLOW_DISABLE_TELEMETRY")


def test_punkt_tab_is_found_where_nltk_looks_for_it(line, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NLTK_DATA", f"/nowhere{os.pathsep}{tmp_path / 'nltk'}")
    if line("punkt_tab").mark == "warn":  # unless the whole machine has it
        assert "nltk.downloader punkt_tab" in line("punkt_tab").fix
        assert f"in NLTK_DATA ({os.environ['NLTK_DATA']})" in line("punkt_tab").found
    (tmp_path / "nltk" / "tokenizers" / "punkt_tab").mkdir(parents=True)
    assert line("punkt_tab") == Line("ok", str(tmp_path / "nltk"))


@pytest.mark.stage
def test_nltks_folders_are_the_same_as_in_nltk_itself(monkeypatch, tmp_path):
    monkeypatch.setenv("NLTK_DATA", f"~/mine{os.pathsep}{tmp_path}")
    script = "import nltk; print(*nltk.data.path, sep='\\n')"
    folders = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split("\n")
    assert [str(folder) for folder in environment.nltk_folders()] == folders[:-1]


@pytest.mark.parametrize(("little", "gib", "mark"), [(2**60, 1, "warn"), (2**60, 2**60, "fail"), (1, 1, "ok")])
def test_little_free_space_is_yellow_and_almost_none_is_red(monkeypatch, tmp_path, little, gib, mark):
    monkeypatch.setattr(environment, "_LITTLE", little)
    monkeypatch.setattr(environment, "GIB", gib)
    assert environment.check_disk(Asked(tmp_path)).mark == mark

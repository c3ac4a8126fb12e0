"""The design, kept by tests: names, layers, the tree in the README, pins."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

PACKAGE = ROOT / "src" / "tunetrail"
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
SHARED_SECTIONS = {"name", "seed", "template", "accelerate", "plan"}
README = (ROOT / "README.md").read_text()
DOCS = "\n".join([README, *(file.read_text() for file in sorted((ROOT / "docs").glob("*.md")))])


def imports(file):
    """Return the project's files that `file` imports, except launch.py: starting a tool does not change its outputs."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    files = {ROOT / "src" / f"{name.replace('.', '/')}.py" for name in names if name.startswith("tunetrail.")}
    return {path for path in files if path.is_file()} - {PACKAGE / "launch.py"}


def imported_at_once(file):
    """Return the third-party packages that importing the file imports, without those imported in functions."""
    names = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_a_stage_its_section_and_its_file_have_one_name():
    files = {file.stem for file in (PACKAGE / "stages").glob("*.py")} - {"__init__"}
    sections = set(yaml.safe_load((ROOT / "params.yaml").read_text())) - SHARED_SECTIONS
    commands = {stage["cmd"].split("tunetrail.stages.")[1].split()[0] for stage in DVC.values()}
    assert files == sections == commands == {name.split("_")[0] for name in DVC}
    for name, stage in DVC.items():
        assert name.split("_")[0] in {key.split(".")[0] for key in stage["params"]}
        assert f"src/tunetrail/stages/{name.split('_')[0]}.py" in stage["deps"]


@pytest.mark.parametrize("name", DVC)
def test_a_stage_depends_on_every_module_that_it_imports_but_launch(name):
    """With fewer, a change of a module would leave the stage cached; with more, a change of a plot would retrain."""
    stage = PACKAGE / "stages" / f"{name.split('_')[0]}.py"
    loaded = {PACKAGE / "training" / "plugin.py"} if name in ("base", "train") else set()  # by Axolotl
    reached, waiting = set(), imports(stage) | loaded
    while waiting:
        module = waiting.pop()
        reached.add(module)
        waiting |= imports(module) - reached
    ours = {ROOT / dep for dep in DVC[name]["deps"] if dep.startswith("src/tunetrail/")}
    folders = {path for path in ours if path.is_dir()}
    inside = {path for path in reached if folders & {*path.parents}}
    assert ours - folders == (reached | {stage}) - inside
    # Of files for other programs, the stage's own folder; never a whole package, whose every change would rerun the stage.
    assert folders <= {PACKAGE / "evaluation" / "ifeval", PACKAGE / "report" / "pages"}


def test_dvc_lock_is_of_these_modules():
    """Their content may be newer than the last demo that is recorded here, but not their names."""
    locked = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]
    assert locked.keys() == DVC.keys()
    for name, stage in DVC.items():
        recorded = {dep["path"] for dep in locked[name]["deps"] if dep["path"].startswith("src/")}
        assert {dep for dep in stage["deps"] if dep.startswith("src/")} <= recorded


def test_imports_go_down_the_layers_only():
    linter = Path(sys.executable).with_name("lint-imports")
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_stage_imports_a_stage_and_no_command_waits_for_a_heavy_tool():
    for file in (PACKAGE / "stages").glob("*.py"):
        text = file.read_text()
        assert not re.search(r"from tunetrail\.stages\.\w+ import|from tunetrail\.stages import (?!run\b)", text), file
    for file in PACKAGE.rglob("*.py"):
        if file.parent != PACKAGE / "tracking" and file != PACKAGE / "training" / "plugin.py":
            assert not {"torch", "transformers", "mlflow", "datasets"} & imported_at_once(file), file


def test_modules_have_meaningful_names_docstrings_and_few_lines():
    for file in PACKAGE.rglob("*.py"):
        assert file.stem not in {"utils", "helpers", "common", "misc", "core", "manager", "base_class"}
        lines = [line for line in file.read_text().splitlines() if not line.startswith("from tunetrail")]
        assert len(lines) <= (60 if file.parent.name == "stages" else 250), file
        assert ast.get_docstring(ast.parse(file.read_text())), file


def test_every_module_has_its_tests():
    # Covered where they are used: the entry point, the task that lm-eval loads, the page that report writes, and a plan's
    # facts, prediction and table (tests/cli/test_plan.py). tests/cli and tests/stages go by what is typed and run.
    elsewhere = {"__main__.py", "evaluation/ifeval/checkers.py", "report/page.py"}
    elsewhere |= {"plan/facts.py", "plan/prediction.py", "plan/table.py"}
    for file in PACKAGE.rglob("*.py"):
        module = file.relative_to(PACKAGE)
        if module.name != "__init__.py" and module.parts[0] not in ("cli", "stages") and str(module) not in elsewhere:
            assert (ROOT / "tests" / module.parent / f"test_{module.name}").is_file(), module


def test_the_tree_in_the_readme_is_that_of_the_repository():
    tree = re.search(r"```\n(conf/.*?)```", README, re.DOTALL).group(1)
    named = {line.split()[0] for line in tree.splitlines() if line and not line.startswith(" ")}
    inside = {f"src/tunetrail/{line.split()[0]}" for line in tree.splitlines() if line.startswith("  ")}
    for path in named | inside:
        assert (ROOT / path).exists(), path
    modules = {f"src/tunetrail/{f.name}" for f in PACKAGE.glob("*.py") if not f.name.startswith("__")}
    packages = {f"{file.parent.relative_to(ROOT)}/" for file in PACKAGE.rglob("*/__init__.py")}
    assert modules | packages == inside
    lines = dict(line.split(maxsplit=1) for line in tree.splitlines() if line.startswith("  "))
    for package in packages:  # the README and the package have the same line
        purpose = ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text())).splitlines()[0]
        assert f"{lines[package.removeprefix('src/tunetrail/')]}." == purpose
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    folders = {path.split("/")[0] + "/" for path in tracked if "/" in path and not path.startswith(".")}
    assert folders <= {path.split("/")[0] + "/" for path in named}


def test_every_target_of_the_makefile_has_a_description():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.search(r"\.PHONY: (.*)", makefile).group(1).split():
        assert re.search(rf"^{target}:.*## \S", makefile, re.MULTILINE), target


def test_telemetry_is_off_in_the_makefile_and_in_dvcs_config():
    from tunetrail import telemetry

    makefile = (ROOT / "Makefile").read_text()
    for name in telemetry.OFF:
        assert f"export {name} ?=" in makefile
        assert name in DOCS
    assert "analytics = false" in (ROOT / ".dvc" / "config").read_text()


def test_the_lock_file_pins_every_direct_dependency_and_leaves_cuda_to_torch():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = [Requirement(line) for line in (ROOT / "requirements" / "default.txt").read_text().splitlines()]
    locked = {(canonicalize_name(pin.name), version.version) for pin in pins for version in pin.specifier}
    names = {name for name, _ in locked}
    for direct in map(Requirement, project["dependencies"] + project["optional-dependencies"]["dev"]):
        versions = [version for name, version in locked if name == canonicalize_name(direct.name)]
        assert versions, direct
        assert all(direct.specifier.contains(version, prereleases=True) for version in versions), direct
    assert not {name for name in names if name.startswith(("cuda-", "nvidia-")) and name != "nvidia-ml-py"}
    assert "triton" in names  # Axolotl imports it even on a CPU


def test_every_direct_dependency_has_a_reason():
    for line in (
        re.search(r"^dependencies = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S).group(1).splitlines()
    ):
        assert re.match(r'  "[^"]+", +# \S', line), line


def test_no_test_file_imports_another():
    for file in (ROOT / "tests").rglob("*.py"):
        assert not re.search(r"^\s*(from|import) tests\.(\w+\.)*test_", file.read_text(), re.M), file

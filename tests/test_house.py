"""The design, kept by tests: names, floors, and a README whose words are real."""

import ast
import re
import shlex
import subprocess
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT
from tunetrail import cli, sweep

PACKAGE = ROOT / "src" / "tunetrail"
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
SHARED_SECTIONS = {"name", "seed", "template", "accelerate", "plan"}
# The floors from below: a module imports only from those before its own.
TRACKING_AND_LAUNCH = {
    *("connection", "outage", "store", "reopening", "tracking", "registry", "served", "launch", "live", "schema", "machine"),
    *("answers", "acceptance", "instructions"),
    *("workspace", "worktree", "cache", "devices", "doctor", "accelerator", "services"),
}
RUNS = {"experiment", "about", "record", "recorded", "chat", "job", "sweep", "lineage", "space", "clearing"}  # floor 3
README = (ROOT / "README.md").read_text()


def imports(file):
    """The modules of ours that `file` imports, by their last name."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[-1] for alias in node.names if alias.name.startswith("tunetrail.")}
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "tunetrail":
            inside = node.module.split(".")[1:]
            found |= {inside[-1]} if inside else {alias.name for alias in node.names}
    return {name for name in found if (PACKAGE / f"{name}.py").is_file()}


def imported_at_once(file):
    """The outside packages that `import` of the file itself imports, not those that a function of it does."""
    found = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def pure(names):
    return {name for name in names if name not in TRACKING_AND_LAUNCH}


def test_one_name_for_stage_section_and_file():
    files = {file.stem for file in (PACKAGE / "stages").glob("*.py")} - {"__init__"}
    sections = set(yaml.safe_load((ROOT / "params.yaml").read_text())) - SHARED_SECTIONS
    commands = {stage["cmd"].split("tunetrail.stages.")[1].split()[0] for stage in DVC.values()}
    assert files == sections == commands == {name.split("_")[0] for name in DVC}
    for name, stage in DVC.items():
        assert name.split("_")[0] in {key.split(".")[0] for key in stage["params"]}
        assert f"src/tunetrail/stages/{name.split('_')[0]}.py" in stage["deps"]


@pytest.mark.parametrize("name", DVC)
def test_a_stage_depends_on_every_pure_module_that_it_imports(name):
    """Else a change of the module would leave the stage cached; and on no more, else a plot would retrain."""
    reached, waiting = set(), pure(imports(PACKAGE / "stages" / f"{name.split('_')[0]}.py"))
    while waiting:
        module = waiting.pop()
        reached.add(module)
        waiting |= pure(imports(PACKAGE / f"{module}.py")) - reached
    declared = {dep.split("/")[-1][:-3] for dep in DVC[name]["deps"] if re.fullmatch(r"src/tunetrail/\w+\.py", dep)}
    trainer = {"live", "history"} if name in ("base", "train") else set()  # loaded by Axolotl as a plug-in
    assert declared == reached | trainer


def test_no_stage_imports_a_stage_and_nothing_pure_imports_upwards():
    stages = {file.stem for file in (PACKAGE / "stages").glob("*.py")}
    for file in (PACKAGE / "stages").glob("*.py"):
        text = file.read_text()
        assert not re.search(r"from tunetrail\.stages\.\w+ import|from tunetrail\.stages import (?!run\b)", text), file
    for file in (*PACKAGE.glob("*.py"), *(PACKAGE / "plan").glob("*.py")):
        if file.stem not in TRACKING_AND_LAUNCH | RUNS | {"__main__"}:
            assert not imports(file) & (TRACKING_AND_LAUNCH | RUNS | {"cli"}), file
            assert not {"torch", "transformers", "mlflow", "datasets"} & imported_at_once(file), file
    assert stages


def test_names_say_something_and_files_are_small():
    for file in PACKAGE.rglob("*.py"):
        assert file.stem not in {"utils", "helpers", "common", "misc", "core", "manager", "base_class"}
        assert file.read_text().count("\n") <= (60 if file.parent.name == "stages" else 250), file
        assert ast.get_docstring(ast.parse(file.read_text())), file


def test_every_module_has_its_tests():
    tested = {file.stem.removeprefix("test_") for file in (ROOT / "tests").glob("test_*.py")}
    # Covered where they are used: the two that other programs load, the page that report writes, the entry point, the
    # run itself, which is test_end_to_end's, and a plan's facts and words, which are test_plan's.
    elsewhere = {"__init__", "__main__", "live", "page", "experiment", "facts", "text"}
    modules = {file.stem for folder in (PACKAGE, PACKAGE / "plan") for file in folder.glob("*.py")}
    assert modules - elsewhere <= tested


def test_the_tree_in_the_readme_is_the_tree():
    tree = re.search(r"```\n(conf/.*?)```", README, re.DOTALL).group(1)
    named = {line.split()[0] for line in tree.splitlines() if line and not line.startswith(" ")}
    inside = {f"src/tunetrail/{line.split()[0]}" for line in tree.splitlines() if line.startswith("  ")}
    for path in named | inside:
        assert (ROOT / path).exists(), path
    modules = {f"src/tunetrail/{f.name}" for f in PACKAGE.glob("*.py") if not f.name.startswith("__")}
    assert modules <= inside
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    folders = {path.split("/")[0] + "/" for path in tracked if "/" in path and not path.startswith(".")}
    assert folders <= {path.split("/")[0] + "/" for path in named}


def test_the_commands_in_the_readme_are_real(composed):
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", README, re.DOTALL))
    makefile = (ROOT / "Makefile").read_text()
    words = re.findall(r"^make (\w+)", blocks, re.MULTILINE)
    assert {"demo", "test"} <= set(words)
    for word in words:
        assert re.search(rf"^{word}:", makefile, re.MULTILINE), word
    project = yaml.safe_load((ROOT / "MLproject").read_text())
    runs = re.findall(r"^mlflow run \.(.*)$", blocks, re.MULTILINE)
    assert runs
    for run in runs:
        entry = re.search(r"-e (\w+)", run)
        known = project["entry_points"][entry[1] if entry else "main"]["parameters"]
        assert set(re.findall(r"-P (\w+)=", run)) <= set(known)
    for word in re.findall(r"^tunetrail (\w+)", blocks, re.MULTILINE):
        assert word in cli.main.commands, word
    commands = re.findall(r"^tunetrail run(.*)$", blocks, re.MULTILINE)
    assert commands
    for command in commands:
        words = shlex.split(command.split("#")[0])
        if "-m" in words:
            assert sweep.total(ROOT, words) != 1, command
        else:
            composed(*[word for word in words if "=" in word])


def test_no_figure_of_the_readme_is_left_to_fill_in():
    assert "@@" not in README


def test_every_word_of_the_makefile_says_what_it_does():
    makefile = (ROOT / "Makefile").read_text()
    for word in re.search(r"\.PHONY: (.*)", makefile).group(1).split():
        assert re.search(rf"^{word}:.*## \S", makefile, re.MULTILINE), word


def test_telemetry_is_off_in_every_way_in():
    from tunetrail import launch

    makefile = (ROOT / "Makefile").read_text()
    for name in launch.TELEMETRY_OFF:
        assert f"export {name} ?=" in makefile
        assert name in README
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


def test_every_direct_dependency_says_why():
    for line in (
        re.search(r"^dependencies = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S).group(1).splitlines()
    ):
        assert re.match(r'  "[^"]+", +# \S', line), line

"""The files of docker/ and the lock files, checked without a Docker engine.

Not tested, since that needs an engine and a GPU: building the images on their published bases, and the devices in them.
`test_server.py` runs the parts of compose.yaml.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from tests.conftest import ROOT
from tunetrail import launch, telemetry

pytestmark = pytest.mark.stage

KINDS = ("cpu", "cuda", "rocm")  # the build of torch that an image has
TOOLS = Path(sys.executable).parent
MAKEFILE = (ROOT / "Makefile").read_text()
COMPOSE = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
LOCKS = {name: (ROOT / "requirements" / f"{name}.txt").read_text().splitlines() for name in ("default", "rocm")}


def instructions(kind):
    """Return the instructions of Dockerfile.KIND, each on one line, without comments."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "docker" / f"Dockerfile.{kind}").read_text(), flags=re.MULTILINE)
    return [line for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines() if line]


def of(kind, instruction):
    """Return the arguments of each `instruction` of Dockerfile.KIND, in order."""
    return [line.split(maxsplit=1)[1] for line in instructions(kind) if line.split()[0] == instruction]


def variable(name):
    """Return the words of a variable of the Makefile."""
    return set(re.search(rf"^{name} := ((?:\\\n|[^\n])*)", MAKEFILE, re.MULTILINE)[1].replace("\\\n", " ").split())


def examined(kind):
    """Return the instruction that fails if torch is another build than the image's, or a package has another version than
    the project requires.
    """
    return f"RUN tunetrail doctor lock tools torch --expect {kind}"


def names(lines):
    return {Requirement(line).name for line in lines}


def resolved(*command):
    """Return the error output of uv, which `command` calls; skip the test if it reaches no package index."""
    left_out = ("UV_FIND_LINKS", "MAKEFLAGS")  # a folder of wheels, as in `make lock`; and flags of an outer make
    environment = {key: value for key, value in launch.environment().items() if key not in left_out}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode and re.search(r"[Ff]ailed to fetch|error sending request|dns error", done.stderr):
        pytest.skip("no package index is reached from here")
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_hadolint_reports_nothing(kind):
    command = [TOOLS / "hadolint", "--no-color", ROOT / "docker" / f"Dockerfile.{kind}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_built_from_a_pinned_base_its_lock_file_and_the_makefiles_uv(kind):
    (base,) = of(kind, "ARG")
    assert re.fullmatch(r"BASE=[\w/]+:\w*\d[\w.-]*", base)
    assert of(kind, "FROM") == ["${BASE}"]
    runs = " ".join(of(kind, "RUN"))
    assert re.search(r"uv==([\d.]+)", runs)[1] == re.search(r"uv==([\d.]+)", MAKEFILE)[1]
    lock = "requirements/rocm.txt" if kind == "rocm" else "requirements/default.txt"
    assert re.findall(r"--requirement (\S+)", runs) == [lock]
    assert of(kind, "COPY") == [f"--chown=tunetrail {lock} requirements/", "--chown=tunetrail . ."]


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_checks_its_packages_after_the_last_install(kind):
    lines = instructions(kind)
    last = max(number for number, line in enumerate(lines) if "pip install" in line)
    assert [line.partition(" && ")[0] for line in lines[last + 1 :]].count(examined(kind)) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_container_is_not_root_has_volumes_for_weights_and_data_and_trains_the_demo(kind):
    runs = " ".join(of(kind, "RUN"))
    assert of(kind, "USER") == ["10001"]
    assert "useradd --create-home --uid 10001 tunetrail" in runs
    # Last, since an older builder drops what is written into a volume after it.
    assert [line.split()[0] for line in instructions(kind)[-3:]] == ["VOLUME", "ENTRYPOINT", "CMD"]
    volumes = set(json.loads(of(kind, "VOLUME")[0]))
    made = re.search(r"install --directory --owner=tunetrail --group=tunetrail ([^&]*)", runs)[1].split()
    assert volumes | {*of(kind, "WORKDIR")} <= set(made)  # else they would belong to root
    environment = dict(pair.split("=", 1) for line in of(kind, "ENV") for pair in line.split())
    assert {environment["HF_HOME"], "/tunetrail/data", "/tunetrail/outputs"} <= volumes
    assert environment.items() >= telemetry.OFF.items()
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    assert not volumes & {f"/tunetrail/{out}" for stage in stages for out in stage["outs"]}  # DVC could not remove them
    assert json.loads(of(kind, "ENTRYPOINT")[0])[-1] == "tunetrail"
    assert json.loads(of(kind, "CMD")[0]) == ["run"]


def test_the_rocm_image_checks_after_every_install_that_torch_is_still_amds():
    lines = instructions("rocm")
    installs = [number for number, line in enumerate(lines) if "pip install" in line]
    assert len(installs) == 3
    for number in installs:
        assert lines[number].startswith("RUN ")
        assert "--no-deps" in lines[number]
        # Before the package is installed by a line of Python, afterwards by the package's own command.
        own = number == installs[-1]
        asks = 'RUN python -c "import torch; assert torch.version.hip, torch.__version__"'
        assert lines[number + 1] == (examined("rocm") if own else asks)


@pytest.mark.parametrize(("hip", "starts"), [("7.15.26333", True), (None, False)])
def test_the_rocm_container_starts_only_with_amds_torch(tmp_path, hip, starts):
    """The entry point of the image, run here with a stub of torch."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").touch()
    build = {"__version__": "2.13.0+of.somebody", "hip": hip, "cuda": None if hip else "13.0"}
    lines = [f"{name} = {value!r}\n" for name, value in build.items()]
    (tmp_path / "torch" / "version.py").write_text("".join(lines))
    command = [*json.loads(of("rocm", "ENTRYPOINT")[0]), "run", "--help"]
    environment = launch.environment() | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "src")])}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode == 0) is starts
    assert ("OVERRIDES change the config" in done.stdout) is starts
    assert ("fail  torch  2.13.0+of.somebody, built for CUDA 13.0; rocm is expected" in done.stderr) is not starts


def test_the_rocm_lock_is_the_default_lock_without_the_packages_of_amds_image():
    assert set(LOCKS["rocm"]) < set(LOCKS["default"])
    assert names(set(LOCKS["default"]) - set(LOCKS["rocm"])) == variable("ROCM_LEAVES_OUT")
    assert not [name for name in names(LOCKS["rocm"]) if re.match("torch$|triton|nvidia-|cuda-", name)]


@pytest.mark.slow
def test_make_lock_reproduces_the_committed_locks(tmp_path):
    copies = {}
    for name, key in (("default", "LOCK"), ("rocm", "ROCM_LOCK")):
        copies[name] = tmp_path / f"{name}.txt"
        copies[name].write_text("\n".join(LOCKS[name]) + "\n")  # uv keeps the pins of the file that it writes
        copies[key] = f"{key}={copies[name]}"
    resolved("make", "--old-file=.venv/.ready", "lock", copies["LOCK"], copies["ROCM_LOCK"])
    assert copies["default"].read_text().splitlines() == LOCKS["default"]
    assert copies["rocm"].read_text().splitlines() == LOCKS["rocm"]


@pytest.mark.slow
@pytest.mark.parametrize("python", ["3.11", "3.12"])
@pytest.mark.parametrize("lock", ["default", "rocm"])
def test_a_lock_can_be_installed_and_adds_only_what_torch_brings(tmp_path, lock, python):
    words = [
        "pip",
        "install",
        "--dry-run",
        "--python",
        sys.executable,
        "--python-version",
        python,
        "--target",
        tmp_path / "x",
    ]
    alone = ["--no-deps"] if lock == "rocm" else []
    output = resolved(TOOLS / "uv", *words, *alone, "--requirement", f"requirements/{lock}.txt")
    installed = set(re.findall(r"^ \+ (\S+)==", output, re.MULTILINE))
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    pins = [Requirement(line) for line in LOCKS[lock]]
    pinned = {str(pin).split(";")[0].strip() for pin in pins if not pin.marker or pin.marker.evaluate(environment)}
    assert pinned <= set(re.findall(r"^ \+ (\S+)", output, re.MULTILINE))
    assert installed - names(pinned) == (variable("TORCH_BRINGS") if lock == "default" else set())


def test_the_docker_build_gets_every_file_of_git_and_no_ignored_file():
    ignored = ["git", "ls-files", "--cached", "--ignored", "--exclude-from=.dockerignore"]
    assert subprocess.run(ignored, cwd=ROOT, capture_output=True, text=True, check=True).stdout == ""
    sent_not = (ROOT / ".dockerignore").read_text().splitlines()
    for folder in ("", "/.dvc"):
        for line in (ROOT / folder.strip("/") / ".gitignore").read_text().splitlines():
            if line and not line.startswith("#"):
                assert (f"{folder}{line}" if line.startswith("/") else f"**/{line}") in sent_not
    assert "**/.env" in sent_not  # has the password of compose.yaml


def test_the_compose_file_is_valid_by_its_specification():
    command = [TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker/compose.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_docker_compose_reads_the_file_and_requires_the_password():
    compose = next(
        (words for words in (["docker", "compose"], ["docker-compose"]) if shutil.which(words[0]) and answers(words)), None
    )
    if not compose:
        pytest.skip("no Docker Compose here (it needs no engine to check a file)")
    command = [*compose, "--env-file", os.devnull, "--file", "docker/compose.yaml", "--profile", "*", "config", "--quiet"]
    environment = {key: value for key, value in os.environ.items() if key != "POSTGRES_PASSWORD"}
    refused = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "docker/.env" in refused.stderr
    read = subprocess.run(command, cwd=ROOT, env=environment | {"POSTGRES_PASSWORD": "x"}, capture_output=True, text=True)
    assert (read.returncode, read.stderr) == (0, "")


def answers(words):
    return subprocess.run([*words, "version"], capture_output=True).returncode == 0


def test_the_compose_file_has_no_password_and_publishes_ports_only_on_this_machine():
    secrets = [value for service in SERVICES.values() for key, value in service["environment"].items() if "PASSWORD" in key]
    assert len(secrets) == 2
    assert all(re.fullmatch(r"\$\{POSTGRES_PASSWORD:\?[^}]+\}", secret) for secret in secrets)
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "mlflow": ["127.0.0.1:5000:5000"]
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_trainer_of_compose_uses_its_image_waits_for_the_server_and_is_an_allowed_host(kind):
    trainer = SERVICES[f"trainer-{kind}"]
    assert trainer["image"] == f"tunetrail:{kind}"
    assert trainer["build"] == {"context": "..", "dockerfile": f"docker/Dockerfile.{kind}"}
    assert trainer["depends_on"] == {"mlflow": {"condition": "service_healthy"}}
    (hosts,) = (argument for argument in SERVICES["mlflow"]["command"] if argument.startswith("--allowed-hosts="))
    assert trainer["environment"]["MLFLOW_TRACKING_URI"].removeprefix("http://") in hosts.split("=")[1].split(",")
    mounted = dict(reversed(volume.split(":")) for volume in trainer["volumes"])
    assert set(mounted) == set(json.loads(of(kind, "VOLUME")[0]))
    assert set(mounted.values()) <= set(COMPOSE["volumes"])


def test_the_server_may_write_to_its_artifact_folder():
    (option,) = (part for part in SERVICES["mlflow"]["command"] if part.startswith("--artifacts-destination="))
    folder = option.split("=")[1]
    assert SERVICES["mlflow"]["volumes"] == [f"mlartifacts:{folder}"]
    assert re.search(rf"install --directory --owner=tunetrail --group=tunetrail [^&]*{folder} ", " ".join(of("cpu", "RUN")))


def test_the_trainers_get_the_gpus():
    rocm = SERVICES["trainer-rocm"]
    assert rocm["devices"] == ["/dev/kfd", "/dev/dri"]
    assert rocm["group_add"] == ["${VIDEO_GID:-video}", "${RENDER_GID:-render}"]
    assert SERVICES["trainer-cuda"]["gpus"] == "all"

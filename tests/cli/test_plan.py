"""`tunetrail plan` as a user calls it, and its facts for every experiment of conf/."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from tests.conftest import ROOT
from tunetrail.plan import device, prediction
from tunetrail.plan.estimate import hardware
from tunetrail.plan.rules import judge

EXPERIMENTS = {
    "alpaca_tiny": None,  # needs a file
    "demo": 343,
    "llama3_8b_alpaca": 1164,
    "llama3_8b_alpaca_lora": 1164,
    "llama3_8b_alpaca_published": 27,
    "llama3_8b_alpaca_qlora": 1164,
    "smollm2_135m_alpaca_lora": 134,
}


def test_the_published_recipe_is_refused_for_its_warm_up_and_the_message_has_its_steps_and_real_peak(plan):
    done = plan("experiment=llama3_8b_alpaca_published", "plan.device=mi300x", "plan.num_gpus=8")
    assert done.returncode == 2
    printed = " ".join(done.stdout.split())
    assert "WARMUP_NEVER_ENDS" in printed.partition("refused: ")[2]
    assert "100 steps and the run has 27" in printed
    assert "5.2e-6 of 2e-5" in printed
    for code in ("BOS_DIFFERS", "EVALUATION_COSTLY", "FEW_STEPS", "BATCH_FAR", "CHECKPOINTS_KEPT", "NON_COMMERCIAL"):
        assert code in printed, code


def test_the_corrected_recipe_is_accepted(plan):
    done = plan("experiment=llama3_8b_alpaca", "plan.device=mi300x", "plan.num_gpus=8", "--json")
    assert done.returncode == 0, done.stdout
    printed = json.loads(done.stdout)
    assert [finding["code"] for finding in printed["findings"] if finding["level"] == "ERROR"] == []
    assert printed["schedule"]["peak"] == pytest.approx(2e-5)
    assert printed["data"]["source"] == "recorded"


def test_the_corrected_recipe_is_refused_where_it_needs_too_much_memory(plan):
    done = plan("experiment=llama3_8b_alpaca", "plan.device=a100_40", "plan.num_gpus=8")
    assert done.returncode == 2
    assert "refused: OUT_OF_MEMORY" in done.stdout
    allowed = plan("experiment=llama3_8b_alpaca", "plan.device=a100_40", "plan.allow=[OUT_OF_MEMORY]")
    assert allowed.returncode == 0
    assert "allowed OUT_OF_MEMORY" in allowed.stdout


def test_missing_evaluation_data_on_this_machine_is_reported_beside_the_plan(plan, tmp_path, monkeypatch):
    import nltk

    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    done = plan("experiment=llama3_8b_alpaca", "plan.device=mi300x", "plan.num_gpus=8")
    assert "a run on this machine would be refused: NLTK's punkt_tab" in done.stderr
    assert done.returncode == 0  # the run may be for another machine
    (tmp_path / "tokenizers" / "punkt_tab").mkdir(parents=True)
    assert "punkt_tab" not in plan("experiment=llama3_8b_alpaca", "plan.device=mi300x", "plan.num_gpus=8").stderr


def test_a_misspelled_key_ends_with_the_code_of_a_refusal(plan):
    done = plan("+train.lerning_rate=1")
    assert done.returncode == 2
    assert done.stdout.startswith("error UNKNOWN_KEY: train.lerning_rate: no such key")
    assert "Did you mean train.learning_rate?" in done.stdout
    assert json.loads(plan("+train.lerning_rate=1", "--json").stdout)["findings"][0]["code"] == "UNKNOWN_KEY"
    assert "is not of type" in plan("train.learning_rate=abc").stderr  # another error keeps its own message


def test_a_misspelled_code_is_refused_by_name(plan):
    done = plan("plan.allow=[WARMUP_NEVER_END]")
    assert done.returncode == 2
    assert "WARMUP_NEVER_ENDS" in done.stderr


def test_a_misspelled_device_is_refused_with_the_nearest(plan):
    done = plan("plan.device=h20")
    assert done.returncode == 2
    assert "Did you mean h200?" in done.stderr


def test_the_learning_rate_is_plotted(plan, tmp_path):
    done = plan("--plot", str(tmp_path / "rate.png"))
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "rate.png").size[0] >= 600
    assert "learning rate at each step" in done.stdout


def test_every_device_is_listed_with_the_source_of_its_speed(plan):
    devices, _, sources = plan("--devices").stdout.partition("\n\n")
    lines = {line.split()[0]: line.split()[-1] for line in devices.splitlines()[1:]}
    assert lines.keys() == {*hardware.DEVICES, "cpu"}
    assert all(f"{lines[name]} " in sources for name in hardware.DEVICES)
    assert f"{lines['h100']} {hardware.named('h100').mfu_source}" in sources


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_is_planned(experiment, composed, shared, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    words = [f"experiment={experiment}"]
    if experiment == "alpaca_tiny":
        words += [
            f"prepare.path={shared('alpaca/alpaca_en_demo.jsonl')}",
            f"evaluate.path={shared('ifeval/input_data.jsonl')}",
        ]
    values = composed(*words)
    facts = prediction.predict(values, ROOT, *device.chosen(values))
    plain = facts.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert EXPERIMENTS[experiment] in (None, facts.steps.total)
    findings = judge.judge(values, facts, {})
    errors = {finding.code for finding in findings if finding.level == "ERROR"} - {"OUT_OF_DISK"}
    assert errors == ({"WARMUP_NEVER_ENDS", "BOS_DIFFERS"} if experiment.endswith("published") else set())


def test_every_experiment_of_conf_is_named_here():
    assert set(EXPERIMENTS) == {file.stem for file in (ROOT / "conf" / "experiment").glob("*.yaml")}


def test_a_plan_imports_neither_torch_nor_transformers():
    program = (
        "import sys; from tunetrail.cli import main\n"
        "try: main(['plan'])\n"
        "except SystemExit as end: code = end.code\n"
        "print(code, {'torch', 'transformers', 'mlflow', 'axolotl'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 set()"

"""Axolotl's own validation of configs before a run: every test asks the real Axolotl, in one process."""

import pytest

from tests.conftest import ROOT
from tunetrail.plan import acceptance, device
from tunetrail.plan.estimate import hardware


@pytest.fixture
def ask_axolotl(composed):
    """Return a function that validates the run of some overrides on their device and returns Axolotl's refusals."""

    def call(*words, root=ROOT):
        values = composed(*words)
        return acceptance.ask(values, root, *device.chosen(values))()

    return call


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("method=lora",),
        ("method=qlora",),
        ("experiment=llama3_8b_alpaca", "plan.device=mi300x"),
        ("experiment=llama3_8b_alpaca_published", "plan.device=mi300x"),
        ("experiment=llama3_8b_alpaca_lora", "plan.device=h100"),
        ("experiment=llama3_8b_alpaca_qlora", "plan.device=rtx_4090"),
        ("experiment=smollm2_135m_alpaca_lora",),
        ("model=llama3_2_1b", "hardware=[cuda,fsdp2]", "plan.device=h100", "accelerate.num_processes=2"),
    ],
    ids=" ".join,
)
def test_axolotl_accepts_what_conf_composes(ask_axolotl, words):
    assert ask_axolotl(*words) == {}


@pytest.mark.parametrize(
    ("override", "key", "says"),
    [
        ("+train.rl=dpo", "rl", "does not work with RLHF"),
        ("+train.val_set_size=0.1", "val_set_size", "should not be used with test_datasets"),
        ("+train.flash_attn_rms_norm=true", "flash_attn_rms_norm", "`flash_attn_rms_norm` is no longer supported"),
        ("++train.warmup_steps=5", "warmup_steps", "warmup_steps and warmup_ratio are mutually exclusive"),
        ("+train.eval_steps=5", "eval_steps", "eval_steps and evals_per_epoch are mutually exclusive"),
        ("train.save_strategy=epoch", "save_steps", "save_strategy and save_steps mismatch"),
        ("+train.batch_size=64", "batch_size", "gradient_accumulation_steps or batch_size"),
        ("+train.flash_attention=true", "flash_attention", "cannot be combined with legacy attention flags"),
        ("+train.neftune_noise_alpha=-1", "neftune_noise_alpha", "neftune_noise_alpha must be > 0"),
        ("+train.relora=true", "relora", "jagged_restart_steps must be set"),
    ],
)
def test_a_refusal_has_axolotls_own_message_and_the_key_without_which_it_accepts_the_config(
    ask_axolotl, override, key, says
):
    (refusal,) = ask_axolotl(override).values()
    assert (refusal["key"], refusal["package"]) == (key, False)
    assert says in refusal["message"]
    assert "pydantic" not in refusal["message"]
    assert len(refusal["message"]) < 300


def test_the_config_of_the_base_models_training_is_checked_too(ask_axolotl):
    refusals = ask_axolotl("+base.make.train.rl=dpo")
    assert list(refusals) == ["base.make.train"]
    assert list(ask_axolotl("+base.make.train.rl=dpo", "+train.rl=dpo")) == ["train", "base.make.train"]


def test_a_fault_that_pydantic_finds_names_its_key_and_not_the_alternatives_of_its_type(ask_axolotl):
    (refusal,) = ask_axolotl("+train.optim_args=3").values()
    assert refusal["message"].startswith("optim_args: Input should be a valid ")
    assert "optim_args.str" not in refusal["message"]


@pytest.mark.parametrize(("device", "refused"), [("h100", False), ("mi300x", False), ("a100_40", True), ("cpu", True)])
def test_a_config_is_judged_for_the_device_that_is_planned(ask_axolotl, device, refused):
    """FP8 needs a GPU of 2022 or later; whether its package is installed here does not matter."""
    refusals = ask_axolotl("+train.fp8=true", "hardware=cuda", f"plan.device={device}")
    assert ("fp8 is not supported on this GPU" in str(refusals)) == refused


def test_an_adapter_is_not_left_out_because_of_a_key_that_it_lacks(ask_axolotl):
    assert ask_axolotl("+train.adapter=qlora")["train"]["key"] is None


def test_a_plugin_that_cannot_be_imported_is_a_package_that_is_missing(ask_axolotl):
    (refusal,) = ask_axolotl(
        "+train.plugins=[tunetrail.training.plugin.HistoryPlugin,nowhere.Plugin]", "model=llama3_2_1b"
    ).values()
    assert refusal["package"]
    assert "nowhere.Plugin cannot be imported" in refusal["message"]


def test_a_plugin_of_one_config_does_not_stay_for_the_next(ask_axolotl):
    liger = "train.plugins=[tunetrail.training.plugin.HistoryPlugin,axolotl.integrations.liger.LigerPlugin]"
    both = ("+train.liger_cross_entropy=true", "+train.liger_fused_linear_cross_entropy=true")
    assert "Only one cross entropy" in ask_axolotl("model=llama3_2_1b", liger, *both)["train"]["message"]
    assert ask_axolotl("model=llama3_2_1b", "+train.liger_cross_entropy=true") == {}


@pytest.fixture
def questions(composed, monkeypatch):
    """Return a function that gives the question to Axolotl for the run of some overrides in a checkout."""
    recorded = []
    monkeypatch.setattr(acceptance.tool_queries, "ask", lambda module, question, *_: recorded.append(question))

    def call(root, *words):
        values = composed(*words)
        acceptance.ask(values, root, *device.chosen(values))
        return recorded[-1]

    return call


def test_axolotl_is_asked_again_after_a_change_of_the_users_plugin_or_of_deepspeeds_config(questions, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "zero.json").write_text("{}")
    words = ["+train.deepspeed=zero.json", "train.plugins=[tunetrail.training.plugin.HistoryPlugin,mine.Plugin]"]
    before = questions(tmp_path, *words)
    (tmp_path / "mine.py").write_text("")
    with_plugin = questions(tmp_path, *words)
    (tmp_path / "zero.json").write_text('{"zero_optimization": {"stage": 3}}')
    assert before != with_plugin != questions(tmp_path, *words) != before


def test_axolotl_is_asked_again_after_a_change_of_a_plugin_that_is_a_package(questions, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    words = ["train.plugins=[tunetrail.training.plugin.HistoryPlugin,mypkg.MyPlugin,outer.inner.Plugin]"]
    seen = [questions(tmp_path, *words)]
    for name in ("mypkg/__init__.py", "mypkg/arguments.py", "outer/__init__.py", "outer/inner.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"# {name}")
        seen.append(questions(tmp_path, *words))
        assert seen[-1] not in seen[:-1]


def test_a_refusal_that_may_be_temporary_is_not_cached(ask_axolotl, monkeypatch):
    keeps = []
    ask = acceptance.tool_queries.ask
    monkeypatch.setattr(acceptance.tool_queries, "ask", lambda *question: keeps.append(question[3]) or ask(*question))
    missing = ask_axolotl("train.plugins=[tunetrail.training.plugin.HistoryPlugin,nowhere.Plugin]", "model=llama3_2_1b")
    refused = ask_axolotl("+train.rl=dpo")
    assert [keep(answer) for keep, answer in zip(keeps, (missing, refused), strict=True)] == [False, True]


def test_jobs_that_differ_in_rate_and_seed_and_checkouts_in_other_folders_share_an_answer(questions, tmp_path):
    question = questions(ROOT)
    assert questions(tmp_path, "seed=7", "train.learning_rate=1e-5") == question
    assert questions(ROOT, "train.num_epochs=2") != question


def test_axolotls_check_needs_neither_a_model_nor_data(ask_axolotl, tmp_path):
    assert ask_axolotl("model=hub", "base.base_model=nobody/has-this", "base.revision_of_model=null", root=tmp_path) == {}


def test_the_capabilities_of_a_gpu_that_is_here_are_left_to_axolotl(composed, monkeypatch):
    requests = []
    monkeypatch.setattr(acceptance.tool_queries, "ask", lambda module, question, *_: requests.append(question))
    values = composed("hardware=cuda", "accelerate.num_processes=2", "accelerate.multi_gpu=true")
    for origin in ("this machine", "plan.device"):
        acceptance.ask(values, ROOT, hardware.named("h100"), origin)
    assert [request["capabilities"] for request in requests] == [
        {"n_gpu": 2},
        {"n_gpu": 2, **hardware.named("h100").capabilities()},
    ]

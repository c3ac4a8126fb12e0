"""Keys that Axolotl accepts but that have no effect, are overridden, or send data elsewhere."""

import pytest

from tests.planned import assert_one_finding_per_rule, fixed, judged
from tunetrail.plan.rules import effects
from tunetrail.plan.rules.finding import ERROR, WARNING

EXPERIMENTS = (
    *("demo", "llama3_8b_alpaca", "llama3_8b_alpaca_published", "llama3_8b_alpaca_lora", "llama3_8b_alpaca_qlora"),
    "smollm2_135m_alpaca_lora",
)
RULES = (*effects.ERRORS, *effects.WARNINGS)


def test_every_finding_has_the_code_of_its_rule(composed):
    words = ("+train.rl_beta=0.1", "+train.resume_from_checkpoint=/nowhere", "+train.saves_per_epoch=2")
    words += ("train.save_strategy=no", "train.save_steps=null")
    words += ("+train.use_wandb=true", "+train.deepspeed=conf/hardware/zero3.yaml")
    assert_one_finding_per_rule(effects.ERRORS, ERROR, [judged(rule, composed, *words) for rule in effects.ERRORS])
    assert_one_finding_per_rule(effects.WARNINGS, WARNING, [judged(rule, composed, *words) for rule in effects.WARNINGS])


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_no_shipped_experiment_has_such_a_key(composed, experiment):
    assert [judged(rule, composed, f"experiment={experiment}") for rule in RULES] == [None] * len(RULES)


@pytest.mark.parametrize(
    ("override", "without"),
    [
        ("+train.chat_template=chatml", "a data set of chats"),
        ("+train.datasets.0.chat_template=chatml", "a data set of chats"),
        ("+train.datasets.0.roles_to_train=[assistant]", "a data set of chats"),
        ("+train.datasets.0.train_on_eos=turn", "a data set of chats"),
        ("+train.rl_beta=0.1", "train.rl"),
        ("+train.dpo_label_smoothing=0.1", "train.rl"),
        ("+train.kto_desirable_weight=0.2", "train.rl"),
        ("+train.simpo_gamma=0.5", "train.rl"),
        ("+train.trl.beta=0.1", "train.rl"),
        ("+train.eval_table_size=5", "a tracker that takes tables, as train.use_wandb"),
        ("+train.wandb_entity=me", "train.use_wandb"),
        ("+train.wandb_mode=online", "train.use_wandb"),
        ("+train.mlflow_run_name=me", "train.use_mlflow"),
        ("+train.relora_prune_ratio=0.9", "train.relora"),
        ("+train.hub_strategy=end", "train.hub_model_id"),
        ("+train.torch_compile_mode=default", "train.torch_compile"),
        ("+base.make.train.chat_template=chatml", "a data set of chats"),
    ],
)
def test_a_key_without_effect_is_reported_with_what_it_needs_and_the_fix_removes_it(composed, known, override, without):
    finding = judged(effects.keys_unused, composed, override)
    assert (finding.code, finding.level) == ("KEYS_UNUSED", ERROR)
    assert f" has no effect without {without}" in finding.what
    assert finding.what.startswith(override[1:].partition("=")[0].partition(".beta")[0])
    fixed(composed, known, finding, override)
    assert judged(effects.keys_unused, composed, override, f"++{finding.fix}") is None


def test_keys_of_packing_have_no_effect_without_packing(composed):
    words = ("train.sample_packing=null", "train.eval_sample_packing=null", "+train.sample_packing_bin_size=100")
    assert "train.sample_packing_bin_size" in judged(effects.keys_unused, composed, *words).what
    assert judged(effects.keys_unused, composed, words[-1]) is None


@pytest.mark.parametrize(
    "words",
    [
        ("train.datasets.0.type=chat_template", "+train.chat_template=chatml", "+train.datasets.0.roles_to_train=[a]"),
        ("+train.rl=dpo", "+train.rl_beta=0.1"),
        ("+train.wandb_project=mine", "+train.wandb_entity=me", "+train.eval_table_size=5"),
        ("+train.rl_beta=null",),
        ("train.sample_packing=false", "train.eval_sample_packing=false", "+train.sample_packing_bin_size=100"),
        ("experiment=llama3_8b_alpaca_published", "train.sample_packing=false"),
        ("+train.wandb_mode=disabled",),
        ("+train.wandb_mode=offline",),
        ("+train.torch_compile=true", "+train.torch_compile_mode=default"),
    ],
)
def test_a_key_with_everything_that_it_needs_is_accepted(composed, words):
    assert judged(effects.keys_unused, composed, *words) is None


def test_resume_from_checkpoint_must_name_a_checkpoint(composed, known, tmp_path):
    override = f"+train.resume_from_checkpoint={tmp_path}"
    finding = judged(effects.no_checkpoint, composed, override)
    assert finding.what.startswith(f"train.resume_from_checkpoint={tmp_path} is not a checkpoint")
    assert fixed(composed, known, finding, override)["train"]["resume_from_checkpoint"] is None
    (tmp_path / "trainer_state.json").write_text("{}")
    assert judged(effects.no_checkpoint, composed, override) is None


@pytest.mark.parametrize(
    "override",
    [
        "+train.resume_from_checkpoint=work/train/checkpoint-9",
        "+base.make.train.resume_from_checkpoint=checkpoint-9",
    ],
)
def test_resuming_from_a_checkpoint_is_reported(composed, known, override):
    finding = judged(effects.resumes, composed, override)
    assert (finding.code, finding.level) == ("RESUMES", WARNING)
    assert override[1:].partition("=")[0] in finding.what
    values = fixed(composed, known, finding, override)
    assert effects.resumes(values, {}) is None
    assert judged(effects.resumes, composed, "+train.auto_resume_from_checkpoints=true") is None  # only its own


@pytest.mark.parametrize("key", ["train.deepspeed", "train.tokenizer_config", "accelerate.config_file"])
def test_a_file_that_no_stage_depends_on_is_reported_as_unrecorded(composed, known, tmp_path, key):
    file = tmp_path / "own.json"
    assert judged(effects.file_unrecorded, composed, f"++{key}={file}") is None
    file.write_text("{}")
    finding = judged(effects.file_unrecorded, composed, f"++{key}={file}")
    assert (finding.code, finding.level, finding.what) == ("FILE_UNRECORDED", WARNING, f"{key}={file}")
    fixed(composed, known, finding, f"++{key}={file}")


def test_files_that_a_stage_depends_on_are_recorded(composed, tmp_path):
    model, prompts = tmp_path / "model", tmp_path / "prompts.jsonl"
    model.mkdir()
    prompts.touch()
    words = ("model=local", f"base.base_model={model}", f"evaluate.path={prompts}")
    assert judged(effects.file_unrecorded, composed, *words) is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ("+train.saves_per_epoch=2", "train.save_strategy=no", "train.save_steps=null"),
            "train.saves_per_epoch=2 wins over train.save_strategy=no",
        ),
        (
            ("method=lora", "+train.lora_target_modules=[q_proj]"),
            "train.lora_target_linear=True wins over train.lora_target_modules=['q_proj']",
        ),
        (("train.bf16=true", "train.fp16=true"), "train.bf16=True wins over train.fp16=True"),
    ],
)
def test_a_key_that_silently_overrides_another_is_reported(composed, known, words, says):
    finding = judged(effects.key_overridden, composed, *words)
    assert says in finding.what
    fixed(composed, known, finding, *words)
    assert judged(effects.key_overridden, composed, *words, *(f"++{override}" for override in finding.fix.split())) is None


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("+train.use_wandb=true", "train.use_wandb sends losses, the config and the machine's load to Weights & Biases"),
        ("+train.wandb_project=a", "train.wandb_project sends"),
        ("+train.use_comet=true", "comet.com"),
        ("+train.mlflow_experiment_name=a", "Axolotl's own MLflow run"),
        ("+train.hub_model_id=a/b", "train.hub_model_id sends the model, at every save to huggingface.co"),
        ("+train.push_dataset_to_hub=a", "the tokenised rows to huggingface.co"),
        ("+base.make.train.use_wandb=true", "base.make.train.use_wandb sends"),
    ],
)
def test_data_that_leave_the_machine_are_reported_with_their_destination(composed, known, override, says):
    finding = judged(effects.sent_elsewhere, composed, override)
    assert (finding.level, says in finding.what) == (WARNING, True)
    fixed(composed, known, finding, override)


def test_trackers_that_send_nothing_are_not_reported(composed):
    assert judged(effects.sent_elsewhere, composed, "+train.use_wandb=true", "+train.wandb_mode=offline") is None
    assert judged(effects.sent_elsewhere, composed, "+train.use_trackio=true") is None

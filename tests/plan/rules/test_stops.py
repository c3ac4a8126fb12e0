"""Rules that refuse a run that would stop or train something else; each fix is applied and judged again."""

import json

import pytest

from tests.planned import assert_one_finding_per_rule, changed, facts, fixed, on
from tunetrail.plan.rules import stops, unusual
from tunetrail.plan.rules.finding import ERROR
from tunetrail.units import GIB

CORRECTED = "experiment=llama3_8b_alpaca"
PUBLISHED = "experiment=llama3_8b_alpaca_published"
EXPERIMENTS = ("demo", "llama3_8b_alpaca", "llama3_8b_alpaca_lora", "llama3_8b_alpaca_qlora", "smollm2_135m_alpaca_lora")
H100 = {"name": "h100", "count": 1, "memory": 79 * GIB, "maker": "NVIDIA"}


def test_every_finding_has_the_code_of_its_rule_and_is_an_error(composed):
    """With facts that are all wrong, every rule of the file has a finding."""
    values = composed(PUBLISHED, "+train.lora_r=8")
    planned = facts(
        values,
        steps={"total": 27},
        schedule={"warmup": 100},
        memory={"total": 200 * GIB, "row_in_evaluation": 4096, "capacity": 14 * GIB},
        disk={"free": GIB},
        model={"max_position_embeddings": 2048},
        device={"name": "t4", "bf16": False, "maker": "NVIDIA"},
    )
    nothing = changed(planned, steps={"total": 0})
    findings = [rule(values, nothing if rule is stops.no_steps else planned) for rule in stops.RULES]
    assert_one_finding_per_rule(stops.RULES, ERROR, findings)


def test_no_shipped_experiment_is_refused_for_what_its_config_says(composed):
    for name in EXPERIMENTS:
        values = composed(f"experiment={name}")
        assert [rule(values, facts(values)) for rule in stops.RULES] == [None] * len(stops.RULES), name


# Steps, and positions for answers.


def test_rows_that_fill_no_micro_batch_are_refused_and_nothing_else_is_reported(composed, known):
    words = ("train.micro_batch_size=1000",)
    values = composed(*words)
    planned = facts(values, steps={"total": 0}, schedule={"warmup": 0}, data={"kept": 10, "tokens": 900})
    finding = stops.no_steps(values, planned)
    assert "10 rows of 900 tokens do not fill a micro-batch of 1,000 x 256 tokens on each of 8 GPUs" in finding.what
    assert fixed(composed, known, finding, *words)["train"]["micro_batch_size"] == 1
    assert stops.warmup_never_ends(values, planned) is None
    assert unusual.few_steps(values, planned) is None
    assert stops.no_steps(values, facts(values, steps={"total": 1})) is None


@pytest.mark.parametrize(
    ("held_out", "packed", "fixes"),
    [(50, True, True), (50, False, True), (5, True, False), (0, True, False), (8, True, False)],
)
def test_the_fix_holds_out_fewer_rows_if_too_few_are_left_for_a_step(composed, known, held_out, packed, fixes):
    """Of 60 rows of 50 tokens, for 8 sequences of 256 tokens or 8 rows; but not if that would not be enough."""
    words = ("accelerate.num_processes=1", f"train.sample_packing={str(packed).lower()}")
    values = composed(*words)
    rows = 60 - held_out if held_out in (50, 5, 0) else 10
    data = {"kept": rows, "train": rows, "validation": held_out, "tokens": rows * 50, "mean": 50.0}
    fix = fixed(composed, known, stops.no_steps(values, facts(values, steps={"total": 0}, data=data, device={"count": 1})))
    assert (fix["prepare"]["validation_rows"] == 0.05) == fixes
    assert (fix["train"]["micro_batch_size"] == 1) == (not fixes)


@pytest.mark.parametrize(("limit", "fix"), [(1664, 1279), (386, 1), (385, None)])
def test_the_longest_prompt_and_its_answer_must_fit_the_models_positions(composed, known, limit, fix):
    values = composed(CORRECTED)
    finding = stops.answers_too_long(values, facts(values, model={"max_position_embeddings": limit}))
    assert (
        finding.what == f"the longest prompt has 385 tokens, an answer may have 1,280, and the model has {limit:,} positions"
    )
    assert stops.answers_too_long(values, facts(values, model={"max_position_embeddings": 1665})) is None
    if fix:
        assert fixed(composed, known, finding, CORRECTED)["evaluate"]["task"]["generation_kwargs"]["max_gen_toks"] == fix
    else:
        assert finding.fix == "a model with more positions, or shorter prompts"


# The warm-up.


def test_the_published_warm_up_is_refused_with_its_numbers_and_fixed(composed, known):
    values = composed(PUBLISHED)
    planned = facts(values, steps={"total": 27}, schedule={"warmup": 100, "peak": 5.2e-6, "asked": 2e-5})
    finding = stops.warmup_never_ends(values, planned)
    assert finding.what == "the warm-up takes 100 steps and the run has 27: the rate only reaches 5.2e-6 of 2e-5"
    assert finding.fix == "train.warmup_steps=null train.warmup_ratio=0.03"
    train = fixed(composed, known, finding, PUBLISHED)["train"]
    assert (train["warmup_steps"], train["warmup_ratio"]) == (None, 0.03)


def test_a_warm_up_of_steps_is_fixed_where_the_config_had_a_ratio(composed, known):
    words = ("+train.warmup_steps=500", "train.warmup_ratio=null")
    values = composed(*words)
    finding = stops.warmup_never_ends(values, facts(values, steps={"total": 488}, schedule={"warmup": 500}))
    train = fixed(composed, known, finding, *words)["train"]
    assert (train["warmup_steps"], train["warmup_ratio"]) == (None, 0.03)


@pytest.mark.parametrize(("warmup", "refused"), [(26, False), (27, True), (28, True)])
def test_a_warm_up_must_be_shorter_than_the_run(composed, warmup, refused):
    values = composed(PUBLISHED)
    planned = facts(values, steps={"total": 27}, schedule={"warmup": warmup})
    assert bool(stops.warmup_never_ends(values, planned)) == refused


def test_a_scheduler_that_ignores_the_warm_up_reaches_its_rate_and_is_accepted(composed):
    values = composed(PUBLISHED)
    planned = facts(values, steps={"total": 27}, schedule={"warmup": 100, "peak": 2e-5, "asked": 2e-5})
    assert stops.warmup_never_ends(values, planned) is None


# Memory.


def out_of_memory(composed, device, count, *words):
    values = composed(*words)
    return stops.out_of_memory(values, on(values, device, count))


# Each with its first fix: kernels, activations, micro-batches; shards; 8-bit states; adapters; a smaller model.
TOO_MUCH = [
    ((PUBLISHED,), "h100", 8, "train.plugins"),
    (("model=llama3_8b", "hardware=cuda", "train.micro_batch_size=8"), "h200", 1, "train.plugins"),
    (("model=llama3_8b", "hardware=cuda"), "h100", 8, "hardware=[cuda,fsdp2]"),
    (("model=llama3_8b", "hardware=rocm"), "mi210", 8, "hardware=[rocm,fsdp2]"),
    (("model=llama3_8b", "hardware=cuda"), "l40s", 1, "train.optimizer=paged_adamw_8bit"),
    ((CORRECTED,), "l40s", 1, "train.gradient_checkpointing"),
    ((CORRECTED,), "rtx_4090", 1, "method=lora"),
    ((CORRECTED,), "v100", 8, "method=lora"),
    (("experiment=llama3_8b_alpaca_lora", "hardware=cuda"), "rtx_4090", 1, "train.gradient_checkpointing"),
    (("experiment=llama3_8b_alpaca_lora", "hardware=cuda", "train.sequence_len=16384"), "rtx_4090", 1, "method=qlora"),
    (("model=llama3_2_1b",), "cpu", 1, "method=lora"),
]


@pytest.mark.parametrize(("words", "device", "count", "first"), TOO_MUCH)
def test_a_run_fits_after_one_fix(composed, known, words, device, count, first):
    finding = out_of_memory(composed, device, count, *words)
    assert finding.fix.replace("'", "").lstrip("+").startswith(first), finding.fix
    values = fixed(composed, known, finding, *words)
    assert on(values, device, count).memory.fits


def test_the_fix_keeps_the_number_of_sequences_per_step(composed, known):
    words = (PUBLISHED, "train.micro_batch_size=12", "train.gradient_accumulation_steps=1")
    train = fixed(composed, known, out_of_memory(composed, "h100", 8, *words), *words)["train"]
    assert train["micro_batch_size"] * train["gradient_accumulation_steps"] == 12
    assert "axolotl.integrations.liger.LigerPlugin" in train["plugins"]
    assert train["micro_batch_size"] > 1


def test_the_fix_enables_all_of_ligers_kernels_on_a_gpu_and_none_on_a_cpu(composed, known):
    words = ("model=llama3_8b", "hardware=cuda", "train.micro_batch_size=8")
    train = fixed(composed, known, out_of_memory(composed, "h200", 1, *words), *words)["train"]
    recipe = composed(CORRECTED)["train"]
    assert train["plugins"] == recipe["plugins"]
    assert all(train[key] == recipe[key] for key in recipe if key.startswith("liger_"))
    assert "liger" not in out_of_memory(composed, "cpu", 1, "model=llama3_2_1b").fix.lower()


def test_a_run_that_fits_is_accepted(composed):
    assert out_of_memory(composed, "mi300x", 8, PUBLISHED) is None


def test_a_run_that_does_not_fit_is_refused_with_its_largest_parts(composed):
    values = composed(PUBLISHED)
    parts = {"weights": 15 * GIB, "activations": 30 * GIB, "logits": 35 * GIB}
    memory = {"parts": parts, "paged": 99 * GIB, "total": 99 * GIB, "capacity": 79 * GIB}
    finding = stops.out_of_memory(values, facts(values, device=H100, memory=memory))
    assert finding.what == "training needs 99.0 GiB (logits 35.0 GiB, activations 30.0 GiB) on each h100, which has 79.0 GiB"


def test_generation_that_does_not_fit_is_fixed_by_a_smaller_batch(composed, known):
    words = ("experiment=llama3_8b_alpaca_qlora", "hardware=cuda", "evaluate.batch_size=512")
    finding = out_of_memory(composed, "a100_80", 1, *words)
    assert "evaluation needs 120.5 GiB on each a100_80, which has 79.0 GiB" in finding.what
    assert "training" not in finding.what
    assert fixed(composed, known, finding, *words)["evaluate"]["batch_size"] == 256


@pytest.mark.stage
def test_axolotl_itself_accepts_every_fix_of_memory(composed, known, monkeypatch):
    monkeypatch.setenv("AXOLOTL_DO_NOT_TRACK", "1")
    from axolotl.utils.config import prepare_plugins, validate_config
    from axolotl.utils.dict import DictDefault

    gpu = {"bf16": True, "fp8": True, "tf32": True, "n_gpu": 8, "compute_capability": "sm_90"}
    for words, device, count, _ in TOO_MUCH:
        finding = out_of_memory(composed, device, count, *words)
        train = DictDefault(fixed(composed, known, finding, *words)["train"])
        prepare_plugins(train)
        validate_config(train, capabilities=gpu, env_capabilities={"torch_version": "2.13.0"})


# The disk.


def out_of_disk(composed, *words, **disk):
    values = composed(*words)
    return stops.out_of_disk(values, facts(values, disk=disk))


@pytest.mark.parametrize(("free", "refused"), [(123.0, False), (122.9, True), (None, False)])
def test_the_disk_must_have_room_for_all_that_is_written(composed, free, refused):
    free = free and int(free * GIB)  # None: unknown
    assert bool(out_of_disk(composed, PUBLISHED, checkpoints=3, total=123 * GIB, free=free)) == refused


def test_the_fix_limits_checkpoints_or_else_saves_none(composed, known):
    figures = {"checkpoints": 4, "checkpoint": 33 * GIB, "total": 180 * GIB}
    finding = out_of_disk(composed, PUBLISHED, **figures, free=114 * GIB)
    assert finding.what == "the run writes 180.0 GiB (4 checkpoints of 33.0 GiB) and the disk has 114.0 GiB free"
    assert fixed(composed, known, finding, PUBLISHED)["train"]["save_total_limit"] == 1
    train = fixed(composed, known, out_of_disk(composed, PUBLISHED, **figures, free=113 * GIB), PUBLISHED)["train"]
    assert (train["save_strategy"], train["saves_per_epoch"], train.get("save_total_limit")) == ("no", None, None)


def test_if_the_finished_models_alone_are_too_large_the_fix_is_to_free_disk_space(composed):
    finding = out_of_disk(composed, PUBLISHED, checkpoints=1, checkpoint=33 * GIB, total=80 * GIB, free=10 * GIB)
    assert finding.fix == "tunetrail gc"


# Sequences.


@pytest.mark.parametrize(("length", "refused"), [(8192, False), (8193, True), (16384, True)])
def test_sequences_are_no_longer_than_the_models_positions(composed, known, length, refused):
    words = (PUBLISHED, f"train.sequence_len={length}")
    values = composed(*words)
    finding = stops.sequence_too_long(values, facts(values))
    assert bool(finding) == refused
    if refused:
        assert "8,192 positions" in finding.what
        values = fixed(composed, known, finding, *words)
        assert values["train"]["sequence_len"] == values["contract"]["sequence_len"] == 8192


def test_positions_that_the_config_extends_are_accepted(composed):
    values = composed(
        PUBLISHED, "train.sequence_len=16384", "+train.overrides_of_model_config.max_position_embeddings=16384"
    )
    assert stops.sequence_too_long(values, facts(values)) is None


# bfloat16.


@pytest.mark.parametrize(
    ("bf16", "device", "refused"),
    [
        *((True, "t4", True), ("auto", "t4", True), (False, "t4", False)),
        *((True, "cpu", True), ("auto", "cpu", False), (False, "cpu", False)),
    ],
)
def test_bfloat16_is_refused_on_a_device_without_it_and_auto_does_not_help_on_a_gpu(composed, bf16, device, refused):
    values = composed("hardware=cuda", f"train.bf16={json.dumps(bf16)}")
    planned = facts(values, device={"name": device, "bf16": False})
    assert bool(stops.no_bf16(values, planned)) == refused
    assert stops.no_bf16(values, facts(values)) is None


def test_the_fix_leaves_no_bfloat16_anywhere(composed, known):
    words = (CORRECTED, "hardware=cuda", "+train.bfloat16=true")
    values = composed(*words)
    finding = stops.no_bf16(values, facts(values, device={"name": "v100", "bf16": False}))
    values = fixed(composed, known, finding, *words)
    assert (values["train"]["bf16"], values["train"]["bfloat16"], values["train"]["fp16"]) == (False, None, False)
    assert values["accelerate"]["mixed_precision"] == "no"
    assert values["evaluate"]["model_args"]["dtype"] == "float16"
    values = composed("hardware=cuda", "train.bf16=true")
    finding = stops.no_bf16(values, facts(values, device={"name": "cpu", "bf16": False}))  # lm-eval can evaluate in it
    assert finding.fix == "train.bf16=false train.fp16=false accelerate.mixed_precision=no"


@pytest.mark.stage
def test_on_a_cpu_the_trainer_stops_at_bfloat16(monkeypatch, tmp_path):
    import torch
    from transformers import TrainingArguments

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")  # as `accelerate launch --cpu` sets it
    with pytest.raises(ValueError, match="doesn't support bf16"):
        TrainingArguments(str(tmp_path), bf16=True)


# An adapter's keys.


@pytest.mark.parametrize(
    ("override", "refused"),
    [
        *(("+train.lora_r=32", True), ("+train.peft_use_dora=true", True), ("+train.loraplus_lr_ratio=16", True)),
        *(("+train.peft.loftq_config.loftq_bits=4", True), ("+train.load_in_4bit=true", True)),
        *(("+train.lora_r=null", False), ("+train.lora_target_linear=false", False), ("+train.load_in_8bit=false", False)),
        *(("+train.lora_qkv_kernel=true", False), ("train.lora_mlp_kernel=true", False)),
        ("method=lora", False),
    ],
)
def test_an_adapters_keys_without_an_adapter_are_refused_and_kernel_switches_are_none(composed, override, refused):
    values = composed(override)
    assert bool(stops.adapter_keys_unused(values, facts(values))) == refused


@pytest.mark.parametrize(("method", "more"), [("lora", ()), ("qlora", ("+train.load_in_4bit=true",))])
def test_the_fix_trains_the_adapter_that_conf_method_has(composed, known, method, more):
    words = (CORRECTED, "+train.lora_r=32", *more)
    values = composed(*words)
    finding = stops.adapter_keys_unused(values, facts(values))
    assert "train.lora_r=32" in finding.what
    assert finding.why.startswith("All 8,030,261,248 weights")
    train = fixed(composed, known, finding, *words)["train"]
    expected = composed(CORRECTED, f"method={method}", "train.lora_r=32")["train"]
    own = {"learning_rate", "optimizer"}  # LEARNING_RATE_FAR covers the rate; an adapter's optimiser states are small
    assert {key: value for key, value in train.items() if key not in own} == {
        key: value for key, value in expected.items() if key not in own
    }


def test_a_list_of_modules_is_not_overruled_by_all_linear_layers(composed, known):
    for more in ((), ("+train.lora_target_linear=false",)):
        words = ("+train.lora_target_modules=[q_proj,v_proj]", *more)
        values = composed(*words)
        train = fixed(composed, known, stops.adapter_keys_unused(values, facts(values)), *words)["train"]
        assert train["lora_target_modules"] == ["q_proj", "v_proj"]
        assert not train.get("lora_target_linear")

"""Rules that refuse a run which would stop, or train something else; each mend is typed and looked at again."""

import json

import pytest

from tests.planned import GIB, facts, mended, retyped
from tunetrail.plan import cautions, refusals
from tunetrail.plan.finding import ERROR

PUT_RIGHT = "experiment=llama3_8b_alpaca"
PUBLISHED = "experiment=llama3_8b_alpaca_published"
EXPERIMENTS = ("demo", "llama3_8b_alpaca", "llama3_8b_alpaca_lora", "llama3_8b_alpaca_qlora", "smollm2_135m_alpaca_lora")
H100 = {"name": "h100", "count": 1, "memory": 79 * GIB}


def test_every_finding_has_the_code_of_its_rule_and_is_an_error(composed):
    """Facts of which each is wrong: all rules of the file speak."""
    values = composed(PUBLISHED, "+train.lora_r=8", "evaluate.task.generation_kwargs.max_gen_toks=4096")
    found = facts(
        values,
        steps={"total": 27},
        schedule={"warmup": 100},
        memory={"fits": False, "total": 200 * GIB},
        disk={"free": GIB},
        model={"max_position_embeddings": 2048},
        device={"name": "t4", "bf16": False},
    )
    nothing = found | {"steps": found["steps"] | {"total": 0}}
    said = [rule(values, nothing if rule is refusals.no_steps else found) for rule in refusals.RULES]
    assert [one.code for one in said] == [rule.__name__.upper() for rule in refusals.RULES]
    assert {one.level for one in said} == {ERROR}
    assert len({one.why for one in said}) == len(said)


def test_no_shipped_experiment_is_refused_for_what_its_config_says(composed):
    for name in EXPERIMENTS:
        values = composed(f"experiment={name}")
        assert [rule(values, facts(values)) for rule in refusals.RULES] == [None] * len(refusals.RULES), name


# Steps, and room for answers.


def test_rows_that_fill_no_micro_batch_are_no_run_and_nothing_else_is_said_of_it(composed, known):
    words = ("train.micro_batch_size=1000",)
    values = composed(*words)
    found = facts(values, steps={"total": 0}, schedule={"warmup": 0}, data={"kept": 10, "tokens": 900})
    said = refusals.no_steps(values, found)
    assert "10 rows of 900 tokens do not fill a micro-batch of 1,000 x 256 tokens on each of 8 GPUs" in said.what
    assert mended(composed, known, said, *words)["train"]["micro_batch_size"] == 1
    assert refusals.warmup_never_ends(values, found) is None
    assert cautions.few_steps(values, found) is None
    assert refusals.no_steps(values, facts(values, steps={"total": 1})) is None


def test_an_answer_must_leave_the_prompt_a_place(composed, known):
    words = ("evaluate.task.generation_kwargs.max_gen_toks=512",)
    values = composed(*words)
    said = refusals.answers_too_long(values, facts(values, model={"max_position_embeddings": 512}))
    assert "512 tokens, and the model knows 512 positions" in said.what
    after = mended(composed, known, said, *words)
    assert after["evaluate"]["task"]["generation_kwargs"]["max_gen_toks"] == 256
    assert refusals.answers_too_long(values, facts(values, model={"max_position_embeddings": 513})) is None


# The warm-up.


def test_the_published_warm_up_is_refused_with_its_numbers_and_mended(composed, known):
    values = composed(PUBLISHED)
    found = facts(values, steps={"total": 27}, schedule={"warmup": 100, "peak": 5.2e-6, "asked": 2e-5})
    said = refusals.warmup_never_ends(values, found)
    assert said.what == "the warm-up takes 100 steps and the run has 27: the rate climbs to 5.2e-6 of 2e-5 and training ends"
    assert said.mend == "train.warmup_steps=null train.warmup_ratio=0.03"
    train = mended(composed, known, said, PUBLISHED)["train"]
    assert (train["warmup_steps"], train["warmup_ratio"]) == (None, 0.03)


def test_a_warm_up_of_steps_is_mended_where_the_config_had_a_ratio(composed, known):
    words = ("+train.warmup_steps=500", "train.warmup_ratio=null")
    values = composed(*words)
    said = refusals.warmup_never_ends(values, facts(values, steps={"total": 488}, schedule={"warmup": 500}))
    train = mended(composed, known, said, *words)["train"]
    assert (train["warmup_steps"], train["warmup_ratio"]) == (None, 0.03)


@pytest.mark.parametrize(("warmup", "refused"), [(26, False), (27, True), (28, True)])
def test_a_warm_up_must_be_shorter_than_the_run(composed, warmup, refused):
    values = composed(PUBLISHED)
    found = facts(values, steps={"total": 27}, schedule={"warmup": warmup})
    assert bool(refusals.warmup_never_ends(values, found)) == refused


def test_a_scheduler_that_ignores_the_warm_up_reaches_its_rate_and_is_let_go(composed):
    values = composed(PUBLISHED)
    found = facts(values, steps={"total": 27}, schedule={"warmup": 100, "peak": 2e-5, "asked": 2e-5})
    assert refusals.warmup_never_ends(values, found) is None


# Memory.


def out_of_memory(composed, *words, device=None, parts=None, **memory):
    values = composed(*words)
    device = device or H100
    memory = {"fits": False, "total": 99 * GIB, "capacity": 79 * GIB, "parts": parts or {"activations": 60 * GIB}} | memory
    return refusals.out_of_memory(values, facts(values, device=device, memory=memory))


def test_what_fits_is_let_go(composed):
    assert out_of_memory(composed, PUBLISHED, fits=True, total=78 * GIB) is None


def test_what_does_not_fit_is_named_with_its_largest_parts(composed):
    parts = {"weights": 15 * GIB, "activations": 30 * GIB, "logits": 35 * GIB}
    said = out_of_memory(composed, PUBLISHED, parts=parts)
    assert said.what == ("training needs 99.0 GiB on each h100, which has 79.0 GiB (logits 35.0 GiB, activations 30.0 GiB)")


def test_liger_and_activations_computed_twice_come_first(composed, known):
    train = mended(composed, known, out_of_memory(composed, "hardware=cuda"), "hardware=cuda")["train"]
    assert train["plugins"] == composed(PUT_RIGHT)["train"]["plugins"]
    assert {key: True for key in train if key.startswith("liger_")} == {
        key: value for key, value in composed(PUT_RIGHT)["train"].items() if key.startswith("liger_")
    }
    assert train["gradient_checkpointing"] is True


def test_then_the_micro_batch_is_halved_and_the_step_stays_what_it_was(composed, known):
    said = out_of_memory(composed, PUBLISHED)  # checkpoints already: Liger and the micro-batch
    train = mended(composed, known, said, PUBLISHED)["train"]
    assert (train["micro_batch_size"], train["gradient_accumulation_steps"]) == (4, 4)
    assert "axolotl.integrations.liger.LigerPlugin" in train["plugins"]
    odd = (PUBLISHED, "train.micro_batch_size=3", "train.gradient_accumulation_steps=5")
    train = mended(composed, known, out_of_memory(composed, *odd), *odd)["train"]
    assert (train["micro_batch_size"], train["gradient_accumulation_steps"]) == (1, 15)


def test_a_cpu_is_offered_no_kernels_of_a_gpu(composed):
    said = out_of_memory(composed, device={"name": "cpu"})
    assert said.mend == ("+train.gradient_checkpointing=true train.micro_batch_size=4 train.gradient_accumulation_steps=2")


TIGHT = (PUT_RIGHT, "train.gradient_checkpointing=true")  # Liger is on, and one sequence at a time


@pytest.mark.parametrize(
    ("words", "count", "states", "expected"),
    [
        (("method=full", "train.optimizer=adamw_torch"), 1, 60, {"optimizer": "paged_adamw_8bit", "adapter": None}),
        (("method=full", "train.optimizer=adamw_torch"), 1, 20, {"adapter": "lora"}),  # 8 bits would not be enough
        ((), 8, 0, {"fsdp_version": 2, "optimizer": "adamw_torch_fused"}),
        (("hardware=[rocm,fsdp2]",), 8, 0, {"adapter": "lora", "fsdp_version": 2}),
        ((), 1, 0, {"adapter": "lora", "lora_r": 16}),
        (("method=lora",), 8, 0, {"adapter": "qlora", "load_in_4bit": True}),
    ],
)
def test_where_the_weights_are_too_much_the_states_shrink_then_they_are_sharded_then_adapters(
    composed, known, words, count, states, expected
):
    words = (*TIGHT, *words)
    device = {"name": "mi210", "count": count}
    parts = {"weights": 60 * GIB, "optimiser": states * GIB, "optimiser (paged)": 900 * GIB, "activations": GIB}
    parts["gradients"] = (100 - 60 - states) * GIB
    said = out_of_memory(composed, *words, device=device, parts=parts)
    train = mended(composed, known, said, *words)["train"]
    assert {key: train.get(key) for key in expected} == expected


def test_activations_are_not_shrunk_where_the_weights_alone_are_too_much(composed):
    parts = {"weights": 80 * GIB, "activations": 19 * GIB}
    assert out_of_memory(composed, "method=full_8bit", "hardware=cuda", parts=parts).mend == "method=lora"


def test_nvidias_gpus_are_sharded_by_their_own_option(composed, known):
    words = (*TIGHT, "hardware=cuda")
    said = out_of_memory(composed, *words, device=H100 | {"count": 8}, parts={"weights": 90 * GIB})
    assert said.mend == "'hardware=[cuda,fsdp2]'"
    mended(composed, known, said, *words)


def test_the_last_resort_is_a_smaller_model(composed, known):
    words = ("experiment=llama3_8b_alpaca_qlora", "hardware=cuda")
    said = out_of_memory(composed, *words, parts={"weights": 90 * GIB})
    assert mended(composed, known, said, *words)["base"]["base_model"] == "HuggingFaceTB/SmolLM2-135M"


def test_generation_that_does_not_fit_is_mended_by_a_smaller_batch(composed, known):
    said = out_of_memory(composed, PUBLISHED, total=60 * GIB, evaluation=80 * GIB)
    assert said.what == "evaluation needs 80.0 GiB on each h100, which has 79.0 GiB"
    assert mended(composed, known, said, PUBLISHED)["evaluate"]["batch_size"] == 64


@pytest.mark.stage
def test_axolotl_itself_accepts_every_mend_of_memory(composed, monkeypatch):
    monkeypatch.setenv("AXOLOTL_DO_NOT_TRACK", "1")
    from axolotl.utils.config import prepare_plugins, validate_config
    from axolotl.utils.dict import DictDefault

    gpu = {"bf16": True, "fp8": True, "tf32": True, "n_gpu": 8, "compute_capability": "sm_90"}
    weights = {"weights": 90 * GIB}
    cases = [
        (("model=llama3_8b", "hardware=cuda"), H100, None),
        ((PUBLISHED,), H100, None),
        ((*TIGHT, "method=full", "train.optimizer=adamw_torch"), H100, {"optimiser": 80 * GIB}),
        (TIGHT, H100 | {"count": 8}, weights),
        (TIGHT, H100, weights),
        ((*TIGHT, "method=lora"), H100, weights),
    ]
    for words, device, parts in cases:
        said = out_of_memory(composed, *words, device=device, parts=parts)
        given = DictDefault(composed(*retyped(said, *words))["train"])
        prepare_plugins(given)
        validate_config(given, capabilities=gpu, env_capabilities={"torch_version": "2.13.0"})


# The disk.


def out_of_disk(composed, *words, **disk):
    values = composed(*words)
    return refusals.out_of_disk(values, facts(values, disk=disk))


@pytest.mark.parametrize(("free", "refused"), [(123.0, False), (122.9, True), (None, False)])
def test_the_disk_must_have_room_for_all_that_is_written(composed, free, refused):
    free = free and int(free * GIB)  # None: nobody could say
    assert bool(out_of_disk(composed, PUBLISHED, checkpoints=3, total=123 * GIB, free=free)) == refused


def test_a_limit_mends_where_it_is_enough_and_no_checkpoint_where_it_is_not(composed, known):
    figures = {"checkpoints": 4, "checkpoint": 33 * GIB, "total": 180 * GIB}
    said = out_of_disk(composed, PUBLISHED, **figures, free=114 * GIB)
    assert said.what == "the run writes 180.0 GiB (4 checkpoints of 33.0 GiB) and the disk has 114.0 GiB free"
    assert mended(composed, known, said, PUBLISHED)["train"]["save_total_limit"] == 1
    train = mended(composed, known, out_of_disk(composed, PUBLISHED, **figures, free=113 * GIB), PUBLISHED)["train"]
    assert (train["save_strategy"], train["saves_per_epoch"], train.get("save_total_limit")) == ("no", None, None)


def test_where_the_finished_models_are_too_much_the_remedy_is_to_free_the_disk(composed):
    said = out_of_disk(composed, PUBLISHED, checkpoints=1, checkpoint=33 * GIB, total=80 * GIB, free=10 * GIB)
    assert said.mend == "tunetrail gc"


# Sequences.


@pytest.mark.parametrize(("length", "refused"), [(8192, False), (8193, True), (16384, True)])
def test_sequences_end_where_the_models_positions_end(composed, known, length, refused):
    words = (PUBLISHED, f"train.sequence_len={length}")
    values = composed(*words)
    said = refusals.sequence_too_long(values, facts(values))
    assert bool(said) == refused
    if refused:
        assert "8,192 positions" in said.what
        values = mended(composed, known, said, *words)
        assert values["train"]["sequence_len"] == values["contract"]["sequence_len"] == 8192


def test_positions_that_the_config_itself_extends_are_meant(composed):
    values = composed(
        PUBLISHED, "train.sequence_len=16384", "+train.overrides_of_model_config.max_position_embeddings=16384"
    )
    assert refusals.sequence_too_long(values, facts(values)) is None


# bfloat16.


@pytest.mark.parametrize(
    ("bf16", "device", "refused"),
    [
        *((True, "t4", True), ("auto", "t4", True), (False, "t4", False)),
        *((True, "cpu", True), ("auto", "cpu", False), (False, "cpu", False)),
    ],
)
def test_bfloat16_is_refused_on_a_device_without_it_and_auto_is_no_way_out_on_a_gpu(composed, bf16, device, refused):
    values = composed("hardware=cuda", f"train.bf16={json.dumps(bf16)}")
    found = facts(values, device={"name": device, "bf16": False})
    assert bool(refusals.no_bf16(values, found)) == refused
    assert refusals.no_bf16(values, facts(values)) is None


def test_the_mend_leaves_no_bfloat16_anywhere(composed, known):
    words = (PUT_RIGHT, "hardware=cuda", "+train.bfloat16=true")
    values = composed(*words)
    said = refusals.no_bf16(values, facts(values, device={"name": "v100", "bf16": False}))
    values = mended(composed, known, said, *words)
    assert (values["train"]["bf16"], values["train"]["bfloat16"], values["train"]["fp16"]) == (False, None, False)
    assert values["accelerate"]["mixed_precision"] == "no"
    assert values["evaluate"]["model_args"]["dtype"] == "float16"
    values = composed("hardware=cuda", "train.bf16=true")
    said = refusals.no_bf16(values, facts(values, device={"name": "cpu", "bf16": False}))  # which evaluates in it as it can
    assert said.mend == "train.bf16=false train.fp16=false accelerate.mixed_precision=no"


@pytest.mark.stage
def test_on_a_cpu_the_trainer_stops_at_bfloat16(monkeypatch, tmp_path):
    import torch
    from transformers import TrainingArguments

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")  # what `accelerate launch --cpu` sets
    with pytest.raises(ValueError, match="doesn't support bf16"):
        TrainingArguments(str(tmp_path), bf16=True)


# An adapter's keys.


@pytest.mark.parametrize(
    ("word", "refused"),
    [
        *(("+train.lora_r=32", True), ("+train.peft_use_dora=true", True), ("+train.loraplus_lr_ratio=16", True)),
        *(("+train.peft.loftq_config.loftq_bits=4", True), ("+train.load_in_4bit=true", True)),
        *(("+train.lora_r=null", False), ("+train.lora_target_linear=false", False), ("+train.load_in_8bit=false", False)),
        *(("+train.lora_qkv_kernel=true", False), ("train.lora_mlp_kernel=true", False)),
        ("method=lora", False),
    ],
)
def test_an_adapters_keys_without_an_adapter_are_refused_and_kernel_switches_are_none(composed, word, refused):
    values = composed(word)
    assert bool(refusals.adapter_keys_unused(values, facts(values))) == refused


@pytest.mark.parametrize(("method", "more"), [("lora", ()), ("qlora", ("+train.load_in_4bit=true",))])
def test_the_mend_trains_the_adapter_that_conf_method_has(composed, known, method, more):
    words = (PUT_RIGHT, "+train.lora_r=32", *more)
    values = composed(*words)
    said = refusals.adapter_keys_unused(values, facts(values))
    assert "train.lora_r=32" in said.what
    assert said.why.startswith("All 8,030,261,248 weights")
    train = mended(composed, known, said, *words)["train"]
    expected = composed(PUT_RIGHT, f"method={method}", "train.lora_r=32")["train"]
    own = {"learning_rate", "optimizer"}  # of which LEARNING_RATE_FAR speaks; the states of an adapter are small
    assert {key: value for key, value in train.items() if key not in own} == {
        key: value for key, value in expected.items() if key not in own
    }


def test_a_list_of_modules_is_not_overruled_by_all_linear_layers(composed, known):
    for more in ((), ("+train.lora_target_linear=false",)):
        words = ("+train.lora_target_modules=[q_proj,v_proj]", *more)
        values = composed(*words)
        train = mended(composed, known, refusals.adapter_keys_unused(values, facts(values)), *words)["train"]
        assert train["lora_target_modules"] == ["q_proj", "v_proj"]
        assert not train.get("lora_target_linear")

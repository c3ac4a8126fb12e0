"""AMD's published recipe and its correction, compared with each other, with Axolotl and with accelerate."""

import itertools
import json
import re

import pytest
import yaml

from tests.conftest import ROOT
from tunetrail import launch
from tunetrail.config import check
from tunetrail.data import template

# fft-8b-amd.yaml of github.com/ROCm/rocm-blogs (blogs/artificial-intelligence/axolotl/src): every key of it that has a
# value, but for `strict: false`, where it keeps its data, and what is off; `flash_attention: true` in today's words.
PUBLISHED = {
    "base_model": "meta-llama/Meta-Llama-3-8B",
    "model_type": "LlamaForCausalLM",
    "tokenizer_type": "AutoTokenizer",
    "sequence_len": 8192,
    "sample_packing": True,
    "pad_to_sequence_len": True,
    "gradient_accumulation_steps": 2,
    "micro_batch_size": 8,
    "num_epochs": 3,
    "optimizer": "paged_adamw_8bit",
    "lr_scheduler": "cosine",
    "learning_rate": 2e-5,
    "train_on_inputs": False,
    "bf16": "auto",
    "tf32": False,
    "gradient_checkpointing": True,
    "gradient_checkpointing_kwargs": {"use_reentrant": False},
    "logging_steps": 1,
    "attn_implementation": "flash_attention_2",
    "warmup_steps": 100,
    "evals_per_epoch": 2,
    "eval_sample_packing": False,
    "saves_per_epoch": 1,
    "weight_decay": 0.0,
    "special_tokens": {"pad_token": "<|end_of_text|>"},
}
# tunetrail's additions: paths, a revision, a seed, and the limit that lets today's Axolotl pack as that of 2024.
ADDED = {"datasets", "test_datasets", "dataset_prepared_path", "output_dir", "plugins", "seed", "model_revision"}
ADDED |= {"excess_length_strategy", "sample_packing_bin_size"}

EXPERIMENTS = sorted(file.stem for file in (ROOT / "conf" / "experiment").glob("*.yaml"))
GIVEN = {"alpaca_tiny": ["prepare.path=rows.jsonl", "evaluate.path=prompts.jsonl"]}
METHODS = ("full", "full_8bit", "lora", "qlora")
HARDWARE = ("cuda", "rocm", "[cuda,fsdp2]", "[cuda,zero3]", "[rocm,fsdp2]", "[rocm,zero3]")
# Mean of 999 rows of alpaca-cleaned with the prompt, BOS and EOS, in Llama 3's tokens (docs/recipe-notes.md).
TOKENS_A_ROW = 193.1
ROWS = 51_760 - 2_588


@pytest.fixture
def published(composed):
    return composed("experiment=llama3_8b_alpaca_published")


@pytest.fixture
def corrected(composed):
    return composed("experiment=llama3_8b_alpaca")


def test_the_published_training_has_exactly_the_published_keys(published):
    train = published["train"]
    assert {key: train[key] for key in PUBLISHED} == PUBLISHED
    # So no adapter, no sharding, no 8- or 4-bit weights: full fine-tuning.
    assert {key for key, value in train.items() if value not in (None, False)} - set(PUBLISHED) == ADDED


def test_the_published_data_are_alpaca_cleaned_in_the_alpaca_format_with_5_percent_held_out(published):
    """`val_set_size: 0.05` would split inside Axolotl; the stage `prepare` holds out the same share, and DVC tracks it."""
    prepare, dataset = published["prepare"], published["train"]["datasets"][0]
    assert prepare["hub"]["repo_id"] == "yahma/alpaca-cleaned"
    assert prepare["take"] is None
    assert prepare["validation_rows"] == round(0.05 * prepare["expected_rows"]) == 2588
    # tests/data/test_template.py compares this format with Axolotl's own `alpaca`.
    assert dataset["type"]["format"] == published["template"]["with_input"]
    assert dataset["type"]["no_input_format"] == published["template"]["without_input"]


def test_the_published_evaluation_is_greedy_ifeval_in_batches_of_128_with_the_alpaca_prompt(published):
    evaluate = published["evaluate"]
    assert evaluate["task"]["generation_kwargs"] == {"until": [], "do_sample": False, "max_gen_toks": 1280}
    assert (evaluate["model"], evaluate["batch_size"], evaluate["limit"]) == ("hf", 128, None)
    assert evaluate["model_args"]["attn_implementation"] == "flash_attention_2"
    assert evaluate["template"] == published["template"]


def test_the_published_run_is_launched_on_eight_gpus(published):
    assert (published["accelerate"]["multi_gpu"], published["accelerate"]["num_processes"]) == (True, 8)


def test_every_change_of_the_corrected_recipe_is_in_its_file_with_a_reason(published, corrected):
    file = ROOT / "conf" / "experiment" / "llama3_8b_alpaca.yaml"
    named = {key: value for key, value in yaml.safe_load(file.read_text()).items() if key in ("train", "evaluate")}
    before, after = ({key: check.flatten(values[key]) for key in named} for values in (published, corrected))
    changed = {f"{s}.{k}" for s in named for k in before[s] | after[s] if before[s].get(k) != after[s].get(k)}
    listed = re.compile(r"\.\d+$")  # only the name of a list
    assert {listed.sub("", key) for key in changed} == {listed.sub("", key) for key in check.flatten(named)}
    for line in file.read_text().partition("\ntrain:\n")[2].splitlines():
        assert not line or line.strip().endswith(":") or re.search(r" # \S", line), line


def test_the_corrected_recipe_has_as_many_tokens_per_step_as_the_original_and_packs_its_validation(corrected):
    train = corrected["train"]
    devices = corrected["accelerate"]["num_processes"]
    tokens = devices * train["gradient_accumulation_steps"] * train["micro_batch_size"] * train["sequence_len"]
    assert tokens / TOKENS_A_ROW == pytest.approx(128, rel=0.02)
    assert train["eval_sample_packing"] is True
    assert train["warmup_steps"] is None
    assert 0 < train["warmup_ratio"] < 0.1


def test_a_step_of_the_adapter_recipes_on_one_gpu_has_as_many_tokens(composed, corrected):
    def tokens(values):
        keys = ("gradient_accumulation_steps", "micro_batch_size", "sequence_len")
        a, b, c = (values["train"][key] for key in keys)
        return values["accelerate"]["num_processes"] * a * b * c

    for name in ("lora", "qlora"):
        assert tokens(composed(f"experiment=llama3_8b_alpaca_{name}")) == tokens(corrected)


def test_the_evaluation_prompt_is_the_training_prompt_to_the_last_newline_with_the_same_bos(corrected):
    """tests/data/test_template.py compares the two token by token."""
    evaluated, trained = corrected["evaluate"]["template"], corrected["train"]["datasets"][0]["type"]
    assert evaluated["without_input"] == trained["no_input_format"]
    assert evaluated["without_input"].endswith("### Response:\n")
    assert corrected["evaluate"]["model_args"]["add_bos_token"] is None


@pytest.mark.stage
@pytest.mark.slow
def test_packed_by_axolotl_the_published_run_has_27_steps_and_the_corrected_one_about_1160(published, corrected, shared):
    """With the lengths of 999 real rows, scaled to their mean in Llama 3's tokens and drawn again to the full number."""
    import numpy
    from axolotl.utils.samplers import MultipackBatchSampler
    from torch.utils.data import RandomSampler
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shared("toy_tokenizer/tokenizer.json").parent)
    lines = shared("alpaca/alpaca_en_demo.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    texts = [template.prompt(published["template"], row["instruction"], row["input"]) + row["output"] for row in rows]
    toy = numpy.array([len(ids) + 1 for ids in tokenizer(texts).input_ids])  # + EOS
    assert toy.max() < corrected["train"]["sequence_len"]
    lengths = numpy.random.default_rng(0).choice(numpy.round(toy * TOKENS_A_ROW / toy.mean()).astype(int), ROWS)

    def steps(train, rows_a_pack):
        # For attention kernels like flash_attention_2, Axolotl packs a whole micro-batch as one sequence.
        packs = MultipackBatchSampler(
            RandomSampler(lengths),
            batch_size=1,
            drop_last=True,
            batch_max_len=train["micro_batch_size"] * train["sequence_len"],
            lengths=lengths,
            bin_size=rows_a_pack,
            num_processes=1,
        )
        return train["num_epochs"] * (len(packs) // 8 // train["gradient_accumulation_steps"])

    assert steps(published["train"], published["train"]["sample_packing_bin_size"]) == 27
    assert steps(published["train"], 200) == 45
    assert steps(corrected["train"], corrected["train"]["sample_packing_bin_size"]) == pytest.approx(1160, rel=0.02)


@pytest.mark.stage
def test_axolotl_itself_accepts_every_experiment_and_every_method_on_every_hardware(composed, monkeypatch):
    monkeypatch.setenv("AXOLOTL_DO_NOT_TRACK", "1")
    from axolotl.utils.config import prepare_plugins, validate_config
    from axolotl.utils.dict import DictDefault

    def read(*overrides):
        """Return the section `train` as Axolotl reads it on a host with eight Hopper GPUs."""
        train = DictDefault(composed(*overrides)["train"])
        prepare_plugins(train)
        gpu = {"bf16": True, "fp8": True, "tf32": True, "n_gpu": 8, "compute_capability": "sm_90"}
        return validate_config(train, capabilities=gpu, env_capabilities={"torch_version": "2.13.0"})

    for name in EXPERIMENTS:
        read(f"experiment={name}", *GIVEN.get(name, []))
    for experiment, method, hardware in itertools.product(("", "_published"), METHODS, HARDWARE):
        read(f"experiment=llama3_8b_alpaca{experiment}", f"method={method}", f"hardware={hardware}")
    recipe = composed("experiment=llama3_8b_alpaca")
    assert read("experiment=llama3_8b_alpaca").revision_of_model == recipe["base"]["revision_of_model"]
    # Axolotl really validates: it refuses these.
    for fault in ("train.warmup_steps=100", "train.save_strategy=epoch"):
        with pytest.raises(ValueError, match=r"mutually exclusive|mismatch"):
            read("experiment=llama3_8b_alpaca", fault)
    with pytest.raises(ValueError, match="FSDP2 not compatible with adamw_8bit"):
        read("experiment=llama3_8b_alpaca", "hardware=[cuda,fsdp2]", "train.optimizer=adamw_8bit")


@pytest.mark.stage
def test_accelerate_accepts_the_options_of_every_experiment_and_fills_in_none(composed, monkeypatch, tmp_path, caplog):
    from accelerate.commands import launch as accelerate

    words = []
    monkeypatch.setattr(launch, "run_tool", lambda command, *rest: words.append(command[3:]))
    monkeypatch.setattr(accelerate, "default_config_file", str(tmp_path / "none"))

    def read(*overrides):
        launch.accelerate_launch(["-m", "axolotl.cli.train"], composed(*overrides)["accelerate"], tmp_path, "train", True)
        return accelerate._validate_launch_command(accelerate.launch_command_parser().parse_args(words.pop()))[0]

    for name in EXPERIMENTS:
        read(f"experiment={name}", *GIVEN.get(name, []))
    for hardware in ("cuda", "rocm"):
        assert read(f"hardware={hardware}").num_processes == 1
    options = read("experiment=llama3_8b_alpaca", "accelerate.num_processes=4")
    assert (options.multi_gpu, options.num_processes, options.main_process_port, options.module) == (True, 4, 0, True)
    assert not caplog.records
    with pytest.raises(ValueError, match="at least 2 processes"):
        read("experiment=llama3_8b_alpaca", "accelerate.num_processes=1")

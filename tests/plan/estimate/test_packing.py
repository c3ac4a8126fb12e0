import gc
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import tiny_models
from tests.conftest import ROOT
from tunetrail import launch
from tunetrail.data import template
from tunetrail.plan.estimate import frequency, packing, schedule
from tunetrail.training import tiny

SHUFFLE = np.random.default_rng


def lengths_of(kind, rows, most):
    """Return the tokens of each row: distributed as in instruction data, all alike, or uniform."""
    rng = SHUFFLE(7)
    drawn = {
        "instructions": lambda: rng.lognormal(np.log(most / 12), 0.6, rows),
        "alike": lambda: np.full(rows, most // 3 + 1),
        "any": lambda: rng.integers(2, most + 1, rows),
    }
    return np.clip(drawn[kind](), 2, most).astype(np.int64)


# Packs


def test_each_row_goes_into_the_first_pack_that_has_room():
    assert packing.packs(np.array([6, 5, 4, 5, 1, 9, 2]), 10, 200, 100).tolist() == [10, 10, 10, 2]
    assert packing.packs(np.array([3, 3, 3]), 10, 200, 100).tolist() == [9]
    assert packing.packs(np.array([], dtype=int), 10, 200, 100).tolist() == []


def test_a_pack_has_a_limit_of_rows_and_each_group_has_its_own_packs():
    assert packing.packs(np.array([1] * 7), 10, 3, 100).tolist() == [3, 3, 1]
    assert packing.packs(np.array([2, 2, 9, 2, 2, 2, 2]), 10, 3, 100).tolist() == [6, 9, 6]
    assert packing.packs(np.array([4] * 6), 10, 200, 3).tolist() == [8, 4, 8, 4]


def test_a_row_that_fits_no_pack_is_an_error():
    with pytest.raises(ValueError, match="a row of 11 tokens is longer than a pack of 10"):
        packing.packs(np.array([3, 11]), 10, 200, 100)


def test_shuffles_keep_the_tokens_and_differ():
    rows = lengths_of("any", 500, 90)
    first, other = (packing.packs(SHUFFLE(seed).permutation(rows), 100, 200, 100_000) for seed in (1, 2))
    assert first.sum() == other.sum() == rows.sum()
    assert first.tolist() != other.tolist()


@pytest.mark.stage
@pytest.mark.parametrize("kind", ["instructions", "alike", "any"])
def test_the_packs_are_those_that_axolotl_makes_of_the_same_order(kind):
    from axolotl.utils.samplers.multipack import allocate_sequentially, pack_parallel

    rows = lengths_of(kind, 3000, 512)
    for capacity, rows_at_most, group in ((512, 200, 100_000), (2048, 5, 100_000), (8192, 200, 1000), (8192, 8192, 700)):
        for seed in range(3):
            order = SHUFFLE(seed).permutation(rows)
            real = pack_parallel(order.astype(np.int32), capacity, group, rows_at_most, num_processes=1)
            ours = packing.packs(order, capacity, rows_at_most, group)
            assert ours.tolist() == [int(order[pack].sum()) for pack in real]
        real, *_ = allocate_sequentially(rows, 0, capacity, 1)
        assert packing._next_fit(rows.tolist(), capacity) == [int(rows[pack].sum()) for pack in real]


@pytest.mark.stage
def test_axolotl_joins_a_micro_batch_for_the_same_kernels():
    from axolotl.utils.schemas.enums import ATTN_IMPLS_SUPPORTING_PACKING, LEGACY_ATTN_FLAG_TO_IMPL

    flags = {flag for flag, name in LEGACY_ATTN_FLAG_TO_IMPL.items() if name in ATTN_IMPLS_SUPPORTING_PACKING}
    assert ATTN_IMPLS_SUPPORTING_PACKING | flags == packing._JOINING


@pytest.mark.stage
def test_the_defaults_are_axolotls():
    from axolotl.utils.schemas.config import AxolotlInputConfig

    fields = AxolotlInputConfig.model_fields
    assert {key: fields[key].default for key in packing._DEFAULTS} == packing._DEFAULTS
    assert fields["load_best_model_at_end"].default is False


# Steps

BASE = {"sequence_len": 512, "micro_batch_size": 2, "gradient_accumulation_steps": 2, "num_epochs": 3, "learning_rate": 1e-3}
PACKED = BASE | {"sample_packing": True, "attn_implementation": "sdpa"}
JOINED = PACKED | {"attn_implementation": "flash_attention_2"}
# Keys of the config, GPUs. For each, and each kind of lengths, Axolotl's count is compared with ours.
COUNTED = [
    (PACKED, 1),
    (JOINED, 1),
    (JOINED, 2),
    (JOINED, 8),
    (PACKED | {"micro_batch_size": 3, "num_epochs": 1.5}, 4),
    (PACKED | {"num_epochs": 0.5, "gradient_accumulation_steps": 1}, 2),
    (JOINED | {"sample_packing_bin_size": 4}, 1),
    (JOINED | {"sample_packing_bin_size": None, "micro_batch_size": 8}, 1),
    (PACKED | {"sample_packing_group_size": 300}, 2),
    (JOINED | {"multipack_real_batches": True}, 1),
    (PACKED | {"curriculum_sampling": True}, 3),
    (PACKED | {"curriculum_sampling": True, "sample_packing_sequentially": True}, 1),
    (PACKED | {"dataloader_drop_last": True, "num_epochs": 2.5}, 1),
    (PACKED | {"sample_packing_eff_est": 0.95}, 2),
    (PACKED | {"max_steps": 5}, 1),
    (PACKED | {"attn_implementation": None, "flash_attention": True}, 2),
    (PACKED | {"gradient_accumulation_steps": None, "batch_size": 8}, 2),
    (PACKED | {"ddp": False}, 2),
    (BASE, 1),
    (BASE, 8),
    (BASE | {"num_epochs": 0.7, "micro_batch_size": 3}, 4),
    (BASE | {"max_steps": 11}, 1),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return a folder with a tiny Llama and its tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    vocabulary = tiny.save_tokenizer(["The river is wide."] * 20, 300, folder)
    llama = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    tiny.save_config(llama, vocabulary, folder)
    tiny_models.add_weights(folder)
    return folder


@pytest.fixture
def axolotl(model, tmp_path, monkeypatch):
    """Return a function that counts steps with Axolotl's own `prepare_datasets` for a config, lengths, GPUs and seeds."""
    monkeypatch.setenv("AXOLOTL_DO_NOT_TRACK", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import pyarrow
    import torch
    from axolotl.utils import trainer
    from axolotl.utils.config import normalize_config, validate_config
    from axolotl.utils.dict import DictDefault
    from axolotl.utils.distributed import init_distributed_state
    from axolotl.utils.samplers import multipack
    from datasets import Dataset

    init_distributed_state()  # one process; the caller draws for each GPU and takes the fewest
    rows = {"base_model": str(model), "datasets": [{"path": "rows.jsonl", "type": None}], "output_dir": str(tmp_path)}

    monkeypatch.setattr(multipack.gc, "collect", lambda: 0)  # saves half a second per draw

    def counted(train, lengths, num_gpus, seeds):
        ids = pyarrow.ListArray.from_arrays(np.append(0, lengths.cumsum()).astype(np.int32), np.full(lengths.sum(), 5))
        dataset = Dataset(pyarrow.table({"input_ids": ids, "labels": ids, "length": lengths}))
        monkeypatch.setenv("WORLD_SIZE", str(num_gpus))
        cfg = validate_config(DictDefault(rows | {"dataset_num_proc": 1} | train))
        normalize_config(cfg)

        def drawn(seed):
            torch.manual_seed(seed)
            steps = trainer.calculate_total_num_steps(DictDefault(cfg), dataset)
            return min(steps, cfg.max_steps) if cfg.max_steps else steps

        alike = not train.get("sample_packing") or train.get("curriculum_sampling")
        counts = [min(drawn(100 * seed + gpu) for gpu in range(1 if alike else num_gpus)) for seed in range(seeds)]
        monkeypatch.delenv("WORLD_SIZE")
        return counts

    return counted


@pytest.fixture
def real_rows(shared, composed):
    """Return the tokens of each of 999 rows of alpaca, with prompt, BOS and EOS."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shared("toy_tokenizer/tokenizer.json").parent)
    alpaca = composed()["template"]
    rows = [json.loads(line) for line in shared("alpaca/alpaca_en_demo.jsonl").read_text().splitlines()]
    prompts = [template.prompt(alpaca, row["instruction"], row["input"]) for row in rows]
    prompt_ids = template.token_ids(tokenizer, prompts)
    answered = template.answer_ids(tokenizer, [row["output"] for row in rows])
    return np.array([len(a) + len(b) for a, b in zip(prompt_ids, answered, strict=True)])


class Shuffled:
    """Draw the same permutations as Axolotl's samplers on each GPU, in their order."""

    def __init__(self, num_gpus, seed):
        self.orders, self.draws = [], 1 if num_gpus >= 4 else 4
        self.gpus = iter(range(100 * seed, 100 * seed + num_gpus))

    def permutation(self, lengths):
        import torch
        from torch.utils.data import RandomSampler

        if not self.orders:
            torch.manual_seed(next(self.gpus))
            self.orders = [list(RandomSampler(lengths)) for _ in range(1 + self.draws)][1:]  # the first is not counted
        return lengths[self.orders.pop(0)]


@pytest.mark.stage
@pytest.mark.parametrize("kind", ["instructions", "alike", "any"])
def test_with_the_same_shuffles_the_steps_equal_axolotls(kind, axolotl, monkeypatch):
    rows = lengths_of(kind, 1003, 512)
    for keys, num_gpus in COUNTED:
        for seed, real in enumerate(axolotl(keys, rows, num_gpus, seeds=2)):
            with monkeypatch.context() as patch:
                patch.setattr(packing, "DRAWS", 4 * num_gpus if num_gpus < 4 else num_gpus)
                patch.setattr(packing.np.random, "default_rng", lambda _, n=num_gpus, s=seed: Shuffled(n, s))
                assert packing.steps(keys, rows, num_gpus).counted == real, (keys, num_gpus)


@pytest.mark.stage
@pytest.mark.slow
def test_with_its_own_shuffles_the_steps_of_real_rows_equal_axolotls_too(real_rows, axolotl, composed):
    """999 rows, and as many as alpaca-cleaned has; 27 steps as published, or 45 in packs of at most 200 rows."""
    many = SHUFFLE(0).choice(np.round(real_rows * 193.1 / real_rows.mean()).astype(int), 49_172)
    published, corrected = (composed(f"experiment=llama3_8b_alpaca{name}")["train"] for name in ("_published", ""))
    keys = {*BASE, "sample_packing", "sample_packing_bin_size", "attn_implementation", "pad_to_sequence_len"}
    published, corrected = ({key: train[key] for key in keys} for train in (published, corrected))
    for train, rows, num_gpus, seeds in (
        (corrected, real_rows, 1, 5),
        (corrected, real_rows, 8, 5),
        (published | {"sequence_len": 2048, "micro_batch_size": 2}, real_rows, 2, 5),
        (published, many, 8, 1),
        (published | {"sample_packing_bin_size": 200}, many, 8, 1),
        (corrected, many, 8, 1),
    ):
        steps = packing.steps(train, rows, num_gpus)
        for real in axolotl(train, rows, num_gpus, seeds):
            assert steps.fewest <= real <= steps.most, (train, num_gpus, real, steps)
        assert steps.most - steps.fewest <= 6, steps
    assert packing.steps(published, many, 8).total == packing.steps(published, many, 8).most == 27
    assert packing.steps(published | {"sample_packing_bin_size": 200}, many, 8).total == 45
    assert packing.steps(corrected, many, 8).total == pytest.approx(1160, rel=0.01)


def test_a_micro_batch_is_joined_to_one_pack_or_packed_row_by_row_as_the_kernel_takes_it():
    rows = np.full(64, 100)
    alone, joined = (packing.steps(keys | {"sequence_len": 256}, rows, 1) for keys in (PACKED, JOINED))
    assert (alone.packs, joined.packs) == (32, 13)  # packs of 256 hold 2 rows, of 512 they hold 5
    assert (alone.per_epoch, joined.per_epoch) == (8, 7)  # the last step has one of its two micro-batches
    assert (alone.total, joined.total) == (24, 18)  # and Axolotl counts complete steps only


def test_rows_packed_in_order_need_more_packs():
    rows, keys = (
        np.array([6, 4, 6, 4, 5, 6, 5]),
        PACKED | {"sequence_len": 10, "micro_batch_size": 1, "curriculum_sampling": True},
    )
    assert packing.steps(keys, rows, 1).packs == 4
    assert packing.steps(keys | {"sample_packing_sequentially": True}, rows, 1).packs == 5


def test_the_rows_and_tokens_of_all_steps_add_up_to_the_epoch():
    rows = lengths_of("instructions", 800, 512)
    for keys, num_gpus in ((PACKED, 1), (JOINED, 1), (BASE, 1), (BASE | {"pad_to_sequence_len": False}, 1)):
        steps = packing.steps(keys | {"gradient_accumulation_steps": 1}, rows, num_gpus)
        assert steps.rows_per_step * steps.per_epoch == pytest.approx(len(rows), rel=0.01)
        assert steps.tokens_per_step * steps.per_epoch == pytest.approx(rows.sum(), rel=0.01)
        assert steps.tokens_per_step / steps.slots_per_step == pytest.approx(steps.efficiency, rel=0.01)
    eight, single = (packing.steps(PACKED | {"gradient_accumulation_steps": 8 // n}, rows, n) for n in (8, 1))
    assert eight.total == single.total  # one GPU takes eight micro-batches for a step of eight GPUs
    assert eight.slots_per_step == 8 * 2 * 512
    assert eight.per_epoch == single.per_epoch - 1  # one GPU also trains on an incomplete last step


def test_padding_is_counted_as_the_collator_pads():
    """Two rows a micro-batch, none longer than 100 tokens of 200; the third micro-batch has one row."""
    rows, keys = np.array([100, 30, 64, 64, 65]), BASE | {"sequence_len": 200, "curriculum_sampling": True}

    def slots(**more):
        return packing.validation(keys | more, rows, 1).slots

    assert slots() == 2 * 128 + 2 * 64 + 128
    assert slots(pad_to_sequence_len=True) == 5 * 256  # 200, rounded up
    assert slots(pad_to_sequence_len=False) == 2 * 100 + 2 * 64 + 65
    assert slots(pad_to_multiple_of=50) == 2 * 100 + 2 * 100 + 100
    assert slots(eval_batch_size=5) == 5 * 128
    assert slots(sample_packing=True, eval_sample_packing=False) == 4 * 256  # padded to full length, the last dropped
    assert slots(sample_packing=True) == 2 * 256  # 194, 129: two packs, one micro-batch
    assert slots(sample_packing=True, attn_implementation="flash_attention_2") == 512  # 323 tokens in a row of twice 256


def test_gpus_share_the_validation_rows_and_each_has_as_many():
    rows = np.full(10, 64)
    assert packing.validation(BASE, rows, 1) == packing.Validation(5, 640)
    assert packing.validation(BASE, rows, 4) == packing.Validation(8, 1024)  # six rows are computed twice
    assert packing.validation(BASE | {"dataloader_drop_last": True}, rows, 4) == packing.Validation(4, 512)
    assert packing.validation(JOINED, np.full(40, 512), 8) == packing.Validation(16, 16 * 1024)  # 20 packs, four left out


def test_no_rows_or_too_few_for_the_gpus_make_no_steps():
    for keys in (PACKED, BASE | {"dataloader_drop_last": True}):
        for rows in (np.array([], dtype=int), np.array([5])):
            steps = packing.steps(keys, rows, 8)
            assert (steps.total, steps.per_epoch, steps.slots_per_step) == (0, 0, 0)
            assert packing.validation(keys, rows, 8) == packing.Validation(0, 0)


def test_max_steps_ends_training_earlier_or_continues_beyond_the_epochs():
    rows = np.full(40, 512)
    for most in (3, 99):
        steps = packing.steps(BASE | {"max_steps": most}, rows, 1)
        assert (steps.total, steps.fewest, steps.most, steps.counted) == (most, most, most, min(most, 30))


# One training


def axolotl_trains(configs, results):
    """Train by each Axolotl config and write what was observed to `results`. Runs in a process of its own."""
    import transformers
    from axolotl.cli.args import TrainerCliArgs
    from axolotl.cli.config import load_cfg
    from axolotl.common.datasets import load_datasets
    from axolotl.train import setup_model_and_trainer
    from axolotl.utils.dict import DictDefault

    class Witness(transformers.TrainerCallback):
        def __init__(self):
            self.seen = dict.fromkeys(("evaluations", "saves", "kept", "validated", "computed"), 0) | {"rates": []}

        def on_evaluate(self, *args, **more):
            self.seen["evaluations"] += 1

        def on_save(self, *args, **more):
            self.seen["saves"] += 1

        def on_log(self, args, state, control, logs=None, **more):
            self.seen["rates"] += [float(logs["learning_rate"])] if "learning_rate" in logs else []

        def on_forward(self, module, args, inputs):
            self.seen["computed" if module.training else "validated"] += inputs["input_ids"].numel()

        def on_rotate(self, output_dir, **more):
            self.seen["kept"] = max(self.seen["kept"], len(list(Path(output_dir).glob("checkpoint-*"))))
            rotate(output_dir=output_dir, **more)

    gc.freeze()  # Axolotl collects garbage at each draw and evaluation; the imported modules alone take half a second
    rotate, done = transformers.trainer.rotate_checkpoints, []
    for config in json.loads(Path(configs).read_text()):
        cfg, witness = load_cfg(DictDefault(config)), Witness()
        meta = load_datasets(cfg=cfg, cli_args=TrainerCliArgs())
        trainer = setup_model_and_trainer(cfg, meta)[0]
        trainer.add_callback(witness)
        trainer.model.register_forward_pre_hook(witness.on_forward, with_kwargs=True)
        transformers.trainer.rotate_checkpoints = witness.on_rotate
        trainer.train()
        done.append(witness.seen | {"counted": meta.total_num_steps, "total": trainer.state.global_step})
    Path(results).write_text(json.dumps(done))


TRAINED = [
    # Epochs that end with an incomplete step; the best checkpoint stays beside the newest.
    PACKED
    | {"evals_per_epoch": 2, "saves_per_epoch": 1, "load_best_model_at_end": True, "save_total_limit": 1}
    | {"gradient_accumulation_steps": 3, "warmup_ratio": 0.2},
    # max_steps beyond the epochs; a padded validation without its last rows.
    PACKED
    | {"eval_sample_packing": False, "max_steps": 9, "num_epochs": 1, "eval_strategy": "epoch", "save_strategy": "epoch"}
    | {"save_total_limit": 1, "eval_batch_size": 3, "lr_scheduler": "linear", "warmup_ratio": 0.2},
    BASE
    | {"num_epochs": 1, "pad_to_sequence_len": False, "eval_batch_size": 3, "eval_strategy": "no", "save_first_step": True}
    | {"save_steps": 5, "save_total_limit": 2, "lr_scheduler": "rex", "warmup_steps": 3, "cosine_min_lr_ratio": 0.1},
    BASE
    | {"num_epochs": 1, "eval_strategy": "steps", "logging_steps": 6, "save_strategy": "no", "dataloader_drop_last": True}
    | {"lr_scheduler": "one_cycle", "warmup_steps": 5},
]


@pytest.mark.stage
@pytest.mark.slow
def test_axolotl_takes_the_predicted_steps_rates_padding_evaluations_and_checkpoints(model, tmp_path):
    """Compared with a real training of Axolotl on a CPU, from its config to its last checkpoint."""
    rows, validated = lengths_of("instructions", 65, 512), lengths_of("any", 21, 128)
    data = {}
    for name, lengths in (("train", rows), ("validation", validated)):
        tokens = [{"input_ids": [5] * n, "labels": [5] * n, "attention_mask": [1] * n} for n in lengths.tolist()]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tokens))
        data[name] = [{"path": str(tmp_path / f"{name}.jsonl"), "ds_type": "json", "split": "train", "type": None}]
    common = {"base_model": str(model), "datasets": data["train"], "test_datasets": data["validation"], "seed": 1}
    common |= {"dataset_prepared_path": str(tmp_path / "prepared"), "optimizer": "adamw_torch", "dataset_num_proc": 1}
    common |= {"special_tokens": {"pad_token": tiny.EOS}, "bf16": False, "tf32": False, "save_only_model": True}
    common |= {"logging_steps": 1}
    trained = [common | {"output_dir": str(tmp_path / str(number))} | keys for number, keys in enumerate(TRAINED)]
    configs, results = tmp_path / "configs.json", tmp_path / "results.json"
    configs.write_text(json.dumps(trained))
    words = (
        f"from tests.plan.estimate.test_packing import axolotl_trains; axolotl_trains({str(configs)!r}, {str(results)!r})"
    )
    command = [sys.executable, "-c", words]
    here = launch.environment(offline=True) | launch.python_path(ROOT)
    ended = subprocess.run(command, cwd=ROOT, env=here, capture_output=True, text=True)
    assert not ended.returncode, ended.stderr[-3000:]
    for train, real in zip(trained, json.loads(results.read_text()), strict=True):
        steps, once = packing.steps(train, rows, 1), packing.validation(train, validated, 1)
        times = frequency.evaluations(train, steps.total, steps.per_epoch)
        assert (steps.counted, steps.total) == (real["counted"], real["total"])
        assert (times, times * once.slots) == (real["evaluations"], real["validated"])
        written, on_disk = frequency.saves(train, steps.total, steps.per_epoch)
        assert written == real["saves"]
        assert on_disk - bool(train.get("load_best_model_at_end")) <= real["kept"] <= on_disk  # the best may be the newest
        assert steps.slots_per_step * steps.total == pytest.approx(real["computed"], rel=0.08)
        rates = schedule.rates(train, steps.total, steps.counted)[train["logging_steps"] - 1 :: train["logging_steps"]]
        np.testing.assert_allclose(real["rates"], rates, rtol=1e-6)

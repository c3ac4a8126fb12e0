"""Axolotl's plug-in, called as transformers' trainer calls it."""

import gc
import math

import pytest

from tunetrail.config import params
from tunetrail.training import history, manifest, tiny

pytestmark = pytest.mark.stage  # Axolotl's import


@pytest.fixture
def plugin():
    """Import the module in a fixture, since it imports Axolotl and transformers, which no other test needs."""
    from tunetrail.training import plugin

    return plugin


@pytest.fixture
def trainer(plugin, tmp_path):
    """Log steps as the trainer does; `trainer.file` is the history."""
    from transformers import TrainerState

    class Trainer:
        def __init__(self):
            self.file = tmp_path / "history.jsonl"
            self.callback, self.state = plugin.HistoryCallback(self.file), TrainerState(is_world_process_zero=True)

        def log(self, step, **logs):
            self.state.global_step = step
            self.callback.on_log(None, self.state, None, logs=logs)

        def steps(self):
            return [row["step"] for row in history.read(self.file)[0]]

    return Trainer()


def test_the_plugin_writes_beside_the_checkpoints(plugin):
    class Config:
        output_dir = "work/train"

    callback, _ = plugin.HistoryPlugin().add_callbacks_pre_trainer(Config, None)
    assert str(callback.path) == "work/train/history.jsonl"


def test_what_was_imported_is_not_searched_for_garbage_again(plugin):
    plugin.HistoryPlugin().register({})
    frozen = gc.get_freeze_count()
    gc.unfreeze()
    assert frozen > 100_000


@pytest.fixture
def packed(plugin):
    """Axolotl's packs of 200 rows as its trainer makes them, with our order: call it for a fresh process."""
    import numpy as np
    from axolotl.core.trainers import base
    from axolotl.utils.samplers import MultipackBatchSampler

    lengths = np.random.default_rng(0).integers(10, 200, 200)

    def make(seed=42):
        plugin.HistoryPlugin().register({"seed": seed})
        rows = base.RandomSampler(range(200))
        return MultipackBatchSampler(rows, 1, 256, lengths, bin_size=64, num_processes=1)

    return make


def epoch_of(sampler, epoch):
    """The packs of an epoch: Axolotl's trainer and accelerate call both."""
    sampler.set_epoch(epoch)
    sampler.sampler.set_epoch(epoch)
    return list(sampler)


def test_the_packs_of_an_epoch_depend_on_the_seed_and_the_epoch_alone(packed):
    unbroken, resumed = packed(), packed()
    assert len(unbroken) == len(resumed)
    epochs = [epoch_of(unbroken, epoch) for epoch in range(3)]
    assert epoch_of(resumed, 2) == epochs[2]
    assert epochs[0] != epochs[1] != epochs[2]
    assert epoch_of(packed(seed=1), 0) != epochs[0]


def test_an_epoch_is_as_long_as_the_shortest_of_the_epochs_to_come(packed):
    sampler = packed()
    length = len(sampler)
    sampler._len_across_ranks = None  # else a longer epoch is cut
    counts = []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        sampler.sampler.set_epoch(epoch)
        counts.append(len(sampler.generate_batches()))
    assert len(set(counts)) > 1
    assert length == min(counts)


def test_the_epoch_is_set_also_below_what_accelerate_wraps_for_several_processes(plugin, packed):
    """Without it Axolotl packs once, and every epoch has the packs of the first count."""
    from accelerate.data_loader import BatchSamplerShard, SkipBatchSampler
    from transformers import TrainerState

    class Loader:
        def __init__(self, skipped):
            self.sampler = packed()
            len(self.sampler)
            shard = BatchSamplerShard(self.sampler, num_processes=2, process_index=0, even_batches=False)
            self.batch_sampler = SkipBatchSampler(shard, 1) if skipped else shard

    epochs = [epoch_of(packed(), epoch) for epoch in range(3)]
    for resumed_at in (0.0, 1.5, 2.0):
        loader, callback = Loader(skipped=resumed_at % 1), plugin.CheckpointCallback()
        callback.on_train_begin(TrainingArgs(), TrainerState(epoch=resumed_at), None)
        for epoch in range(int(resumed_at), 3):
            callback.on_epoch_begin(None, None, None, train_dataloader=loader)
            assert list(loader.sampler)[:50] == epochs[epoch][:50]


class TrainingArgs:
    eval_on_start, save_only_model, output_dir = True, False, None


@pytest.mark.parametrize(("step", "evaluates"), [(0, True), (7, False)])
def test_a_resumed_training_is_not_evaluated_where_an_unbroken_one_is_not(plugin, step, evaluates):
    from transformers import TrainerState

    args = TrainingArgs()
    plugin.CheckpointCallback().on_train_begin(args, TrainerState(global_step=step, epoch=0.5), None)
    assert args.eval_on_start == evaluates


@pytest.mark.parametrize("only_model", [True, False])
def test_a_checkpoint_with_all_states_gets_a_manifest(plugin, tmp_path, only_model):
    from transformers import TrainerState

    (tmp_path / "checkpoint-7").mkdir()
    (tmp_path / "checkpoint-7" / "model.safetensors").write_bytes(b"x")
    args = TrainingArgs()
    args.output_dir, args.save_only_model = tmp_path, only_model
    plugin.CheckpointCallback().on_save(args, TrainerState(global_step=7, is_world_process_zero=True), None)
    assert bool(manifest.fault(tmp_path / "checkpoint-7")) == only_model


def test_losses_are_logged_up_to_a_checkpoint(plugin):
    """Else those since the last logged step are in no checkpoint, and the next logged loss is another mean."""
    from transformers import TrainerControl

    control = TrainerControl(should_save=True)
    plugin.CheckpointCallback().on_step_end(None, None, control)
    assert control.should_log


def test_random_weights_are_the_same_each_time(plugin):
    """Axolotl makes a new model's weights, and an adapter's, before its trainer sets the seed."""
    import torch
    from axolotl.utils.dict import DictDefault
    from transformers import TrainingArguments

    def first_weights(seed):
        plugin.HistoryPlugin().pre_model_load(DictDefault({"seed": seed}))
        return torch.nn.Linear(3, 3).weight.tolist()

    assert first_weights(1) == first_weights(1) != first_weights(2)
    assert first_weights(None) == first_weights(TrainingArguments.seed)


@pytest.mark.parametrize("adapter", [{}, {"adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_target_linear": True}])
def test_axolotl_makes_the_same_weights_each_time(tmp_path, composed, monkeypatch, adapter):
    monkeypatch.setenv("AXOLOTL_DO_NOT_TRACK", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from axolotl.cli.config import load_cfg
    from axolotl.loaders import ModelLoader, load_tokenizer

    recipe = composed()["base"]["make"]
    vocabulary = tiny.save_tokenizer(["The river is wide."] * 20, 300, tmp_path / "untrained")
    tiny.save_config(recipe["llama"], vocabulary, tmp_path / "untrained")
    folders = {"base_model": tmp_path / "untrained", "output_dir": tmp_path, "dataset_prepared_path": tmp_path}
    params.write_yaml(
        tmp_path / "axolotl.yaml", recipe["train"] | {key: str(path) for key, path in folders.items()} | adapter
    )

    def weights():
        cfg = load_cfg(str(tmp_path / "axolotl.yaml"))
        model, _ = ModelLoader(cfg, load_tokenizer(cfg)).load()
        return {name: weight.detach().tolist() for name, weight in model.named_parameters()}

    first = weights()
    assert any("lora_A" in name for name in first) == bool(adapter)
    assert weights() == first


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf, "nan", "inf"])
def test_a_nan_loss_ends_training_at_once_and_is_logged(trainer, loss):
    trainer.log(1, loss=2.5, grad_norm=1.0)
    with pytest.raises(FloatingPointError, match=r"at step 2: .*Lower train\.learning_rate"):
        trainer.log(2, loss=loss, grad_norm=1.0)
    assert trainer.steps() == [1, 2]


@pytest.mark.parametrize("norm", [math.nan, "nan"])
def test_nan_gradients_end_training_the_second_time_in_a_row(trainer, norm):
    trainer.log(1, loss=2.5, grad_norm=norm)
    trainer.log(2, loss=2.5, grad_norm=1.0)
    trainer.log(3, loss="2.5", grad_norm=norm)
    trainer.log(3, eval_loss=2.0)  # between two steps; it says nothing about the gradients
    with pytest.raises(FloatingPointError, match="at step 4"):
        trainer.log(4, loss=2.5, grad_norm=norm)


def test_an_infinite_scaled_norm_does_not_end_training(trainer):
    """The scaler of float16 skips such a step and halves its scale."""
    for step in range(1, 4):
        trainer.log(step, loss=2.5, grad_norm=math.inf)
    assert trainer.steps() == [1, 2, 3]


def test_a_nan_validation_loss_counts_like_nan_gradients(trainer):
    trainer.log(1, eval_loss=math.nan)
    trainer.log(2, loss=2.5, grad_norm=1.0)
    trainer.log(2, eval_loss=math.nan)
    with pytest.raises(FloatingPointError):
        trainer.log(3, loss=2.5, grad_norm=math.nan)


def test_other_metrics_and_no_metrics_do_not_end_training(trainer):
    trainer.log(1, train_runtime=math.nan, ppl=math.inf, loss=2.0)
    trainer.log(2)
    trainer.callback.on_log(None, trainer.state, None)
    assert trainer.steps() == [1]


def test_every_process_ends_and_only_the_first_writes(trainer):
    trainer.state.is_world_process_zero = False
    trainer.log(1, loss=2.5)
    with pytest.raises(FloatingPointError):
        trainer.log(2, loss=math.nan)
    trainer.callback.on_train_begin(None, trainer.state, None)
    assert not trainer.file.exists()


def test_a_resumed_training_keeps_the_curve_up_to_its_checkpoint(trainer):
    for step in (1, 2, 3, 4):
        trainer.log(step, loss=2.5)
    trainer.state.global_step = 2
    trainer.callback.on_train_begin(None, trainer.state, None)
    trainer.log(3, loss=1.5)
    assert [(row["step"], row["train/loss"]) for row in history.read(trainer.file)[0]] == [(1, 2.5), (2, 2.5), (3, 1.5)]

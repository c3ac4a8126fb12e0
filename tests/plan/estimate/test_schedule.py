import json
from types import SimpleNamespace

import numpy as np
import pytest

from tunetrail import UserError
from tunetrail.plan.estimate import schedule

PEAK = 2e-5
# Scheduler and its other keys; each is compared with the scheduler that Axolotl's own trainer makes.
SCHEDULERS = [
    ("linear", {}),
    ("cosine", {}),
    ("cosine", {"lr_quadratic_warmup": True}),
    ("cosine", {"cosine_min_lr_ratio": 0.1}),
    ("cosine", {"cosine_min_lr_ratio": 0.0}),
    ("cosine", {"cosine_min_lr_ratio": 0.1, "cosine_constant_lr_ratio": 0.7}),
    ("cosine", {"cosine_min_lr_ratio": 0.1, "lr_quadratic_warmup": True}),
    ("cosine", {"cosine_constant_lr_ratio": 0.7}),
    ("linear", {"cosine_min_lr_ratio": 0.1}),
    ("constant", {}),
    ("constant", {"lr_scheduler_kwargs": {"num_cycles": 3}}),
    ("constant_with_warmup", {}),
]
# Axolotl computes these.
ASKED = [
    ("cosine", {"lr_scheduler_kwargs": {"num_cycles": 1.5}}),
    ("cosine_with_restarts", {"lr_scheduler_kwargs": {"num_cycles": 3}}),
    ("polynomial", {"lr_scheduler_kwargs": {"lr_end": 1e-6, "power": 2.0}}),
    ("inverse_sqrt", {}),
    ("cosine_with_min_lr", {"lr_scheduler_kwargs": {"min_lr": 2e-6}}),
    ("cosine_warmup_with_min_lr", {"lr_scheduler_kwargs": {"min_lr": 2e-6, "warmup_lr_rate": 0.3}}),
    ("warmup_stable_decay", {"lr_scheduler_kwargs": {"num_decay_steps": 10}}),
    ("rex", {"cosine_min_lr_ratio": 0.1}),
    ("one_cycle", {"lr_scheduler_kwargs": {"pct_start": 0.4, "div_factor": 10.0, "anneal_strategy": "linear"}}),
]
LENGTHS = [(0, 30), (2, 30), (12, 31), (3, 200), (20, 20)]  # steps of warm-up, steps
BEYOND = (100, 27)  # a warm-up longer than the run


def config(name, more, **keys):
    return {"learning_rate": PEAK, "lr_scheduler": name, **more, **keys}


@pytest.fixture(autouse=True)
def axolotl_in_this_process(monkeypatch):
    """Ask Axolotl in this process, which imports it for the comparison; test_acceptance uses the separate process."""

    def ask(module, question, subject):
        answer = schedule.answer(json.loads(json.dumps(question)))
        return lambda: json.loads(json.dumps(answer))

    monkeypatch.setattr(schedule.tool_queries, "ask", ask)


@pytest.fixture(scope="module")
def axolotl(tmp_path_factory):
    """Return the arguments that Axolotl's own builder gives its trainer, and the rates of that trainer's scheduler."""
    import torch
    from axolotl.core.builders import HFCausalTrainerBuilder
    from axolotl.core.trainers.mixins.scheduler import SchedulerMixin
    from axolotl.core.training_args import AxolotlTrainingArguments
    from axolotl.utils.dict import DictDefault

    here = {
        "output_dir": str(tmp_path_factory.mktemp("trainer")),
        "optimizer": "sgd",
        "micro_batch_size": 1,
        "num_epochs": 1.0,
    }

    def arguments(train, counted):
        cfg = DictDefault(here | {"val_set_size": 0} | train)
        own, _ = HFCausalTrainerBuilder(cfg, None, None)._set_base_training_args(counted)
        return AxolotlTrainingArguments(**own, lr_quadratic_warmup=cfg.lr_quadratic_warmup, use_cpu=True)

    def rates(train, counted):
        trainer = SchedulerMixin.__new__(SchedulerMixin)
        trainer.args, trainer.lr_scheduler = arguments(train, counted), None
        weight, taken = torch.nn.Parameter(torch.zeros(1)), []
        optimiser = torch.optim.SGD([weight], lr=trainer.args.learning_rate, momentum=0.9)
        scheduler = trainer.create_scheduler(trainer.args.max_steps, optimiser)
        for _ in range(trainer.args.max_steps):
            taken.append(optimiser.param_groups[0]["lr"])
            weight.grad = torch.zeros(1)
            optimiser.step()
            scheduler.step()
        return np.array(taken)

    return SimpleNamespace(arguments=arguments, rates=rates)


@pytest.mark.stage
@pytest.mark.parametrize(("name", "more"), SCHEDULERS)
def test_the_rates_are_those_of_axolotls_own_scheduler_step_by_step(name, more, axolotl):
    for warmup, total in [*LENGTHS, BEYOND]:
        train = config(name, more, warmup_steps=warmup)
        ours, real = schedule.rates(train, total), axolotl.rates(train, total)
        np.testing.assert_allclose(ours, real, rtol=1e-9, atol=1e-9 * PEAK, err_msg=f"{warmup} of {total}")


@pytest.mark.stage
def test_the_rates_of_a_rare_scheduler_come_from_axolotl(axolotl):
    for name, more in ASKED:
        train = config(name, more, warmup_steps=None, warmup_ratio=0.1)
        np.testing.assert_allclose(schedule.rates(train, 30), axolotl.rates(train, 30), rtol=1e-12, err_msg=name)


@pytest.mark.stage
def test_the_warm_up_has_as_many_steps_as_axolotls(axolotl):
    settings = [{}, {"warmup_steps": None, "warmup_ratio": None}, {"max_steps": 5}, {"warmup_ratio": 0.1, "max_steps": 500}]
    settings += [{"warmup_steps": steps} for steps in (0, 1, 2, 100)]
    settings += [{"warmup_ratio": ratio} for ratio in (0.0, 0.03, 0.05, 0.1, 0.5)]
    for keys in settings:
        for epochs in (0, 1, 10, 27, 33, 34, 67, 5000):
            train = config("cosine", keys)
            total = keys.get("max_steps") or epochs or 7  # if Axolotl counts none, the trainer uses its own count
            counted = min(epochs, total)  # as Axolotl's prepare_datasets passes it on
            assert schedule.warmup(train, total, counted) == axolotl.arguments(train, counted).get_warmup_steps(total)


@pytest.mark.stage
def test_a_warm_up_ratio_applies_to_the_epochs_steps_even_if_max_steps_is_larger(axolotl):
    train = config("linear", {"warmup_ratio": 0.1, "max_steps": 50})
    assert (schedule.warmup(train, 50, 30), schedule.warmup(train, 50)) == (3, 5)
    np.testing.assert_allclose(schedule.rates(train, 50, 30), axolotl.rates(train, 30))


def test_the_published_recipe_never_reaches_the_rate_that_it_asks_for():
    """27 steps, 100 of warm-up: the last step has 26/100 of 2e-5."""
    train = config("cosine", {}, warmup_steps=100, warmup_ratio=None)
    rates = schedule.rates(train, 27)
    assert schedule.warmup(train, 27) == 100
    assert rates.max() == rates[-1] == pytest.approx(5.2e-6)
    assert rates[0] == 0
    assert len(rates) == 27


def test_the_corrected_recipe_peaks_at_its_rate_and_ends_near_0(composed):
    train = composed("experiment=llama3_8b_alpaca")["train"]
    rates = schedule.rates(train, 1160)
    assert schedule.warmup(train, 1160) == 34
    assert rates.argmax() == 34
    assert rates.max() == pytest.approx(2e-5)
    assert rates[-1] < 1e-10


def test_a_warm_up_of_one_step_becomes_two_and_the_default_warm_up_has_at_most_100():
    settings = [{"warmup_steps": 1}, {"warmup_ratio": 0.05}, {"warmup_ratio": 0.1}, {"warmup_steps": 0}, {}]
    assert [schedule.warmup(config("cosine", keys), 30) for keys in settings] == [2, 2, 3, 0, 0]
    assert [schedule.warmup(config("cosine", {}), total) for total in (34, 1000, 5000)] == [2, 30, 100]


def test_a_scheduler_that_depends_on_the_validation_loss_has_no_predictable_rates():
    for name in ("reduce_lr_on_plateau", "greedy", "of a plug-in"):
        assert schedule.rates(config(name, {}), 10) is None
    assert schedule.rates(config("cosine", {"jagged_restart_steps": 5}), 10) is None


def test_no_steps_have_no_rates():
    for name, more in SCHEDULERS + ASKED:
        assert schedule.rates(config(name, more), 0).shape == (0,)


@pytest.mark.stage
@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("cosine", {"min_lr": 1e-6}, "unexpected keyword argument 'min_lr'"),
        ("warmup_stable_decay", {}, "'num_decay_steps'"),
        ("warmup_stable_decay", {"num_decay_steps": 3, "decay_type": "root"}, "root"),
        ("cosine_with_min_lr", {}, "min_lr"),
        ("cosine_with_min_lr", {"min_lr": 1e-6, "min_lr_rate": 0.1}, "min_lr_rate"),
    ],
)
def test_keys_that_the_scheduler_would_fail_on_once_training_starts_are_named(name, kwargs, message):
    with pytest.raises(UserError, match=r"train\.lr_scheduler_kwargs") as raised:
        schedule.rates(config(name, {"lr_scheduler_kwargs": kwargs}), 10)
    assert message in str(raised.value)

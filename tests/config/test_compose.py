"""Hydra's composition of the real conf tree, and its errors as a user reads them."""

import pytest
from hydra.errors import ConfigCompositionException

from tests.conftest import ROOT
from tunetrail import UserError
from tunetrail.config import compose

KNOWN = ["train.learning_rate", "train.pad_token", "model"]


def test_an_error_of_hydra_becomes_a_user_error(known):
    message = r"train\.lerning_rate: no such key\. Did you mean train\.learning_rate\?"
    with pytest.raises(UserError, match=message), compose.explained(ROOT, [], known):
        compose.compose(ROOT, ["train.lerning_rate=1"])


def test_hydras_keys_include_those_of_the_chosen_sweeper_and_launcher():
    keys = compose.hydra_keys(ROOT, ["sweep=[joblib,optuna]", "seed=1,2"])
    assert {"hydra.sweeper.n_trials", "hydra.launcher.n_jobs", "hydra.sweep.dir"} <= set(keys)
    assert "hydra.sweeper.n_trials" not in compose.hydra_keys(ROOT, [])
    assert not [key for key in keys if "_target_" in key]
    assert compose.hydra_keys(ROOT, ["sweep=none"]) == []


def hydra_says(message, cause=None):
    error = ConfigCompositionException(message)
    error.__cause__ = cause
    return compose.message(error, KNOWN)


def test_hydras_message_for_an_unknown_key_is_replaced():
    message = "Could not override 'train.lerning_rate'.\nTo append to your config use +train.lerning_rate=1"
    assert "Did you mean train.learning_rate?" in hydra_says(message)
    assert "Add it with a plus: +train.pad_token" in hydra_says("Could not override 'train.pad_token'.\nTo append ...")
    message = "Could not find 'model/foo'\n\nAvailable options in 'model':\n\tlocal\nConfig search path:\n\tprovider=hydra"
    assert hydra_says(message) == "Could not find 'model/foo'\n\nAvailable options in 'model':\n\tlocal"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("hydra.launcher.n_jobs=abc", "hydra.launcher.n_jobs: 'abc' is not of type 'integer'. Give a value of that type."),
        ("hydra.launcher.timeout=[1]", "hydra.launcher.timeout: '[1]' is not of type 'float'. Give a value of that type."),
    ],
)
def test_the_error_for_a_value_that_hydra_refuses_names_the_type(override, says):
    with pytest.raises(ConfigCompositionException) as error:
        compose.compose(ROOT, ["sweep=joblib", override], hydra=True)
    assert compose.message(error.value, KNOWN) == says


def test_the_error_for_a_missing_plug_in_names_its_extra():
    message = hydra_says(
        "In 'hydra/config': Could not find 'hydra/launcher/ray'\n\nAvailable options in 'hydra/launcher':\n\tbasic"
    )
    assert message.startswith("sweep=ray: its plug-in is not installed. Install the extra")
    assert "'.[ray]'" in message

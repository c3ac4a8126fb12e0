import pytest

from tunetrail import UserError
from tunetrail.config import secret


@pytest.mark.parametrize(
    "key",
    [
        *(
            "train.hub_token",
            "train.hf_token",
            "a.token",
            "train.wandb_api_key",
            "train.x.0.apikey",
            "a.secret",
            "a.db_password",
        ),
        *(
            "a.passwd",
            "accelerate.aws-secret-access-key",
            "aws_access_key_id",
            "a.client_secret",
            "train.swanlab_lark_secret",
        ),
        *(
            "train.swanlab_lark_webhook_url",
            "a.private_key",
            "a.secret_key",
            "a.credentials",
            "x.api_token",
            "a.tokens.auth_token",
        ),
    ],
)
def test_a_key_that_holds_a_secret_by_its_name(key):
    assert secret.has(key)
    assert secret.has(f"{key}.3")  # an item of a list
    with pytest.raises(UserError, match=f"^{key} holds a secret") as error:
        secret.refuse({"seed": 1, key: "hunter2"})
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    "key",
    [
        *("train.special_tokens.pad_token", "train.special_tokens.bos_token", "train.x.image_token", "train.tokens"),
        *(
            "evaluate.model_args.think_end_token",
            "train.comet_experiment_key",
            "train.fix_untrained_tokens",
            "train.sharded",
        ),
        *("train.datasets.0.template_thinking_key", "train.eot_tokens.0", "evaluate.task.generation_kwargs.pad_token_id"),
    ],
)
def test_a_key_that_holds_no_secret(key):
    assert not secret.has(key)
    secret.refuse({key: "<|end|>"})


@pytest.mark.parametrize(
    "value",
    [
        *(
            "https://me:hunter2@host/path",
            "postgresql://u:pa/ss@host/db",
            "http://:hunter2@host",
            "s3://KEY:hunter2@bucket/x",
        ),
        *("https://host/a?token=hunter2", "https://host/a?x=1&X-Amz-Signature=abc", "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH"),
        *("https://tok3n@host/x", "postgresql://u:12/abc@host", "https://host/a?pwd=x", "https://host/a?sas=x"),
        *("https://host/a?x-amz-credential=x", "Driver=x;UID=u;PWD=x", "https://u:12@host"),
        *("sk-proj-abcdefghijkl1mnop", "ghp_abcdefghijklmnopqrst12", "AKIAABCDEFGHIJKLMNOP"),
    ],
)
def test_a_value_that_is_a_secret_under_any_key(value):
    with pytest.raises(UserError, match=r"^train\.x holds a secret"):
        secret.refuse({"train.x": value})


@pytest.mark.parametrize("value", ["${oc.env:HF_TOKEN}", "a ${oc.env: wandb_api_key,none}"])
def test_a_value_that_would_take_a_secret_from_the_environment(value):
    with pytest.raises(
        UserError, match=r"^train\.x would write \$(HF_TOKEN|wandb_api_key) into params\.yaml, which is published"
    ):
        secret.refuse({"train.x": value})


def test_values_that_are_not_secrets_pass():
    plain = [
        "https://host/a@b",
        "https://host:8080/a",
        "https://host:8080/a@b",
        "org/name@main",
        "data/a.jsonl",
        "hf_xet",
        "hf_alpacacleaned2024run",
        "data/hf_smollm135minstruct/x.jsonl",
        "out/hf_abcdefghijklmnopqrstuvwxyzABCDEFGH/x.jsonl",
        "AKIABCDEFGHIJKLMNOPQRSTUV",
        "What does ?key=value mean in {input}, and &token=x?",
        "https://host/a?page=2",
        "sk-1",
        "sk-learn-text-classification-baseline-2",
        "sk-multilingualclassification",
        "${oc.env:HOME}/rows.jsonl",
        "#1;tokens=4096;rank=0",
        "data/set;key=1/rows.jsonl",
        "https://host/a?tokenizer=x&author=y",
    ]
    secret.refuse({f"train.x.{number}": value for number, value in enumerate(plain)})
    secret.refuse({"train.comet_api_key": None, "train.hf_token": "null", "train.x_token": True, "a.token": ""})

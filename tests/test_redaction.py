"""What an address may be shown as, whatever stands in it."""

import pytest

from tunetrail import UserError, redaction


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://host/path?key=secret#secret", "https://host"),
        ("http://me:secret@host:5000/", "http://host:5000"),
        ("postgresql+psycopg://me:s%40cret@host/mlflow", "postgresql+psycopg://host"),
        ("http://me:sec@ret@host", "http://host"),
        ("s3://bucket/secret", "s3://bucket"),
        ("http://me:sec/ret@host", "..."),
        ("http://me:sec#ret@host", "..."),
        ("http://host:secret", "..."),
        ("http://[secret", "..."),
        ("me:secret@host:/path", "..."),
        ("/mnt/store", "/mnt/store"),
    ],
)
def test_of_an_address_only_what_is_no_secret_is_told(url, told):
    assert redaction.address(url) == told


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://bob:p@ssw0rd@host/", "http://host/"),
        ("postgresql://u:pa/ss@host/db", "postgresql://host/db"),
        ("postgresql://u:p?a#s@s@host/db", "postgresql://host/db"),
        ("https://ghp_0123@github.com/a.git", "https://github.com/a.git"),
        ("http://me:p%40ss@[::1]:5000/", "http://[::1]:5000/"),
        (
            "fatal: 'https://me:hunter2@host/a.git' not found, ssh://me@other/b",
            "fatal: 'https://host/a.git' not found, ssh://other/b",
        ),
        ("mysql+pymysql://u@host/d?password=hunter2&charset=utf8", "mysql+pymysql://host/d?password=...&charset=utf8"),
        (
            "https://b.s3.amazonaws.com/k?X-Amz-Signature=abc&X-Amz-Date=1",
            "https://b.s3.amazonaws.com/k?X-Amz-Signature=...&X-Amz-Date=1",
        ),
        ("https://a.blob.core.windows.net/c?sv=1&sig=a%2Bb", "https://a.blob.core.windows.net/c?sv=1&sig=..."),
        ("https://host/?api_key=abc#access_token=def", "https://host/?api_key=...#access_token=..."),
        ("mssql+pyodbc:///?odbc_connect=PWD%3Dx", "mssql+pyodbc:///?odbc_connect=..."),
        ("AccountName=a;AccountKey=b==;EndpointSuffix=c", "AccountName=a;AccountKey=...;EndpointSuffix=c"),
        ("hf://datasets/org/name@main/rows.jsonl", "hf://datasets/org/name@main/rows.jsonl"),
        ("http://host:5000/#/experiments/1/runs/2?workflowType=machine_learning",) * 2,
        ("me@example.com, model@champion, a=b, sqlite:////x/mlflow.db",) * 2,
    ],
)
def test_of_a_text_all_is_shown_but_users_passwords_and_secrets_of_queries(text, shown):
    assert redaction.shown(text) == shown
    assert redaction.shown(shown) == shown
    assert str(UserError(text)) == shown

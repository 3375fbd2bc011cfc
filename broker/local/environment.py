"""The environment of a local run's processes: its settings, and secrets that are made for it."""

import base64
import contextlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from broker.local.aws import REGION, Keys

BROKER_ACCOUNT = "999999999999"
LOCAL_SETTINGS = {
    "BROKER_ENVIRONMENT": "local",
    "BROKER_REGISTRATION": "open",
    "BROKER_WEBHOOK_ALLOW_LOOPBACK": "true",
    "BROKER_LOG_FORMAT": "console",
    "BROKER_LOG_LEVEL": "info",
}
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def find_secrets(path: Path) -> dict[str, str]:
    """Give the encryption key and the pepper, made at the first time and kept where only we can read them."""
    with contextlib.suppress(FileNotFoundError):
        kept: dict[str, str] = json.loads(path.read_bytes())
        return kept
    made = {
        "BROKER_SECRET_KEYS": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "BROKER_API_KEY_PEPPER": secrets.token_hex(32),
    }
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(json.dumps(made))
    return made


def server_settings(database_url: str, owner_url: str, redis_url: str) -> dict[str, str]:
    """Where our own servers are."""
    return {
        "BROKER_DATABASE_URL": database_url,
        "BROKER_MIGRATION_DATABASE_URL": owner_url,
        "BROKER_REDIS_URL": redis_url,
    }


def local_aws_settings(url: str, account: Keys) -> dict[str, str]:
    """What makes the broker live in the local AWS, in an account of its own."""
    return {
        "BROKER_AWS_ENDPOINT_URL": url,
        "BROKER_AWS_ACCOUNT_ID": BROKER_ACCOUNT,
        "BROKER_AWS_REGION": REGION,
        "BROKER_SES_CALL_RATE": "0",  # it takes what comes, unless its dialect says otherwise
        "AWS_ACCESS_KEY_ID": account.access_key_id,
        "AWS_SECRET_ACCESS_KEY": account.secret_access_key,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def without_cloud(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without what would lead a local run elsewhere: other settings, real credentials, proxies."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(("BROKER_", "AWS_")) and name.lower() not in _PROXIES
    }

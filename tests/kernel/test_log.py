"""Logs hold no secrets, not even where a trace shows how far the code came."""

import json
import logging
from collections.abc import Iterator

import msgspec
import pytest
import structlog

from broker import log
from broker.settings import LogFormat, Settings

CANARY = "sdb_canary-0123456789"


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    """Logging is set up for the whole process; each test leaves it as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def fail_with_a_secret_in_hand() -> None:
    """Raises while a local variable holds a secret."""
    token = CANARY
    raise RuntimeError(f"failed with {len(token)} characters")


@pytest.mark.parametrize("log_format", list(LogFormat))
def test_a_trace_shows_no_local_variables(capsys: pytest.CaptureFixture[str], log_format: LogFormat) -> None:
    """They hold tokens, bodies and keys; file, line and message are what a trace is for."""
    log.configure(log_format=log_format, level="info")
    try:
        fail_with_a_secret_in_hand()
    except RuntimeError:
        structlog.stdlib.get_logger("test").exception("it failed")

    text = capsys.readouterr().err
    assert "fail_with_a_secret_in_hand" in text
    assert "failed with 21 characters" in text
    assert CANARY not in text


def test_a_json_log_is_one_line_per_event(capsys: pytest.CaptureFixture[str]) -> None:
    """Also with a trace."""
    log.configure(log_format=LogFormat.JSON, level="info")
    try:
        fail_with_a_secret_in_hand()
    except RuntimeError:
        structlog.stdlib.get_logger("test").exception("it failed")

    [line] = capsys.readouterr().err.splitlines()
    assert "RuntimeError" == json.loads(line)["exception"][0]["exc_type"]


LOOKS = {
    "an API key": "sdb_3uKq0x1aPq9ZkL0mN2bV4cX6yT8wE1rU5iO7pA3sD",
    "a signing secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "a token of Fernet": "gAAAAABlY2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5",
    "a bearer": "Bearer canary-of-a-bearer",
    "a password": "postgresql://me:canary-word@127.0.0.1/broker",
    "a session token": "https://sts.amazonaws.com/?X-Amz-Security-Token=canaryIQoJb3&a=1",
    "one of ours": "pepper canary",
}


@pytest.mark.parametrize("log_format", list(LogFormat))
def test_a_secret_in_somebody_elses_words_is_blanked(capsys: pytest.CaptureFixture[str], log_format: LogFormat) -> None:
    """In messages, in fields and in traces: by how it looks, or because it is one of this process's own."""
    log.configure(log_format=log_format, level="info", secrets=["pepper canary", "", "short"])
    for name, secret in LOOKS.items():
        try:
            raise RuntimeError(f"{name}: '{secret}' was refused")
        except RuntimeError:
            structlog.stdlib.get_logger("test").exception("it failed", about=secret)
            logging.getLogger("library").warning("%s failed", secret)

    told = capsys.readouterr().err
    kept = {name: secret for name, secret in LOOKS.items() if secret in told}
    assert {} == kept
    assert "canary-" not in told
    assert "was refused" in told
    assert "me:[redacted]@127.0.0.1/broker" in told


def test_ids_and_prefixes_stay(capsys: pytest.CaptureFixture[str]) -> None:
    """What people recognise a key by is no secret."""
    log.configure(log_format=LogFormat.JSON, level="info")
    words = "sdb_3uKq0x1a 01a203f1-933e-7384-98d1-0e362595677e http://127.0.0.1:8000/a@b arn:aws:iam::1:role/Bearer"
    structlog.stdlib.get_logger("test").info(words)

    assert words in capsys.readouterr().err


def test_every_secret_that_can_be_set_is_one_of_this_processs_own(settings: Settings) -> None:
    """By what the settings are called, so that the next one is not forgotten."""
    names = [field.name for field in msgspec.structs.fields(Settings)]
    alone = [name for name in names if name.endswith(("_keys", "_pepper", "_token"))]
    open_to_all = {"public_url", "aws_endpoint_url", "template_url"}
    within = [name for name in names if name.endswith("_url") and name not in open_to_all]
    given = {name: f"canary-{name}" for name in alone} | {name: f"x://me:canary-{name}@host/a" for name in within}

    secrets = msgspec.structs.replace(settings, **given).secrets

    assert {f"canary-{name}" for name in given} <= set(secrets)
    assert {"signing_keys", "smtp_url"} <= set(given)

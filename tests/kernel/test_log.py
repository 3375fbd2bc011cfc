"""Logs hold no secrets, not even where a trace shows how far the code came."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from broker import log
from broker.settings import LogFormat

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

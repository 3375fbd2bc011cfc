"""Structured logs: JSON lines or readable text, with the request's or job's id on every line."""

import logging
import os
import re
import sys
from collections.abc import Iterable, MutableMapping
from typing import Any

import structlog
from structlog.tracebacks import ExceptionDictTransformer

from broker.settings import LogFormat

SECRET_NAMES = ("secret", "token", "password", "authorization", "signature", "api_key", "subscribe_url", "credentials")


# What a secret looks like wherever it stands, in a trace or in somebody else's message: API keys, signing secrets of
# webhooks, Fernet tokens, bearer tokens, passwords in URLs, SigV4 signatures and session tokens of AWS.
_LOOKS_SECRET = re.compile(
    r"(?P<kept>\bsdb_(?=[\w-]{16})|\bwhsec_|\bgAAAA(?=[\w-]{20})|\b[Bb]earer +|://[^\s/:@]*:(?=[^\s/@]+@)"
    r"|X-Amz-(?:Signature|Security-Token)=)[^\s\"'&@,]+"
)
_OF_THE_ENVIRONMENT = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
SHORTEST = 8  # a shorter secret would blank ordinary words


class Scrub:
    """The last word on every line: blanks what looks like a secret, and this process's own secrets by value."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = sorted({each for each in secrets if len(each) >= SHORTEST}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, _logger: object, _method: str, line: str) -> str:
        """The line without them."""
        line = _LOOKS_SECRET.sub(r"\g<kept>[redacted]", line)
        return self._known.sub("[redacted]", line) if self._known else line


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blanks every value whose name says that it is a secret."""
    for name in event:
        if any(word in name.lower() for word in SECRET_NAMES):
            event[name] = "[redacted]"
    return event


def configure(*, log_format: LogFormat, level: str, secrets: Iterable[str] = ()) -> None:
    """Sends our own and the standard library's logs to stderr in one form; `secrets` are blanked in them."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        redact,
    ]
    scrub = Scrub([*secrets, *(os.environ.get(name, "") for name in _OF_THE_ENVIRONMENT)])
    # structlog's own formatters show the local variables of every frame: tokens, bodies, keys.
    if log_format is LogFormat.JSON:
        traces = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
        last: list[Any] = [traces, structlog.processors.JSONRenderer(), scrub]
    else:
        plain = structlog.dev.plain_traceback
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain), scrub]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for noisy in ("botocore", "aiobotocore", "httpx", "httpcore", "arq"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def get(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of one module."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger

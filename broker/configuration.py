"""Settings out of the environment: read, converted, and checked against each other before anything starts."""

import base64
import re
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import ip_address
from typing import Any, get_type_hints

import msgspec
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from broker.quotas import parse as parse_quotas
from broker.settings import (
    LEAST_DENY,
    LEAST_RETENTION,
    PREFIX,
    PUBLIC_KEY,
    Environment,
    Registration,
    Settings,
    SettingsError,
    describe,
)


def load(environ: Mapping[str, str]) -> Settings:
    """The settings of this environment; `SettingsError` names every variable that is missing or bad."""
    problems: list[str] = []
    values: dict[str, Any] = {}
    hints = get_type_hints(Settings)
    for field in msgspec.structs.fields(Settings):
        variable = PREFIX + field.name.upper()
        text = environ.get(variable, "")
        if text == "":
            if field.required:
                problems.append(f"{variable} is not set: {describe(field.name)}.")
            continue
        try:
            values[field.name] = _convert(text, hints[field.name])
        except (msgspec.ValidationError, ValueError) as error:
            problems.append(f"{variable} is {text!r}: {error}." if _is_plain(field.name) else f"{variable}: {error}.")
    if not problems:
        problems = _cross_checks(Settings(**values))
    if problems:
        raise SettingsError("\n".join(problems))
    return Settings(**values)


def _convert(text: str, kind: Any) -> object:
    if kind is timedelta:
        return timedelta(seconds=float(text))
    return msgspec.convert(text, kind, strict=False)


def _is_plain(name: str) -> bool:
    return not name.endswith(("_keys", "_pepper", "_token", "database_url", "smtp_url"))


def _cross_checks(settings: Settings) -> list[str]:
    problems = [*_secret_problems(settings), *_queue_problems(settings), *_server_problems(settings)]
    problems += _limit_problems(settings)
    if settings.registration is Registration.TOKEN and not settings.operator_token:
        problems.append("BROKER_OPERATOR_TOKEN is not set, needed unless BROKER_REGISTRATION is open.")
    if settings.environment is Environment.PRODUCTION and settings.webhook_allow_loopback:
        problems.append("BROKER_WEBHOOK_ALLOW_LOOPBACK opens internal addresses to tenants; not in production.")
    problems += _address_checks(settings)
    if settings.environment is Environment.PRODUCTION and settings.deny_kept < LEAST_DENY:
        problems.append("BROKER_DENY_KEPT must be at least 900 seconds: until then a late request may be executed.")
    if settings.event_retention < LEAST_RETENTION:
        problems.append("BROKER_EVENT_RETENTION must be at least 2160000 seconds (25 days).")
    if settings.metrics_token and not (settings.metrics_token.isascii() and settings.metrics_token.isprintable()):
        problems.append("BROKER_METRICS_TOKEN must be printable ASCII: it is sent in a header.")
    if not _mails(settings):
        problems.append("BROKER_SMTP_URL must be smtp://host or smtps://host, and BROKER_MAIL_FROM an address with it.")
    if settings.log_level not in {"debug", "info", "warning", "error"}:
        problems.append("BROKER_LOG_LEVEL must be debug, info, warning or error.")
    return problems


def _secret_problems(settings: Settings) -> list[str]:
    problems = []
    if not settings.fernet_keys or not all(_is_fernet_key(key) for key in settings.fernet_keys):
        problems.append("BROKER_SECRET_KEYS must hold Fernet keys: 32 bytes in URL-safe base64 each.")
    if not all(_is_fernet_key(each.removeprefix(PUBLIC_KEY).rstrip("=") + "=") for each in settings.signing_key_list):
        problems.append("BROKER_SIGNING_KEYS must hold keys of 32 bytes in URL-safe base64, maybe after public:.")
    if len(settings.api_key_pepper) < 32:
        problems.append("BROKER_API_KEY_PEPPER must have at least 32 characters.")
    return problems


def _mails(settings: Settings) -> bool:
    good = re.fullmatch(r"smtps?://([^@/\s]+@)?[^@/\s:]+(:[0-9]{1,5})?", settings.smtp_url)
    sender = re.fullmatch(r"[^@\s<>]+@[^@\s<>]+", settings.mail_from)
    return bool(good and sender) if settings.smtp_url or settings.mail_from else True


def _queue_problems(settings: Settings) -> list[str]:
    if all(re.fullmatch(r"arn:[a-z-]+:sqs:[a-z0-9-]+:[0-9]{12}:[\w-]+", arn) for arn in settings.dead_letter_arns):
        return []
    return ["BROKER_FEEDBACK_DEAD_LETTERS must be ARNs of standard SQS queues, separated by commas."]


def _address_checks(settings: Settings) -> list[str]:
    problems = []
    if not settings.database_url.startswith("postgresql+asyncpg://"):
        problems.append("BROKER_DATABASE_URL must begin with postgresql+asyncpg://.")
    if settings.direct_database_url and not settings.direct_database_url.startswith("postgresql+asyncpg://"):
        problems.append("BROKER_DIRECT_DATABASE_URL must begin with postgresql+asyncpg://.")
    return problems + _url_problems(settings)


def _url_problems(settings: Settings) -> list[str]:
    """A queue that SNS may send to must never be read as one of EventBridge: anybody's topic could forge events."""
    problems = []
    for name in ("queues", "queues_of_events"):
        variable = "BROKER_FEEDBACK_QUEUES" if name == "queues" else "BROKER_EVENT_QUEUES"
        try:
            getattr(settings, name)
        except ValueError as error:
            problems.append(f"{variable} must be like eu-west-1=https://…/123456789012/name: {error}.")
    if not problems:
        both = {each.arn for each in settings.queues.values()} & {e.arn for e in settings.queues_of_events.values()}
        problems += [
            f"BROKER_EVENT_QUEUES names {arn}, which SNS may send to; it needs one of its own." for arn in both
        ]
    return problems


def _server_problems(settings: Settings) -> list[str]:
    try:
        good = all(ip_address(address) and 0 < port < 65_536 for address, port in settings.dns_server_list)
    except ValueError:
        good = False
    return [] if good else ["BROKER_DNS_SERVERS must be IP addresses, separated by commas, with #port where not 53."]


def _limit_problems(settings: Settings) -> list[str]:
    rates = (settings.tenant_request_rate, settings.key_request_rate, settings.keyless_request_rate)
    problems = [] if all(0 <= rate < 1e9 for rate in rates) else ["BROKER_…_REQUEST_RATE must be numbers from 0 on."]
    problems += [] if 0 <= settings.ses_call_rate < 1e9 else ["BROKER_SES_CALL_RATE must be a number from 0 on."]
    try:
        parse_quotas(settings.quotas)
    except ValueError as error:
        problems.append(f"BROKER_QUOTAS: {error}.")
    return problems


def _is_fernet_key(key: str) -> bool:
    try:
        return len(base64.urlsafe_b64decode(key)) == 32
    except ValueError:
        return False


def migration_urls(environ: Mapping[str, str]) -> tuple[str, str | None]:
    """The owner's URL, and the login of the service where that is another; a migration needs no other setting."""
    urls = {}
    for variable in ("BROKER_MIGRATION_DATABASE_URL", "BROKER_DATABASE_URL"):
        text = environ.get(variable, "")
        try:
            urls[variable] = make_url(text) if text else None
        except ArgumentError as error:
            raise SettingsError(f"{variable} is not a database URL.") from error
        if text and not text.startswith("postgresql+asyncpg://"):
            raise SettingsError(f"{variable} must begin with postgresql+asyncpg://.")
    owner = urls["BROKER_MIGRATION_DATABASE_URL"] or urls["BROKER_DATABASE_URL"]
    if owner is None:
        raise SettingsError("BROKER_MIGRATION_DATABASE_URL is not set: a Postgres login that owns the tables.")
    service = urls["BROKER_DATABASE_URL"]
    login = service.username if service is not None and service.username != owner.username else None
    return owner.render_as_string(hide_password=False), login

"""Configuration from `BROKER_*` environment variables: one frozen Struct, checked at start."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, get_type_hints
from urllib.parse import unquote

import msgspec

from broker.feedback_queues import FeedbackQueue
from broker.feedback_queues import parse as parse_queues
from broker.quotas import Quotas
from broker.quotas import parse as parse_quotas

PREFIX = "BROKER_"
PUBLIC_KEY = "public:"  # before a key that only checks signatures
DNS_PORT = 53
LEAST_DENY = timedelta(minutes=15)
LEAST_RETENTION = timedelta(days=25)  # SNS delivers to SQS for 23 days (SNS Developer Guide, retries)


class SettingsError(Exception):
    """A missing or bad variable, as one sentence per variable."""


class Environment(StrEnum):
    PRODUCTION = "production"
    LOCAL = "local"


class Registration(StrEnum):
    OPEN = "open"
    TOKEN = "token"  # noqa: S105 - a mode, not a secret


class LogFormat(StrEnum):
    JSON = "json"
    CONSOLE = "console"


def _about(text: str) -> msgspec.Meta:
    return msgspec.Meta(description=text)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting, with its meaning (`broker settings` prints this table)."""

    database_url: Annotated[
        str, _about("Postgres, as postgresql+asyncpg://user:password@host/db; a login without rights of its own")
    ]
    secret_keys: Annotated[
        str, _about("Fernet keys, comma-separated, newest first; the first encrypts, all decrypt (secrets at rest)")
    ]
    api_key_pepper: Annotated[str, _about("At least 32 characters; keys the digests under which API keys are stored")]
    signing_keys: Annotated[
        str,
        _about(
            "Ed25519 keys that sign the audit chain and receipts: 32 bytes in URL-safe base64, comma-separated, newest"
            " first; public:… only checks what a former key signed. Empty: derived from BROKER_SECRET_KEYS"
        ),
    ] = ""
    database_patience: Annotated[
        timedelta, _about("Seconds to listen to a database that says nothing; longer than its own limit, which is 15")
    ] = timedelta(seconds=20)
    redis_url: Annotated[str, _about("Redis or Valkey, the doorbell between processes")] = "redis://127.0.0.1:6379/0"
    direct_database_url: Annotated[
        str,
        _about("The same Postgres and login without a pooler in transaction mode between; default BROKER_DATABASE_URL"),
    ] = ""
    migration_database_url: Annotated[
        str, _about("Postgres login that owns the tables, for `broker migrate`; default BROKER_DATABASE_URL")
    ] = ""
    environment: Annotated[Environment, _about("production or local; local relaxes nothing by itself")] = (
        Environment.PRODUCTION
    )
    public_url: Annotated[str, _about("Where SNS reaches this API, without a trailing slash")] = ""
    registration: Annotated[
        Registration, _about("Who may register a tenant: open, or token (needs operator_token)")
    ] = Registration.TOKEN
    operator_token: Annotated[str, _about("Bearer token that may register tenants when registration is token")] = ""
    aws_account_id: Annotated[str, _about("The broker's own AWS account, named in the owners' trust policies")] = ""
    aws_partition: Annotated[str, _about("aws, aws-us-gov or aws-cn; one installation serves one")] = "aws"
    aws_region: Annotated[str, _about("Home Region of the broker (STS and defaults)")] = "us-east-1"
    aws_endpoint_url: Annotated[str, _about("Another endpoint for every AWS call (the local AWS); empty for AWS")] = ""
    aws_call_timeout: Annotated[timedelta, _about("Deadline of one AWS call, in seconds")] = timedelta(seconds=5)
    template_url: Annotated[
        str, _about("S3 address of the CloudFormation template; when set, quick-create links are offered")
    ] = ""
    feedback_queues: Annotated[
        str,
        _about(
            "SQS queues that SNS delivers feedback to, comma-separated, each as Region=queue URL; each needs a"
            " dead-letter queue of its name and -dead (deploy/aws/broker.yaml). Without one a Region's topics use HTTPS"
        ),
    ] = ""
    event_queues: Annotated[
        str,
        _about(
            "SQS queues that EventBridge, and nobody else, may send to, in the same form, for delegates whose events"
            " come by EventBridge (deploy/aws/broker.yaml, EventAccounts); never one that SNS may send to"
        ),
    ] = ""
    role_name: Annotated[str, _about("Name of the role that owners create for us")] = "SesDelegationBroker"
    offer_lifetime: Annotated[timedelta, _about("An offer lapses after this many seconds")] = timedelta(days=7)
    readback_gap: Annotated[timedelta, _about("Seconds between the two reads that prove a revocation")] = timedelta(
        seconds=1
    )
    deny_kept: Annotated[
        timedelta, _about("Seconds for which a Deny keeps taken-back access from returning; a late request dies sooner")
    ] = timedelta(minutes=20)
    identity_check_every: Annotated[timedelta, _about("Seconds between drift checks of an identity")] = timedelta(
        minutes=15
    )
    ses_call_rate: Annotated[
        float,
        _about("Calls per second of one kind, account and Region about notifications and configuration sets; 0: any"),
    ] = 1.0
    feedback_dead_letters: Annotated[
        str,
        _about("ARNs of SQS queues, comma-separated, one per Region: they take what SNS cannot deliver over HTTPS"),
    ] = ""
    dns_servers: Annotated[
        str, _about("DNS servers for simulations, comma-separated, as address or address#port; empty: the system's")
    ] = ""
    route_quiet_after: Annotated[
        timedelta, _about("A route of which nothing is heard for so many seconds is shown as quiet")
    ] = timedelta(days=7)
    webhook_allow_loopback: Annotated[
        bool, _about("Let webhooks go to http and to loopback addresses; for local runs only")
    ] = False
    webhook_timeout: Annotated[timedelta, _about("Total deadline of one webhook attempt, in seconds")] = timedelta(
        seconds=15
    )
    event_retention: Annotated[
        timedelta, _about("Events are kept for so many seconds; at least 25 days, since SNS may repeat one for 23 days")
    ] = timedelta(days=30)
    reckon_every: Annotated[
        timedelta, _about("Seconds between two looks of the breaker at an owner's mail, while little of it comes")
    ] = timedelta(seconds=30)
    metrics_token: Annotated[
        str, _about("Bearer token for /metrics; empty: only clients on loopback, not through a proxy, are answered")
    ] = ""
    tenant_request_rate: Annotated[
        float, _about("Requests per second of one tenant; ten seconds' worth may come at once; 0: no limit")
    ] = 50.0
    key_request_rate: Annotated[float, _about("The same of one API key; taking access back is never limited")] = 25.0
    keyless_request_rate: Annotated[
        float, _about("The same of one client address (IPv6: /64) without a valid key, in each process; 0: no limit")
    ] = 10.0
    quotas: Annotated[
        str, _about("What a tenant may have or do in a minute, as name=number, comma-separated; a bad name lists them")
    ] = ""
    smtp_url: Annotated[
        str, _about("Mail server for alarms, as smtp://user:password@host:587 or smtps://…; empty: no mail is sent")
    ] = ""
    mail_from: Annotated[str, _about("Sender of these mails, as alarms@example.com; needs BROKER_SMTP_URL")] = ""
    body_limit: Annotated[int, _about("Largest request body, in bytes")] = 1_000_000
    log_format: Annotated[LogFormat, _about("json or console")] = LogFormat.JSON
    log_level: Annotated[str, _about("debug, info, warning or error")] = "info"

    @property
    def fernet_keys(self) -> tuple[str, ...]:
        """The keyring, newest first."""
        return tuple(key.strip() for key in self.secret_keys.split(",") if key.strip())

    @property
    def signing_key_list(self) -> tuple[str, ...]:
        """The keys of signatures, newest first; those that only check begin with `PUBLIC_KEY`."""
        return tuple(key.strip() for key in self.signing_keys.split(",") if key.strip())

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be shown: keys, tokens, and the passwords within URLs, as they stand there and decoded."""
        databases = (self.database_url, self.direct_database_url, self.migration_database_url)
        urls = (*databases, self.redis_url, self.smtp_url)
        passwords = [found for url in urls if (found := url.partition("://")[2].rpartition("@")[0].partition(":")[2])]
        alone = (self.api_key_pepper, self.operator_token, self.metrics_token)
        return (*self.fernet_keys, *self.signing_key_list, *alone, *passwords, *map(unquote, passwords))

    @property
    def dns_server_list(self) -> tuple[tuple[str, int], ...]:
        """Address and port of each; empty for the system's."""
        pairs = (each.strip().partition("#") for each in self.dns_servers.split(",") if each.strip())
        return tuple((address, int(port or DNS_PORT)) for address, _, port in pairs)

    @property
    def dead_letters(self) -> dict[str, str]:
        """The ARN of the queue for what SNS cannot deliver over HTTPS, by Region."""
        return {arn.split(":")[3]: arn for arn in self.dead_letter_arns}

    @property
    def dead_letter_arns(self) -> list[str]:
        """The same as they were given."""
        return [arn.strip() for arn in self.feedback_dead_letters.split(",") if arn.strip()]

    @property
    def queues(self) -> dict[str, FeedbackQueue]:
        """The queues for feedback by Region; ValueError for what names none."""
        return parse_queues(self.feedback_queues, self.aws_partition, events=False)

    @property
    def queues_of_events(self) -> dict[str, FeedbackQueue]:
        """The queues for events of EventBridge by Region; ValueError for what names none."""
        return parse_queues(self.event_queues, self.aws_partition, events=True)

    @property
    def polled(self) -> tuple[FeedbackQueue, ...]:
        """Every queue that feedback is taken from; ValueError for what names none."""
        return (*self.queues.values(), *self.queues_of_events.values())

    @property
    def allowed(self) -> Quotas:
        """The quotas; ValueError for what names none."""
        return parse_quotas(self.quotas)

    @property
    def direct_url(self) -> str:
        """For connections that keep a role and locks of their own."""
        return self.direct_database_url or self.database_url

    @property
    def owner_database_url(self) -> str:
        """The login that migrations run under."""
        return self.migration_database_url or self.database_url


def describe(name: str) -> str:
    """The meaning of one setting."""
    hint = get_type_hints(Settings, include_extras=True)[name]
    meta = next(item for item in hint.__metadata__ if isinstance(item, msgspec.Meta))
    return str(meta.description)


def table() -> list[tuple[str, str, str]]:
    """(variable, default, meaning) of every setting, required ones first."""
    rows = []
    for field in msgspec.structs.fields(Settings):
        default = "required" if field.required else _show(field.default)
        rows.append((PREFIX + field.name.upper(), default, describe(field.name)))
    return rows


def _show(value: object) -> str:
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}"
    return str(value).lower() if isinstance(value, bool) else str(value)

"""The open points of Amazon SES that nobody here can ask the real service about, each a switch with both values."""

from typing import Literal

import msgspec


class Dialect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the local AWS behaves where the documentation is silent or two sources disagree.

    The defaults are the safer or the more usual value. Times are in seconds.
    """

    missing_policy_status: Literal[200, 404] = 404
    """What UpdateEmailIdentityPolicy and DeleteEmailIdentityPolicy answer for a policy name that does not exist."""

    bare_account_as_root: bool = True
    """A principal stored as `111111111111` is read back as `arn:aws:iam::111111111111:root`, as IAM does it."""

    deleted_principal_as_id: bool = True
    """A stored user or role that is deleted later is read back as its unique id and no longer matches its ARN."""

    stale_reads_seconds: float = 0
    """Reads of identity policies show the state of this long ago (SES calls itself eventually consistent)."""

    null_guard_refused: bool = False
    """A policy with the `Null` condition operator is refused as an invalid policy."""

    role_principal_refused: bool = False
    """A policy that names an IAM role or one of its sessions is refused: SES's pages name accounts, users, services."""

    refused_principal_named: bool = True
    """The refusal of a policy says which principal is invalid; otherwise only that one is."""

    send_bulk_refused: bool = False
    """A policy that lists `ses:SendBulkEmail` is refused: the older pages do not know this action."""

    from_case_sensitive: bool = True
    """`ses:FromAddress` is compared with case, as the pages say of all string conditions."""

    return_path_key_absent: bool = True
    """Without a Return-Path `ses:FeedbackAddress` is missing from the request; otherwise it holds the From address."""

    source_arn_covers_from: bool = False
    """v1 SendRawEmail takes SourceArn for the From header too, as its reference says; users report that it does not."""

    source_key: Literal["SourceAccount", "SourceOwner"] = "SourceAccount"
    """Which `aws:` key holds the identity's account when SES publishes to a topic."""

    identity_topic_silent_for_delegated: bool = False
    """The identity's topics hear nothing of mail that another account sends."""

    clearing_without_forwarding: Literal["refused", "forwards"] = "refused"
    """Clearing a bounce or complaint topic while forwarding is off: refused, or SES turns forwarding on by itself."""

    default_configuration_set_fails_delegated: bool = False
    """A delegate's send without a configuration set fails where the identity has a default one, the owner's."""

    secure_transport: bool = True
    """What `aws:SecureTransport` holds for calls to this server, which are plain HTTP on loopback."""

    rate_limit_per_second: float | None = None
    """Calls per second, account, Region and operation of SES's slow operations; real SES allows 1. Null is no limit."""

    latency_seconds: float = 0
    """How long after it came every AWS call takes effect, as over a network; the answer then comes at once."""

    sns_retry_seconds: float = 20
    """Pause between the three tries that SNS repeats over HTTP; real SNS waits 20 seconds."""

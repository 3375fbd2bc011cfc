"""Recognises AWS's error texts about sending and says what is behind them. Pure."""

import re
from collections.abc import Callable, Iterator

import msgspec

from broker.policies import causes, refused
from broker.policies.causes import About, Cause, Parts

MAX_TEXT = 4_000


class Advice(msgspec.Struct, frozen=True):
    """`kind` is `unknown` for a text that is none of AWS's known ones; `found` is what was read out of the text."""

    kind: str
    summary: str
    found: dict[str, str]
    causes: tuple[Cause, ...]


def explain_error(text: str, about: About | None = None) -> Advice:
    """The causes of an error text, likeliest first; a text that is not known says so."""
    read = text[:MAX_TEXT].strip()
    for kind, pattern, summary, told in _KNOWN:
        if found := pattern.search(read):
            parts = {name: value.strip() for name, value in found.groupdict().items() if value}
            return Advice(kind, summary, parts, tuple(told(parts, about or About())))
    return Advice(
        "unknown",
        "This is none of the error texts of SES that are known here.",
        {},
        (
            Cause(
                "The text may be from another service, a mail library or a newer SES.",
                "Look for the error code and the request id beside it, and pass on the whole text.",
                "Ask POST /v1/simulations whether the send would be allowed.",
            ),
        ),
    )


_Causes = Callable[[Parts, About], Iterator[Cause]]


def _known(kind: str, pattern: str, summary: str, told: _Causes) -> tuple[str, re.Pattern[str], str, _Causes]:
    return kind, re.compile(pattern, re.IGNORECASE | re.DOTALL), summary, told


# In this order: the texts of refusals may hold the words of the more general ones.
_KNOWN = (
    _known(
        "identity_not_verified",
        r"email address is not verified"
        r"(?:.{0,80}failed the check in region (?P<region>[A-Za-z0-9-]+):?\s*(?P<identities>.{0,2000}))?",
        "SES found no verified identity that it could use. It says so for senders and recipients, for a wrong Region "
        "and for an ARN that was not passed, and never which it was.",
        causes.unverified,
    ),
    _known(
        "not_authorized",
        r"(?:user:? [`'\"]?(?P<caller>arn:[^\s`'\"]+)[`'\"]? )?is not authorized to perform:?\s*"
        r"[`'\"]?(?P<action>[a-z0-9-]+:[a-z*]+)[`'\"]?(?: on resource:?\s*[`'\"]?(?P<resource>[^\s`'\"]+))?",
        "SES or IAM refuses the call: a policy denies it, or none on one of the two sides allows it.",
        causes.unauthorized,
    ),
    _known(
        "not_aligned",
        r"(?:address '?(?P<address>[^']{1,320}?)'? )?does not align with the given arn"
        r"(?::? '?(?P<arn>[^\s']+))?",
        "An address and the ARN that was passed with it do not belong together.",
        causes.misaligned,
    ),
    _known(
        "unknown_condition_key",
        r"unknown or unapplicable condition field:? ?['\"]?(?P<key>[^\s'\"]+)?",
        "SES refused to store the policy because of a condition key.",
        refused.unknown_key,
    ),
    _known(
        "invalid_principal",
        r"invalid principal:?\s*['\"]?(?P<principal>[^\s'\"]+)?",
        "SES refused to store the policy because of whom it names.",
        refused.principal,
    ),
    _known(
        "policies_full",
        r"number of policies for (?P<identity>\S{1,320}) exceeds",
        "The identity holds as many policies as SES takes.",
        refused.full,
    ),
    _known(
        "policy_name",
        r"policyname is invalid|policy names must only include",
        "SES refused to store the policy because of its name.",
        refused.name,
    ),
    *(
        _known(
            "configuration_set_missing",
            pattern,
            "SES does not know the configuration set in the sending account.",
            causes.configuration_set,
        )
        for pattern in (
            r"configuration set [`'\"<]?(?P<name>[A-Za-z0-9_-]{1,64})[`'\">]? does not exist",
            "ConfigurationSetDoesNotExist",
        )
    ),
    _known(
        "mail_from_not_verified",
        r"MailFromDomainNotVerified|mail.from domain.{0,80}not verified",
        "SES could not use the identity's MAIL FROM domain.",
        causes.mail_from,
    ),
    _known(
        "sending_paused",
        r"(?:AccountSendingPaused|ConfigurationSetSendingPaused|SendingPaused)|sending (?:is |has been |was )?"
        r"(?:paused|disabled|suspended|shut ?down)|account is (?:paused|suspended|shut ?down)",
        "The sending is paused.",
        causes.paused,
    ),
    _known(
        "throttled",
        r"(?:maximum sending rate|daily message quota|rate) exceeded|sending quota|throttl|TooManyRequests",
        "SES takes no more mail from this account right now.",
        causes.throttled,
    ),
    _known("sandbox", r"\bsandbox\b|production access", "The account is in the SES sandbox.", causes.sandbox),
)

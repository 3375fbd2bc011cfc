"""What is behind an error text of AWS about sending: likely causes in order, each with its fix and a check. Pure."""

import re
from collections.abc import Iterator, Mapping

import msgspec

from broker.policies.arns import IdentityArn, parse_identity_arn, principal_account
from broker.policies.calls import calls_of, term_of
from broker.policies.terms import ACTION_TO_IAM, Terms


class Cause(msgspec.Struct, frozen=True):
    """One thing that gives this error: what it is, what to change, and how to see whether it is this one."""

    sentence: str
    fix: str
    check: str


class About(msgspec.Struct, frozen=True):
    """The grant that the error is about, as far as it is known."""

    identity: IdentityArn | None = None
    terms: Terms | None = None

    @classmethod
    def of(cls, *, identity_arn: str | None = None, terms: Terms | None = None) -> "About":
        """With the identity's ARN read."""
        return cls(parse_identity_arn(identity_arn) if identity_arn else None, terms)


Parts = Mapping[str, str]


def unverified(parts: Parts, about: About) -> Iterator[Cause]:
    """Sender or recipient: SES lists them alike and never says which rule failed (boto3#3873)."""
    region, failed = parts.get("region", "").lower(), _addresses(parts.get("identities", ""))
    identity = about.identity
    if identity and region and region != identity.region:
        yield Cause(
            f"The mail was sent through {region}, and the identity is verified in {identity.region}.",
            f"Send through {identity.region}.",
            "Look at the Region of the client or of the SMTP host.",
        )
    own = [each for each in failed if identity is None or _is_of(each, identity)]
    others = [each for each in failed if each not in own]
    missing = Cause(
        f"The identity's ARN was not passed, so SES looked for {_listed(own) or 'the sender'} in your own account.",
        "Pass every ARN that the call takes; a raw message needs FromArn (or X-SES-FROM-ARN) besides SourceArn.",
        f"Compare the call with the sending kit; the ARN is {identity or 'the one of the policy'}.",
    )
    sandboxed = Cause(
        f"{_listed(others) or 'A recipient'} is not verified, and your account or the owner's is in the SES sandbox.",
        "Ask AWS for production access in this Region, in both accounts; until then send to verified addresses or to "
        "the mailbox simulator.",
        "aws sesv2 get-account --query ProductionAccessEnabled, in either account.",
    )
    yield from (sandboxed, missing) if others and not own else (missing, sandboxed)
    if identity is None or not region:
        yield Cause(
            f"The identity is verified in another Region than {region or 'the one that was used'}.",
            "Send through the Region of the identity's ARN.",
            "Compare the Region in the text with the one in the ARN.",
        )
    yield Cause(
        "The owner's identity is not verified any more, or was deleted.",
        "The owner verifies it again.",
        "The owner looks at the identity (GET /v1/identities).",
    )


def unauthorized(parts: Parts, about: About) -> Iterator[Cause]:
    """Either side's policy."""
    action, resource = parts.get("action", ""), parts.get("resource", "")
    if ":configuration-set/" in resource:
        yield Cause(
            "Your own IAM policy does not allow the send with this configuration set.",
            f"Allow {action} on {resource} in the IAM policy of whoever sends.",
            "Compare that policy with the one of the sending kit; the identity's policy is not the cause.",
        )
        return
    if ":template/" in resource:
        yield Cause(
            "Your own IAM policy does not allow the send with this template.",
            f"Allow {action} on {resource} in the IAM policy of whoever sends.",
            "Compare that policy with the one of the sending kit.",
        )
        return
    yield from _outside_of_terms(parts, about)
    yield Cause(
        "A limit of the identity's policy is not kept: From, its name, Return-Path, recipients, time, IP or TLS.",
        "Send as the terms say; spelling counts, upper and lower case included.",
        "POST /v1/simulations names the condition that failed.",
    )
    yield Cause(
        f"Your own IAM policy does not allow {action} on the owner's identity: across accounts both sides have to.",
        f"Allow {action} on {resource or 'the ARN of the identity'} in the IAM policy of whoever sends.",
        "Compare that policy, its boundary and your organisation's SCPs with the kit's IAM policy.",
    )
    yield Cause(
        "The grant is not applied yet, has ended or was revoked.",
        "Wait until it is active, or agree on a new one.",
        "GET /v1/grants/{id}: its state and its dates.",
    )
    if about.identity is None or resource != str(about.identity):
        yield Cause(
            "The recipient is a verified identity of an account in the sandbox: SES then checks the send on that "
            "identity too (aws-sdk-js#3641).",
            "Leave the sandbox, or allow the action on the recipient's identity as well.",
            "See whether the resource in the text is the recipient and not the sender.",
        )


def _outside_of_terms(parts: Parts, about: About) -> Iterator[Cause]:
    """What can be said for certain, since the terms are known."""
    action, terms = parts.get("action", ""), about.terms
    if terms is None:
        return
    allowed = {name.lower() for each in terms.actions for name in ACTION_TO_IAM[each]}
    if action.lower() not in allowed:
        wanted = term_of(action)
        calls = ", ".join(calls_of(action))
        yield Cause(
            f"The terms do not permit {action}{f', which SES checks for {calls}' if calls else ''}.",
            f"Use another call, or agree on the action {wanted.value}." if wanted else "No grant can permit it.",
            f"The terms permit {', '.join(each.value for each in terms.actions)}.",
        )
    account = re.search(r":(\d{12}):", parts.get("caller", ""))
    if account and account[1] not in {principal_account(each) for each in terms.principals}:
        yield Cause(
            f"Account {account[1]} is none of those that the terms name.",
            "Send with credentials of the agreed account, or amend the principals.",
            "aws sts get-caller-identity, with the credentials that send.",
        )


def misaligned(parts: Parts, about: About) -> Iterator[Cause]:
    """An address beside the ARN of another identity."""
    address, arn = parts.get("address", "the address"), parts.get("arn", "the ARN")
    if "<" in address:
        yield Cause(
            "A display name stands in front of the address, which some calls did not take beside the ARN of a single "
            "address (aws-sdk-js#1146).",
            "Pass the bare address in the parameter, and the name in the From header of a raw message.",
            "Try the same send without the name.",
        )
    yield Cause(
        f"{address} does not belong to the identity of {arn}.",
        "Each ARN has to name the identity of the address beside it: From, and Return-Path by an ARN of its own.",
        "A domain covers its addresses and sub-domains; an address identity only itself, upper and lower case "
        "included.",
    )


def configuration_set(parts: Parts, about: About) -> Iterator[Cause]:
    """A set that is not in the sending account."""
    name = parts.get("name", "")
    yield Cause(
        f"The configuration set {name or 'of the send'} does not exist in the sending account and Region.",
        "Name one of your own; the owner's sets cannot be used.",
        "aws sesv2 list-configuration-sets, in the Region that you send through.",
    )
    yield Cause(
        "The send names none, and the identity's default configuration set exists in the owner's account only.",
        "Name a configuration set of your own in each send, or let the owner remove the default.",
        "The owner looks at default_configuration_set (GET /v1/identities).",
    )


def throttled(parts: Parts, about: About) -> Iterator[Cause]:
    """Rate or quota."""
    yield Cause(
        "More was sent a second than the sending account may.",
        "Send more slowly and try again with growing pauses; ask AWS for a higher rate.",
        "aws sesv2 get-account --query SendQuota, in the sending account.",
    )
    yield Cause(
        "The daily quota of the sending account is used up.",
        "Wait until the 24 hours have passed, or ask AWS for a higher quota.",
        "SentLast24Hours and Max24HourSend of the same answer.",
    )


def sandbox(parts: Parts, about: About) -> Iterator[Cause]:
    """No production access."""
    yield Cause(
        "The account is in the SES sandbox in this Region.",
        "Ask AWS for production access; for delegated sending both accounts need it.",
        "aws sesv2 get-account --query ProductionAccessEnabled, in either account.",
    )


def paused(parts: Parts, about: About) -> Iterator[Cause]:
    """AWS, or the account itself, has stopped sending."""
    yield Cause(
        "AWS or the account itself has paused the sending of the delegate's account in this Region.",
        "Look at the reasons in the SES console (reputation metrics) and answer AWS's case; then enable sending.",
        "aws sesv2 get-account --query '[SendingEnabled,EnforcementStatus]'.",
    )
    yield Cause(
        "The sending of the configuration set is switched off.",
        "Enable it, or use another configuration set.",
        "aws sesv2 get-configuration-set --query SendingOptions.",
    )


def mail_from(parts: Parts, about: About) -> Iterator[Cause]:
    """The identity's own MAIL FROM domain."""
    yield Cause(
        "The MX record of the identity's custom MAIL FROM domain is missing, and the identity refuses mail without it.",
        "The owner puts the MX record back (feedback-smtp.REGION.amazonses.com) or lets SES use its default.",
        "The owner looks at mail_from_status (GET /v1/identities); a simulation looks the record up.",
    )


def _listed(addresses: list[str]) -> str:
    return ", ".join(addresses[:3])


def _addresses(text: str) -> list[str]:
    return re.findall(r"[^\s,<>()\"']+@[^\s,<>()\"']+[A-Za-z0-9]|[a-z0-9-]+(?:\.[a-z0-9-]+)+", text)


def _is_of(address: str, identity: IdentityArn) -> bool:
    if not identity.is_domain:
        return address == identity.name
    domain = address.rpartition("@")[2].lower()
    return domain == identity.domain or domain.endswith(f".{identity.domain}")

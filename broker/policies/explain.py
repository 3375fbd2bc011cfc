"""Puts terms into plain sentences."""

from collections.abc import Iterator, Sequence
from uuid import UUID

from broker.policies.arns import parse_identity_arn
from broker.policies.compile import document, statements
from broker.policies.document import Statement, read
from broker.policies.operators import as_date, as_network
from broker.policies.terms import (
    ACTION_TO_IAM,
    BOUNCE_RATE,
    COMPLAINT_RATE,
    FeedbackKind,
    Terms,
)
from broker.policies.wording import VIEWS, call, counted, kinds, listed, principal, quoted, sentence, when

_ALL_SENDS = tuple(name for names in ACTION_TO_IAM.values() for name in names)


def explain(terms: Terms, *, identity_arn: str) -> list[str]:
    """What the other side may and cannot do under these terms, one sentence each.

    All but the last sentences, on feedback and limits, are read off the compiled statements and not off the terms, so
    they say what SES will do. Terms must have passed `check`.
    """
    text = document(statements(terms, grant_id=UUID(int=0), identity_arn=identity_arn))
    found = read(text).statements
    limited, bare = found[0], found[1:]
    return [
        _who_and_how(limited, bare),
        *_addresses(limited, bare, identity_arn),
        *_window(limited),
        *_network(limited),
        *_never(found),
        *_feedback(terms),
        *_breaker(terms),
    ]


def _who_and_how(statement: Statement, bare: Sequence[Statement]) -> str:
    who = listed([principal(text) for _, text in statement.principals])
    how = listed([call(action) for part in (statement, *bare) for action in part.actions])
    sender = _values(statement, "ses:FromAddress")
    as_whom = f" as {listed(sender, last='or')}" if sender else ""
    return sentence(f"{who} may send with {how}{as_whom}.")


def _addresses(statement: Statement, bare: Sequence[Statement], identity_arn: str) -> Iterator[str]:
    identity = parse_identity_arn(identity_arn)
    senders = _values(statement, "ses:FromAddress")
    if senders:
        yield "They cannot send as any other address; spelling counts, upper and lower case included."
    elif identity.is_domain:
        yield f"They may send as any address of {identity.name} and of its sub-domains."
    else:
        yield f"They may send as {identity.name} and no other address."
    if names := _values(statement, "ses:FromDisplayName"):
        yield f"The From name has to be {listed(quoted(names), last='or')}."
    if paths := _values(statement, "ses:FeedbackAddress"):
        yield f"The Return-Path has to be {listed(paths, last='or')}; a send without one is refused."
    if recipients := _values(statement, "ses:Recipients"):
        yield f"They can send to {listed(recipients, last='or')} only: one other recipient and SES refuses the send."
    if bare:
        yield (
            "SES does not tell a policy the addresses of a SendBulkEmail call: there the address limits rest on "
            "SES checking SendBulkTemplatedEmail as well, which AWS does not document."
        )


def _window(statement: Statement) -> Iterator[str]:
    for condition in statement.conditions:
        moment = as_date(condition.values[0]) if condition.key == "aws:CurrentTime" else None
        if moment is None:
            continue
        if condition.operator == "dategreaterthanequals":
            yield f"They cannot send before {when(moment)}."
        if condition.operator == "datelessthan":
            yield f"They may send until {when(moment)}; from then on SES refuses, even if nobody removes the policy."


def _network(statement: Statement) -> Iterator[str]:
    if blocks := _values(statement, "aws:SourceIp"):
        yield f"They can send from {listed(blocks, last='or')} only."
        networks = [as_network(block) for block in blocks]
        for version in (4, 6):
            if all(network is None or network.version != version for network in networks):
                yield f"Callers that reach SES over IPv{version} are all refused."
    if _values(statement, "aws:SecureTransport"):
        yield "They have to connect to SES over TLS; that says nothing about the way on to recipients."


def _never(found: Sequence[Statement]) -> Iterator[str]:
    allowed = {action.lower() for statement in found for action in statement.actions}
    missing = [call(name) for name in _ALL_SENDS if name.lower() not in allowed]
    if missing:
        yield f"They cannot use {listed(missing, last='or')}."
    if "ses:sendrawemail" not in allowed:
        yield "They cannot send over SMTP, which needs SendRawEmail."
    if allowed <= {name.lower() for name in _ALL_SENDS}:
        yield "They cannot read or change the identity, its DKIM keys or its policies."


def _feedback(terms: Terms) -> Iterator[str]:
    feedback = terms.feedback
    view = VIEWS[feedback.owner_view]
    yield f"The owner hears {kinds(feedback.owner_events)} and sees recipients {view}."
    yield f"The delegate hears {kinds(feedback.delegate_events)} of its own mail."
    yield f"The broker keeps feedback for {counted(feedback.retention_days, 'day')}."


def _breaker(terms: Terms) -> Iterator[str]:
    limits, feedback = terms.limits, terms.feedback
    heard = {*feedback.owner_events, *feedback.delegate_events}
    measured = not heard.isdisjoint({FeedbackKind.send, FeedbackKind.delivery})
    for name, kind, rate in (
        ("bounces", FeedbackKind.bounce, limits.bounce_rate or BOUNCE_RATE),
        ("complaints", FeedbackKind.complaint, limits.complaint_rate or COMPLAINT_RATE),
    ):
        if measured and kind in heard:
            yield f"Sending is suspended when {name} reach {rate * 100:g}%."
        else:
            yield f"Sending is never suspended for {name}: the terms let nobody hear what their rate is made of."
    if limits.sends_per_day is not None:
        yield f"Sending is suspended after {limits.sends_per_day} sends in a day."
    if limits.minimum_sends is not None:
        yield f"Rates count from {counted(limits.minimum_sends, 'send')} in 24 hours on."


def _values(statement: Statement, key: str) -> tuple[str, ...]:
    for condition in statement.conditions:
        if condition.key == key and condition.operator != "null":
            return condition.values
    return ()

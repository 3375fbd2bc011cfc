"""Puts terms, and the difference between two versions of them, into plain sentences."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from uuid import UUID

from broker.policies.arns import parse_identity_arn, plain
from broker.policies.compile import document, statements
from broker.policies.document import Statement, read
from broker.policies.operators import as_date, as_network
from broker.policies.terms import (
    ACTION_TO_IAM,
    BOUNCE_RATE,
    COMPLAINT_RATE,
    FeedbackKind,
    FeedbackTerms,
    Limits,
    Terms,
    View,
)
from broker.policies.wording import call, counted, listed, principal, quoted, sentence, span, when

_ALL_SENDS = tuple(name for names in ACTION_TO_IAM.values() for name in names)
_VIEWS = {View.full: "in full", View.hashed: "as hashes", View.none: "not at all"}


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
    view = _VIEWS[feedback.owner_view]
    yield f"The owner hears {_kinds(feedback.owner_events)} and sees recipients {view}."
    yield f"The delegate hears {_kinds(feedback.delegate_events)} of its own mail."
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


def _kinds(kinds: Sequence[FeedbackKind]) -> str:
    return listed([kind.replace("_", " ") for kind in kinds]) if kinds else "nothing"


def changes(old: Terms, new: Terms) -> list[str]:
    """What is different in the new terms, one short phrase each; empty where they mean the same."""
    return [
        *_changed_list("principal", [plain(text) for text in old.principals], [plain(text) for text in new.principals]),
        *_changed_list("action", old.actions, new.actions),
        *_changed_limit("sender", "From", old.from_addresses, new.from_addresses),
        *_changed_limit("From name", "From name", old.from_display_names, new.from_display_names),
        *_changed_limit("Return-Path", "Return-Path", old.feedback_addresses, new.feedback_addresses),
        *_changed_limit("recipient", "recipient", old.recipients, new.recipients),
        *_changed_limit("IP block", "IP", old.source_ips, new.source_ips),
        *_changed_flag("TLS to SES", old.require_tls_to_ses, new.require_tls_to_ses),
        *_changed_window(old, new),
        *_changed_feedback(old.feedback, new.feedback),
        *_changed_breaker(old.limits, new.limits),
        *_changed_bulk(old, new),
    ]


def _changed_list(noun: str, old: Iterable[str], new: Iterable[str]) -> Iterator[str]:
    before, after = list(dict.fromkeys(old)), list(dict.fromkeys(new))
    if added := [item for item in after if item not in before]:
        yield f"adds {counted(len(added), noun)}: {listed(added)}"
    if dropped := [item for item in before if item not in after]:
        yield f"drops {counted(len(dropped), noun)}: {listed(dropped)}"


def _changed_limit(noun: str, limit: str, old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    """A list that limits nothing while it is empty: filling it narrows, emptying it widens."""
    if old and not new:
        yield f"drops the {limit} limit"
    elif new and not old:
        yield f"limits the {limit} to {listed(new, last='or')}"
    else:
        yield from _changed_list(noun, old, new)


def _changed_flag(what: str, old: object, new: object) -> Iterator[str]:
    if bool(old) != bool(new):
        yield f"requires {what}" if new else f"no longer requires {what}"


def _changed_window(old: Terms, new: Terms) -> Iterator[str]:
    if old.not_before != new.not_before:
        if new.not_before is None:
            yield "begins at once"
        elif old.not_before is None:
            yield f"begins only on {when(new.not_before)}"
        else:
            yield f"begins {_shift(old.not_before, new.not_before)}"
    if old.expires_at != new.expires_at:
        yield f"ends {_shift(old.expires_at, new.expires_at)}"


def _shift(old: datetime, new: datetime) -> str:
    return f"{span(abs(new - old))} {'later' if new > old else 'earlier'}"


def _changed_feedback(old: FeedbackTerms, new: FeedbackTerms) -> Iterator[str]:
    for party, before, after in (
        ("owner", old.owner_events, new.owner_events),
        ("delegate", old.delegate_events, new.delegate_events),
    ):
        if set(before) != set(after):
            yield f"the {party} hears {_kinds(after)} instead of {_kinds(before)}"
    if old.owner_view is not new.owner_view:
        yield f"the owner sees recipients {_VIEWS[new.owner_view]} instead of {_VIEWS[old.owner_view]}"
    if old.retention_days != new.retention_days:
        yield f"keeps feedback {counted(new.retention_days, 'day')} instead of {old.retention_days}"
    for field, was, becomes in (
        ("purpose", old.purpose, new.purpose),
        ("controller", old.controller, new.controller),
        ("processor", old.processor, new.processor),
    ):
        if was != becomes:
            yield f'changes the {field} from "{was}" to "{becomes}"'


def _changed_breaker(old: Limits, new: Limits) -> Iterator[str]:
    for name, before, after in (
        ("bounce rate", old.bounce_rate, new.bounce_rate),
        ("complaint rate", old.complaint_rate, new.complaint_rate),
        ("sends per day", old.sends_per_day, new.sends_per_day),
        ("sends that rates are taken of", old.minimum_sends, new.minimum_sends),
    ):
        if before != after:
            yield f"drops the limit on {name}" if after is None else f"sets the limit on {name} to {after:g}"


def _changed_bulk(old: Terms, new: Terms) -> Iterator[str]:
    if old.accept_unlimited_bulk != new.accept_unlimited_bulk:
        yield (
            "accepts bulk sends that address limits do not reach"
            if new.accept_unlimited_bulk
            else ("no longer accepts bulk sends that address limits do not reach")
        )

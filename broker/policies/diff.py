"""Says what is different between two versions of terms, by what they mean."""

from collections.abc import Iterator, Sequence

from broker.policies.arns import plain
from broker.policies.changes import (
    Change,
    Effect,
    changed_limit,
    changed_list,
    in_blocks,
    in_patterns,
    in_principals,
    in_texts,
)
from broker.policies.compile import first_second
from broker.policies.terms import BOUNCE_RATE, COMPLAINT_RATE, MINIMUM_SENDS, FeedbackTerms, Limits, Terms
from broker.policies.wording import VIEWS, counted, kinds, shift, when


def diff(old: Terms, new: Terms) -> list[Change]:
    """What is different in the new terms, one phrase each with its effect; empty where both mean the same.

    The effect is on what may be sent; who hears of it, and what is on record, widens and narrows nothing. Terms must
    have passed `check`.
    """
    return [
        *changed_list("principal", _plain(old.principals), _plain(new.principals), in_principals),
        *changed_list("action", old.actions, new.actions, in_texts),
        *changed_limit("sender", old.from_addresses, new.from_addresses, in_patterns, limit="From"),
        *changed_limit("From name", old.from_display_names, new.from_display_names, in_patterns, limit="From name"),
        *changed_limit("Return-Path", old.feedback_addresses, new.feedback_addresses, in_patterns, limit="Return-Path"),
        *changed_limit("recipient", old.recipients, new.recipients, in_patterns, limit="recipient"),
        *changed_limit("IP block", old.source_ips, new.source_ips, in_blocks, limit="IP"),
        *_tls(old, new),
        *_window(old, new),
        *_feedback(old.feedback, new.feedback),
        *_breaker(old.limits, new.limits),
        *_bulk(old, new),
    ]


def _plain(principals: Sequence[str]) -> list[str]:
    return [plain(text) for text in principals]


def _tls(old: Terms, new: Terms) -> Iterator[Change]:
    if new.require_tls_to_ses and not old.require_tls_to_ses:
        yield Change("requires TLS to SES", Effect.narrows)
    if old.require_tls_to_ses and not new.require_tls_to_ses:
        yield Change("no longer requires TLS to SES", Effect.widens)


def _window(old: Terms, new: Terms) -> Iterator[Change]:
    # As the policy writes them, in whole seconds: a difference that it does not show is none.
    before, after = (each.not_before and first_second(each.not_before) for each in (old, new))
    if before != after:
        if after is None:
            yield Change("begins at once", Effect.widens)
        elif before is None:
            yield Change(f"begins only on {when(after)}", Effect.narrows)
        else:
            yield Change(f"begins {shift(before, after)}", Effect.narrows if after > before else Effect.widens)
    ended, ends = (each.expires_at.replace(microsecond=0) for each in (old, new))
    if ended != ends:
        yield Change(f"ends {shift(ended, ends)}", Effect.widens if ends > ended else Effect.narrows)


def _feedback(old: FeedbackTerms, new: FeedbackTerms) -> Iterator[Change]:
    for party, before, after in (
        ("owner", old.owner_events, new.owner_events),
        ("delegate", old.delegate_events, new.delegate_events),
    ):
        if set(before) != set(after):
            yield Change(f"the {party} hears {kinds(after)} instead of {kinds(before)}", Effect.neither)
    if old.owner_view is not new.owner_view:
        sees = f"the owner sees recipients {VIEWS[new.owner_view]} instead of {VIEWS[old.owner_view]}"
        yield Change(sees, Effect.neither)
    if old.retention_days != new.retention_days:
        kept = f"keeps feedback {counted(new.retention_days, 'day')} instead of {old.retention_days}"
        yield Change(kept, Effect.neither)
    for field, was, becomes in (
        ("purpose", old.purpose, new.purpose),
        ("controller", old.controller, new.controller),
        ("processor", old.processor, new.processor),
    ):
        if was != becomes:
            yield Change(f'changes the {field} from "{was}" to "{becomes}"', Effect.neither)


def _breaker(old: Limits, new: Limits) -> Iterator[Change]:
    """What suspends sending; a rate that the terms leave open has a default, and a higher limit permits more."""
    for name, before, after, default in (
        ("bounce rate", old.bounce_rate, new.bounce_rate, BOUNCE_RATE),
        ("complaint rate", old.complaint_rate, new.complaint_rate, COMPLAINT_RATE),
        ("sends per day", old.sends_per_day, new.sends_per_day, None),
        ("sends that rates are taken of", old.minimum_sends, new.minimum_sends, MINIMUM_SENDS),
    ):
        was, becomes = before or default, after or default
        if was == becomes:
            continue
        if becomes is None:
            yield Change(f"drops the limit on {name}", Effect.widens)
        else:
            effect = Effect.narrows if was is None or becomes < was else Effect.widens
            yield Change(f"sets the limit on {name} to {becomes:g}", effect)


def _bulk(old: Terms, new: Terms) -> Iterator[Change]:
    """The owner's word alone: what it permits shows where send_bulk is added."""
    if old.accept_unlimited_bulk != new.accept_unlimited_bulk:
        accepts = "accepts" if new.accept_unlimited_bulk else "no longer accepts"
        yield Change(f"{accepts} bulk sends that address limits do not reach", Effect.neither)

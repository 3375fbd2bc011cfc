"""Derives the terms of a grant that means the same as a policy that somebody else wrote, or says why none does."""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from broker.policies import adopt_reasons
from broker.policies.adopt_reasons import SOURCE_IP, TLS
from broker.policies.arns import parse_identity_arn, plain
from broker.policies.cells import EVER, RECIPIENTS, Cell, Cells, cells, is_within
from broker.policies.check import check
from broker.policies.compile import BULK, document, first_second, statements
from broker.policies.document import Document, DocumentError, Statement, read_any
from broker.policies.lint_what import ADDRESS_KEYS
from broker.policies.operators import NULL, as_network
from broker.policies.terms import ACTION_TO_IAM, Action, Terms
from broker.policies.wording import listed, when

Policy = str | Mapping[str, object] | Document
_NO_GRANT = UUID(int=0)
NO_END = "The policy has no end, and a grant always has one: give expires_at, which narrows it to that time."
_OTHER_MEANING = "No terms mean exactly the same as this policy."


class Adoption(msgspec.Struct, frozen=True):
    """Terms of the same meaning, or the reasons why there are none.

    `narrows` says where the terms permit less than the policy; they never permit more.
    """

    terms: Terms | None
    reasons: tuple[str, ...]
    narrows: tuple[str, ...]


def adopt(policy: Policy, *, identity_arn: str, now: datetime, expires_at: datetime | None = None) -> Adoption:
    """The terms whose policy permits the same sends as this one on this identity, until `expires_at` if given.

    What they compile to was compared with the policy, principal by principal and action by action: it is the same but
    for what `narrows` says. ValueError where `identity_arn` is none.
    """
    parse_identity_arn(identity_arn)
    try:
        read = read_any(policy)
    except DocumentError as error:
        return _refused([str(error)])
    against = [why for each in read.statements for why in adopt_reasons.reasons(each, identity_arn)]
    if against:
        return _refused(against)
    wanted = cells(read)
    against = [*_uneven(wanted), *_unpaired(wanted)]
    if against:
        return _refused(against)
    (window,) = {(cell.since, cell.until) for found in wanted.values() for cell in found}
    ends = _end(window[1], expires_at)
    if isinstance(ends, str):
        return _refused([ends])
    alive = [each for each in read.statements if cells(msgspec.structs.replace(read, statements=(each,)))]
    terms = _terms(alive, wanted, begins=window[0], ends=ends)
    flaws = check(terms, identity_arn=identity_arn, now=now)
    if flaws:
        return _refused([flaw.detail for flaw in flaws])
    if not is_within(_compiled(terms, identity_arn), wanted):
        return _refused([_OTHER_MEANING])
    return Adoption(terms, (), tuple(_narrowed(terms, wanted, window)))


def _refused(reasons: Iterable[str]) -> Adoption:
    return Adoption(None, tuple(dict.fromkeys(reasons)), ())


def _compiled(terms: Terms, identity_arn: str) -> Cells:
    return cells(read_any(document(statements(terms, grant_id=_NO_GRANT, identity_arn=identity_arn))))


def _uneven(wanted: Cells) -> Iterator[str]:
    """Terms have one list of principals, one of actions and one set of limits, which holds for all of them."""
    if not wanted:
        yield "The policy permits nothing: its statements never apply."
        return
    people, actions = {who for who, _ in wanted}, {action for _, action in wanted}
    if len(wanted) != len(people) * len(actions):
        yield "The policy lets some principals use other actions than others; terms give all of them the same."
    several = {cell for found in wanted.values() for cell in found}
    if any(len(found) > 1 for found in wanted.values()) or len({(cell.since, cell.until) for cell in several}) > 1:
        yield "The policy has statements of different limits or times; terms have one set of limits."
        return
    limits = {cell.needs for (_, action), found in wanted.items() if action != BULK.lower() for cell in found}
    bulk = {_apart(cell) for (_, action), found in wanted.items() if action == BULK.lower() for cell in found}
    if len(limits) > 1 or (limits and bulk and bulk != {_apart_needs(each) for each in limits}):
        yield "The policy has statements of different limits or times; terms have one set of limits."


def _apart(cell: Cell) -> frozenset[object]:
    return _apart_needs(cell.needs)


def _apart_needs(needs: Iterable[tuple[str, str, bool, str, frozenset[str]]]) -> frozenset[object]:
    """The limits without those on addresses, which SendBulkEmail does not have."""
    return frozenset(need for need in needs if need[3] not in ADDRESS_KEYS)


def _unpaired(wanted: Cells) -> Iterator[str]:
    """`send_bulk` is two actions, of which terms do not give one alone."""
    actions = {action for _, action in wanted}
    pair = [name.lower() for name in ACTION_TO_IAM[Action.send_bulk]]
    there = [name for name in ACTION_TO_IAM[Action.send_bulk] if name.lower() in actions]
    if actions and len(there) == 1:
        other = next(name for name in ACTION_TO_IAM[Action.send_bulk] if name not in there)
        yield (
            f"The policy permits {there[0]} and not {other}, or only under limits on addresses that never hold there; "
            f"terms have send_bulk, which is {listed(pair)}."
        )


def _end(until: datetime, wanted: datetime | None) -> datetime | str:
    """When the terms end, or the sentence against it."""
    if wanted is not None and wanted.utcoffset() is None:
        return "expires_at has no offset; write it like 2030-01-31T12:00:00Z."
    if wanted is not None and wanted > until:
        return f"The policy ends on {when(until)}; a grant of the same meaning cannot end later."
    if wanted is None and until == EVER[1]:
        return NO_END
    return wanted if wanted is not None else until.replace(microsecond=0)


def _terms(found: Sequence[Statement], wanted: Cells, *, begins: datetime, ends: datetime) -> Terms:
    actions = {action for _, action in wanted}
    chosen = tuple(each for each in Action if all(name.lower() in actions for name in ACTION_TO_IAM[each]))
    terms = Terms(
        principals=_principals(found),
        actions=chosen,
        from_addresses=_values(found, "ses:fromaddress"),
        from_display_names=_values(found, "ses:fromdisplayname"),
        feedback_addresses=_values(found, "ses:feedbackaddress"),
        recipients=_values(found, RECIPIENTS),
        source_ips=tuple(_blocks(_values(found, SOURCE_IP))),
        require_tls_to_ses=bool(_values(found, TLS)),
        not_before=None if begins == EVER[0] else first_second(begins),
        expires_at=ends,
    )
    if Action.send_bulk in chosen and terms.limits_addresses:
        terms = msgspec.structs.replace(terms, accept_unlimited_bulk=True)  # as the policy does
    return terms


def _principals(found: Sequence[Statement]) -> tuple[str, ...]:
    """Each principal once, as the policy writes it first."""
    named: dict[str, str] = {}
    for statement in found:
        for _, text in statement.principals:
            named.setdefault(plain(text), text)
    return tuple(named.values())


def _values(found: Sequence[Statement], key: str) -> tuple[str, ...]:
    """The values of the limit on this key, which is the same wherever it stands."""
    for statement in found:
        for each in statement.conditions:
            if each.key.lower() == key and each.operator != NULL:
                return tuple(dict.fromkeys(each.values))
    return ()


def _blocks(texts: Iterable[str]) -> Iterator[str]:
    """Each block once, as CIDR has it: without bits behind the mask, and IPv4 as IPv4."""
    seen = set()
    for text in texts:
        network = as_network(text)
        if network is None or network in seen:
            continue
        seen.add(network)
        yield text if _is_canonical(text) else str(network)


def _is_canonical(text: str) -> bool:
    try:
        return ipaddress.ip_network(text) == as_network(text)
    except ValueError:
        return False


def _narrowed(terms: Terms, wanted: Cells, window: tuple[datetime, datetime]) -> Iterator[str]:
    since, until = window
    if until == EVER[1]:
        yield f"The policy has no end; the grant ends on {when(terms.expires_at)}."
    elif terms.expires_at < until:
        yield f"The policy ends on {when(until)}, or with that second; the grant ends on {when(terms.expires_at)}."
    if terms.not_before is not None and terms.not_before > since:
        yield f"The grant begins with the next whole second, on {when(terms.not_before)}."
    if terms.recipients and not all(cell.guarded for cell in _limited(wanted)):
        yield "The policy lets requests without any recipient pass; the grant does not (SES sends none anyway)."


def _limited(wanted: Cells) -> Iterator[Cell]:
    for found in wanted.values():
        yield from (cell for cell in found if any(need[3] == RECIPIENTS for need in cell.needs))

"""Says who may send by policies that other people wrote: every account, user, role and service, and until when."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import msgspec

from broker.policies.arns import ANYBODY, parse_principal, plain
from broker.policies.cells import asks_for_key, bound_of, conditions_of
from broker.policies.document import DocumentError, Statement, read
from broker.policies.evaluate import names_action, names_resource
from broker.policies.example import by_key
from broker.policies.findings import present
from broker.policies.lint_refused import UNIQUE_ID
from broker.policies.lint_what import SENDING
from broker.policies.operators import NULL
from broker.policies.phrases import people, phrase
from broker.policies.residual import still_allowed
from broker.policies.witness import contradictory, open_until

MOST_COMPARED = 100  # principals that are compared with the Denies; of more all are named
_CLOCKS = ("aws:currenttime", "aws:epochtime")
_ENDS = ("datelessthan", "datelessthanequals")
_SPELT = ("stringequals", "stringlike", "stringequalsignorecase")


class Sender(msgspec.Struct, frozen=True):
    """Somebody who may send, and how.

    `principal` is as the policy names it, an account as its bare id; `*` is anybody. `kind` is account, user, role,
    session, federated, service, deleted, anybody or unknown. `from_addresses`: the From that is permitted, empty for
    any address. `conditions` are all limits in words. `ends_at` is None where there is no end. `policies` are the
    names of those that permit it.
    """

    principal: str
    kind: str
    account_id: str | None
    actions: tuple[str, ...]
    from_addresses: tuple[str, ...]
    conditions: tuple[str, ...]
    ends_at: datetime | None
    policies: tuple[str, ...]


def senders(policies: Mapping[str, str], *, identity_arn: str, now: datetime) -> list[Sender]:
    """Everybody whom a statement of these foreign policies lets send now or later, one entry a statement.

    What never applies, has ended, or is denied without condition by one of the policies is left out. Where that cannot
    be told, the sender is named. A policy that cannot be read, SES does not hold; it names nobody.
    """
    shut = _Shut(policies, identity_arn, now)
    found = []
    for name, statement in _allows(policies, identity_arn, now):
        for kind, text in _principals(statement):
            sender = _sender(name, statement, kind, text)
            if sender.actions and not (kind == "AWS" and shut.out(text, name)):
                found.append(sender)
    return found


class _Shut:
    """Which principals a Deny without condition keeps from sending by which policies."""

    def __init__(self, policies: Mapping[str, str], identity_arn: str, now: datetime) -> None:
        self._policies = policies
        self._identity_arn = identity_arn
        self._now = now
        self._open: dict[str, list[str]] = {}
        self._denies = any(map(_has_deny, policies.values()))

    def out(self, principal: str, policy: str) -> bool:
        if not self._denies or (principal not in self._open and len(self._open) >= MOST_COMPARED):
            return False
        if principal not in self._open:
            self._open[principal] = still_allowed(
                self._policies,
                principals=[principal],
                actions=SENDING,
                identity_arn=self._identity_arn,
                now=self._now,
            )
        return policy not in self._open[principal]


def _has_deny(text: str) -> bool:
    try:
        return not all(each.allow for each in read(text).statements)
    except DocumentError:
        return False


def together(found: Sequence[Sender]) -> list[Sender]:
    """One entry for each principal: what it may do by all policies."""
    by_principal: dict[str, list[Sender]] = {}
    for each in found:
        by_principal.setdefault(each.principal, []).append(each)
    return [_merged(several) for _, several in sorted(by_principal.items())]


def _merged(several: Sequence[Sender]) -> Sender:
    ends = [each.ends_at for each in several if each.ends_at is not None]
    anywhere = any(not each.from_addresses for each in several)
    return msgspec.structs.replace(
        several[0],
        actions=tuple(name for name in SENDING if any(name in each.actions for each in several)),
        from_addresses=() if anywhere else _once(several, "from_addresses"),
        conditions=several[0].conditions if len(several) == 1 else (),
        ends_at=max(ends) if len(ends) == len(several) else None,
        policies=_once(several, "policies"),
    )


def _once(several: Sequence[Sender], field: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for each in several for text in getattr(each, field)))


def _allows(policies: Mapping[str, str], identity_arn: str, now: datetime) -> Iterator[tuple[str, Statement]]:
    """The statements that ever permit anything from now on, with the names of their policies."""
    for name, text in policies.items():
        try:
            statements = read(text).statements
        except DocumentError:
            continue
        for each in statements:
            if each.allow and names_resource(each, identity_arn) and _applies(each, now):
                yield name, each


def _applies(statement: Statement, now: datetime) -> bool:
    if any(map(contradictory, by_key(statement).values())):
        return False
    clocks = [each for each in statement.conditions if each.key.lower() in _CLOCKS and each.operator.startswith("date")]
    return not clocks or open_until(clocks, now)[1]


def _principals(statement: Statement) -> Iterator[tuple[str, str]]:
    if statement.not_principal:
        yield "AWS", ANYBODY
    else:
        yield from dict.fromkeys((kind, plain(text)) for kind, text in statement.principals)


def _sender(policy: str, statement: Statement, kind: str, text: str) -> Sender:
    actions = [name for name in SENDING if names_action(statement, name) and conditions_of(statement, name) is not None]
    limits = [phrase(each, present=present(statement, each.key)) for each in statement.conditions]
    excepted = [f"the caller is {people(statement)}"] if statement.not_principal else []
    what, account = _kind(kind, text)
    return Sender(
        text, what, account, tuple(actions), _from(statement), (*excepted, *limits), _ends(statement), (policy,)
    )


def _kind(kind: str, text: str) -> tuple[str, str | None]:
    if kind != "AWS":
        return kind.lower(), None
    if text == ANYBODY:
        return "anybody", None
    if UNIQUE_ID.fullmatch(text):
        return "deleted", None
    try:
        principal = parse_principal(text)
    except ValueError:
        return "unknown", None
    return principal.kind, principal.account_id


def _from(statement: Statement) -> tuple[str, ...]:
    """The values of the one condition that names every permitted From; several may only narrow each other."""
    for each in statement.conditions:
        spelt = each.key.lower() == "ses:fromaddress" and each.operator in _SPELT and each.operator != NULL
        if spelt and (asks_for_key(each) or present(statement, each.key)):
            return each.values
    return ()


def _ends(statement: Statement) -> datetime | None:
    ends = [
        moment for each in statement.conditions if each.operator in _ENDS and (moment := bound_of(each)) is not None
    ]
    return min(ends).replace(microsecond=0) if ends else None

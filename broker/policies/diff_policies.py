"""Says what is different between two sets of policies of an identity, statement by statement, by what they mean."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import msgspec

from broker.policies.arns import plain
from broker.policies.changes import (
    Change,
    Effect,
    Inside,
    changed_list,
    in_blocks,
    in_patterns,
    in_principals,
    in_texts,
)
from broker.policies.document import Condition, Document, Statement, read_any
from broker.policies.findings import is_negated
from broker.policies.operators import NULL, as_date
from broker.policies.wording import shift, when

Policy = str | Mapping[str, object] | Document
Slot = tuple[str, str, bool, str]  # operator, set prefix, IfExists, key: conditions that differ in their values only

_WIDER_LATER = {"datelessthan", "datelessthanequals"}
_WIDER_EARLIER = {"dategreaterthan", "dategreaterthanequals"}
_NOUNS = {
    "ses:fromaddress": "sender",
    "ses:fromdisplayname": "From name",
    "ses:feedbackaddress": "Return-Path",
    "ses:recipients": "recipient",
    "aws:sourceip": "IP block",
}


class Changed(msgspec.Struct, frozen=True):
    """One change of one statement; `statement` is its Sid or place in the new set, of a removed one in the old."""

    statement: str
    text: str
    effect: Effect


def diff_policies(old: Sequence[Policy], new: Sequence[Policy]) -> list[Changed]:
    """What is different in the new set, one phrase each with its effect; empty where each statement means the same.

    Statements are compared with the one of the same Sid, else with the one that is most like them. The effects are
    certain: with nothing but `widens` all sends that were allowed still are, with nothing but `narrows` no other one
    is. What is written in another way may be told as a change that it is not. DocumentError for a policy that cannot
    be read.
    """
    before, after = _statements(old), _statements(new)
    pairs, dropped, added = _paired(before, after)
    return [
        *(Changed(new.label, each.text, each.effect) for old, new in pairs for each in _compared(old, new)),
        *(Changed(each.label, _whole("drops", each), _effect(each).opposite) for each in dropped),
        *(Changed(each.label, _whole("adds", each), _effect(each)) for each in added),
    ]


def _statements(policies: Sequence[Policy]) -> list[Statement]:
    found = []
    for policy in policies:
        document = read_any(policy)
        for statement in document.statements:
            # Without variables `${` is ordinary text: two versions of the language are two meanings of it.
            mark = "" if document.has_variables or "${" not in str(policy) else f"{document.version} "
            found.append(msgspec.structs.replace(statement, sid=f"{mark}{statement.label}"))
    return found


def _effect(statement: Statement) -> Effect:
    return Effect.widens if statement.allow else Effect.narrows


def _whole(verb: str, statement: Statement) -> str:
    return f"{verb} {'the Allow' if statement.allow else 'the Deny'} {statement.label}"


def _paired(
    old: Sequence[Statement], new: Sequence[Statement]
) -> tuple[list[tuple[Statement, Statement]], list[Statement], list[Statement]]:
    """Pairs of the same meaning first, then by Sid, then by likeness; and what is left of the old and of the new."""
    left, right = list(old), list(new)
    pairs = []
    for fits in (_same, _same_sid, _alike):
        for one in list(left):
            other = next((each for each in right if fits(one, each)), None)
            if other is not None:
                pairs.append((one, other))
                left.remove(one)
                right.remove(other)
    return pairs, left, right


def _same(one: Statement, other: Statement) -> bool:
    return _flags(one) == _flags(other) and not _compared(one, other)


def _same_sid(one: Statement, other: Statement) -> bool:
    return one.sid == other.sid and _flags(one) == _flags(other)


def _alike(one: Statement, other: Statement) -> bool:
    shared = {plain(text) for _, text in one.principals} & {plain(text) for _, text in other.principals}
    return bool(shared) and _flags(one) == _flags(other)


def _flags(statement: Statement) -> tuple[bool, ...]:
    return (statement.allow, statement.not_principal, statement.not_action, statement.not_resource)


def _compared(old: Statement, new: Statement) -> list[Change]:
    """The differences of two statements with the same flags; those of a Deny, and in a NotAction, turned round."""
    changes = [
        *_turned(
            changed_list("principal", _named(old), _named(new), in_principals if not old.not_principal else in_texts),
            turn=old.not_principal,
        ),
        *_turned(changed_list("action", _actions(old), _actions(new), in_patterns), turn=old.not_action),
        *_turned(changed_list("resource", old.resources, new.resources, in_texts), turn=old.not_resource),
        *_conditions(old, new),
    ]
    return list(_turned(changes, turn=not old.allow))


def _turned(changes: Iterator[Change] | Sequence[Change], *, turn: bool) -> Iterator[Change]:
    for change in changes:
        yield Change(change.text, change.effect.opposite) if turn else change


def _named(statement: Statement) -> list[str]:
    return [plain(text) if kind == "AWS" else f"{kind} {text}" for kind, text in statement.principals]


def _actions(statement: Statement) -> list[str]:
    return [action.lower() for action in statement.actions]


def _conditions(old: Statement, new: Statement) -> Iterator[Change]:
    before, after = _slots(old), _slots(new)
    for slot, condition in before.items():
        if slot not in after:
            yield Change(f"drops the condition {_written(condition)}", Effect.widens)
        else:
            yield from _values(condition, after[slot])
    for slot, condition in after.items():
        if slot not in before:
            yield Change(f"adds the condition {_written(condition)}", Effect.narrows)


def _slots(statement: Statement) -> dict[Slot, Condition]:
    found: dict[Slot, Condition] = {}
    for each in statement.conditions:
        slot = _slot(each)
        while slot in found:  # the operator is there twice, in two spellings: both have to hold
            slot = (f"{slot[0]}, too", *slot[1:])
        found[slot] = each
    return found


def _slot(condition: Condition) -> Slot:
    # Without a wildcard StringLike is StringEquals: both compare letter for letter.
    operator = condition.operator
    exact = not any({"*", "?"} & set(value) for value in condition.values)
    if exact and operator in ("stringlike", "stringnotlike"):
        operator = operator.replace("like", "equals")
    return operator, condition.over, condition.if_exists, condition.key.lower()


def _written(condition: Condition) -> str:
    return f"{condition.written} {condition.key} {', '.join(condition.values)}"


def _values(old: Condition, new: Condition) -> Iterator[Change]:
    if old.operator in _WIDER_LATER | _WIDER_EARLIER:
        yield from _dates(old, new)
        return
    noun = _NOUNS.get(old.key.lower(), f"value of {old.key}")
    changes = changed_list(noun, old.values, new.values, _inside(old))
    if old.operator == NULL or any("${" in value for value in (*old.values, *new.values)):
        changes = (Change(change.text, Effect.alters) for change in changes)
    yield from _turned(changes, turn=is_negated(old))


def _inside(condition: Condition) -> Inside:
    if "like" in condition.operator and not condition.operator.startswith("arn"):
        return in_patterns
    return in_blocks if condition.operator.endswith("ipaddress") else in_texts


def _dates(old: Condition, new: Condition) -> Iterator[Change]:
    """Several bounds are an OR, so that the most generous one counts."""
    before, after = _bound(old), _bound(new)
    if before == after:
        return
    word = "ends" if old.operator in _WIDER_LATER else "begins"
    if before is None or after is None:
        yield Change(f"{word} {'never' if after is None else when(after)}", Effect.alters)
        return
    effect = Effect.widens if (after > before) == (word == "ends") else Effect.narrows
    yield Change(f"{word} {shift(before, after)}", effect)


def _bound(condition: Condition) -> datetime | None:
    dates = [date for value in condition.values if (date := as_date(value)) is not None]
    if not dates:
        return None
    return max(dates) if condition.operator in _WIDER_LATER else min(dates)

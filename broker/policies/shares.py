"""What of an identity's policies belongs to which grant, where several grants share one."""

import json
from collections.abc import Collection, Mapping
from uuid import UUID

import msgspec

from broker.policies.arns import plain
from broker.policies.compile import Statement, document, grant_of
from broker.policies.normal import Form, parts
from broker.policies.plan import is_ours, parse_name


class Tenancy(msgspec.Struct, frozen=True):
    """One grant and its slot. `living`: its policy may stay. `unproven`: it ended, and no read was without it yet."""

    id: UUID
    slot: int
    living: bool
    unproven: bool = False


def holds(observed: Mapping[str, str], grant_id: UUID, forms: Collection[Form]) -> bool:
    """Whether a policy of ours says of this grant exactly what these forms say."""
    wanted = frozenset(forms)
    return any(is_ours(name) and parts(text).get(grant_id) == wanted for name, text in observed.items())


def says_more(observed: Mapping[str, str], grant_id: UUID, slot: int, forms: Collection[Form]) -> bool:
    """Whether a policy of ours says of this grant anything but these forms, or of no grant at all in its slot."""
    wanted = frozenset(forms)
    for name, text in observed.items():
        if not is_ours(name):
            continue
        found = parts(text)
        in_slot = (parsed := parse_name(name)) is not None and parsed.slot == slot
        if found.get(grant_id, wanted) != wanted or (in_slot and None in found):
            return True
    return False


def shows(observed: Mapping[str, str], grant_id: UUID, slot: int, *, alone: bool) -> bool:
    """Whether anything of this grant is there.

    Its own statements, in whatever policy of ours; a statement of no grant at all in its slot, since somebody may have
    made it out of this one; and anything in its slot where no other living grant is (`alone`).
    """
    for name, text in observed.items():
        if not is_ours(name):
            continue
        found = parts(text)
        in_slot = (parsed := parse_name(name)) is not None and parsed.slot == slot
        if grant_id in found or (in_slot and (alone or None in found)):
            return True
    return False


def is_alone(grants: Collection[Tenancy], grant_id: UUID, slot: int) -> bool:
    """Whether no other living grant has this slot."""
    return not any(each.living and each.slot == slot and each.id != grant_id for each in grants)


def going(
    shown: Mapping[str, str], lately: Mapping[str, str], grants: Collection[Tenancy]
) -> tuple[tuple[str, ...], Mapping[str, frozenset[UUID]]]:
    """Names that hold nothing but what has ended; and names that hold other grants, too, with those that have ended.

    Of what the last read showed, and of what we wrote of late, until the first read without anything: a grant may end
    or be suspended before SES shows its policy, and two reads without it would then prove nothing.
    """
    ended = {each.id: each.unproven for each in grants if not each.living}
    living = {each.id for each in grants if each.living}
    slots = {each.slot for each in grants if each.living}
    doomed: list[str] = []
    tainted: dict[str, frozenset[UUID]] = {}
    for name, text in {**lately, **shown}.items():
        if (parsed := parse_name(name)) is None or parsed.is_deny:
            continue
        found = set(parts(text))
        mine = {each.id for each in grants if each.id in ended and (each.id in found or each.slot == parsed.slot)}
        if parsed.slot in slots:
            mine &= found
        if not mine or not (name in shown or any(ended[each] for each in mine)):
            continue
        if found & living or (None in found and parsed.slot in slots):
            tainted[name] = frozenset(mine)
        else:
            doomed.append(name)
    return tuple(sorted(doomed, key=lambda name: (name not in shown, name))), tainted


def statements_in(observed: Mapping[str, str], grant_id: UUID) -> tuple[Statement, ...]:
    """This grant's statements as a policy of ours has them now; of the newest that has any."""
    names = [name for name, text in observed.items() if parse_name(name) and grant_id in parts(text)]
    if not names:
        return ()
    newest = max(names, key=lambda name: parse_name(name) or (0, 0))
    return tuple(each for each in _statements(observed[newest]) if grant_of(str(each.get("Sid", ""))) == grant_id)


def without(text: str, grants: Collection[UUID]) -> str:
    """The document without the statements of these grants."""
    return document([each for each in _statements(text) if grant_of(str(each.get("Sid", ""))) not in grants])


def _statements(text: str) -> list[Statement]:
    listed = json.loads(text)["Statement"]
    return [_short(each) for each in (listed if isinstance(listed, list) else [listed])]


def _short(statement: Statement) -> Statement:
    """With accounts as bare ids: IAM gives them back as ARNs, which take twice the room."""
    match statement.get("Principal"):
        case {"AWS": str(one)}:
            return statement | {"Principal": {"AWS": plain(one)}}
        case {"AWS": list(several)}:
            return statement | {"Principal": {"AWS": [plain(str(each)) for each in several]}}
    return statement

"""Plans of shared policies, carried out step by step on a model of SES: twenty names, 4 KB, and nothing else."""

from collections.abc import Mapping
from uuid import UUID

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from broker.policies.compile import MAX_DOCUMENT_BYTES, document, statements
from broker.policies.normal import Form, parts, same_meaning
from broker.policies.plan import MAX_POLICIES, Plan, is_ours, parse_name, plan, policy_name
from tests.policies.examples import IDENTITY, policy, terms

GRANTS = [UUID(int=number) for number in range(1, 9)]
VARIANTS = range(3)  # the same grant with other terms: agreed anew, or changed by somebody
SLOTS = range(1, 7)

Content = tuple[tuple[UUID, int], ...]  # grants of one document, each with a variant
contents = st.lists(
    st.tuples(st.sampled_from(GRANTS), st.sampled_from(VARIANTS)), max_size=4, unique_by=lambda each: each[0]
).map(tuple)


def text_of(content: Content) -> str:
    """The document that holds these."""
    return document(
        [
            each
            for grant, variant in content
            for each in statements(
                terms(from_addresses=(f"news{variant}@example.com",)), grant_id=grant, identity_arn=IDENTITY
            )
        ]
    )


class Ses:
    """The model: refuses what SES refuses, and watches that nobody is locked out who may not be."""

    def __init__(self, held: Mapping[str, str], wanted: Mapping[UUID, frozenset[Form]], *, roomy: bool) -> None:
        self.held = dict(held)
        self.foreign = {name: text for name, text in held.items() if not is_ours(name)}
        self.wanted = wanted
        self.roomy = roomy
        self.safe = self.there()

    def there(self) -> set[UUID]:
        """Grants that are allowed what they are to be allowed."""
        shown = [parts(text) for name, text in self.held.items() if is_ours(name)]
        return {grant for grant, forms in self.wanted.items() if any(each.get(grant) == forms for each in shown)}

    def create(self, name: str, text: str) -> None:
        assert name not in self.held
        assert len(text.encode()) <= MAX_DOCUMENT_BYTES
        assert len(self.held) < MAX_POLICIES
        self.held[name] = text

    def delete(self, name: str) -> None:
        assert is_ours(name)
        del self.held[name]
        if self.roomy:
            assert self.safe <= self.there()

    def carry_out(self, made: Plan) -> None:
        version = 1_000
        for name in made.delete_first:
            self.delete(name)
        for each in made.rounds:
            for slot, text in each.create:
                version += 1
                self.create(policy_name(slot, version), text)
            for name in each.delete_after:
                self.delete(name)


@st.composite
def placements(draw: st.DrawFn) -> dict[int, Content]:
    """Live grants in their slots, each in one."""
    chosen = draw(st.lists(st.sampled_from(GRANTS), unique=True))
    found: dict[int, Content] = {}
    for grant in chosen:
        slot = draw(st.sampled_from(SLOTS))
        found[slot] = (*found.get(slot, ()), (grant, draw(st.sampled_from(VARIANTS))))
    return found


observations = st.dictionaries(st.tuples(st.sampled_from(SLOTS), st.integers(1, 3)), contents, max_size=10)


def has_room(made: Plan, held: Mapping[str, str], desired: Mapping[int, str]) -> bool:
    """Whether SES has a place for all that is new beside the old, or for one swap after the other."""
    wanted = {grant for text in desired.values() for grant in parts(text)}
    strays = [name for name in made.delete_first if _slot(name) not in desired and not wanted & set(parts(held[name]))]
    places = MAX_POLICIES - len(held) + len(strays)
    homes: dict[UUID, set[int]] = {}
    for name, text in [*held.items(), *((policy_name(slot, 0), text) for slot, text in desired.items())]:
        for grant in parts(text):
            if grant and (parsed := parse_name(name)):
                homes.setdefault(grant, set()).add(parsed.slot)
    moves = any(len(slots) > 1 for slots in homes.values())
    new = [slot for slot, _ in made.create if not any(_slot(name) == slot for name in held)]
    return places >= len(made.create) or (not moves and places >= len(new) + 1)


def _slot(name: str) -> int | None:
    parsed = parse_name(name)
    return parsed.slot if parsed else None


@settings(max_examples=300, deadline=None)
@given(placements(), observations, st.integers(0, 20))
def test_a_plan_is_safe_at_every_step_and_a_second_one_is_empty(
    wanted: dict[int, Content], seen: dict[tuple[int, int], Content], foreign: int
) -> None:
    """It gives exactly what is wanted, touches nothing foreign, never passes a limit, and locks nobody out."""
    held = {policy_name(*at): text_of(content) for at, content in seen.items()}
    held |= {f"foreign{number}": policy(Sid="s") for number in range(foreign)}
    desired = {slot: text_of(content) for slot, content in wanted.items()}
    assume(len(held) <= MAX_POLICIES)
    assume(foreign + len(desired) <= MAX_POLICIES)
    made = plan(desired, held)
    roomy = has_room(made, held, desired)
    event("with room" if roomy else "crowded")
    forms = {grant: its for text in desired.values() for grant, its in parts(text).items() if grant}
    ses = Ses(held, forms, roomy=roomy)

    ses.carry_out(made)

    ours = {name: text for name, text in ses.held.items() if is_ours(name)}
    assert sorted(desired) == sorted(_slot(name) or 0 for name in ours)
    assert all(same_meaning(text, desired[_slot(name) or 0]) for name, text in ours.items())
    assert ses.foreign == {name: text for name, text in ses.held.items() if not is_ours(name)}
    assert plan(desired, ses.held).empty


def test_what_else_is_in_a_slot_that_stays_goes_after_what_it_holds_has_arrived() -> None:
    """Two versions of one slot, of which one is wanted: the other is no stray while a grant is only there."""
    first, second = GRANTS[:2]
    held = {policy_name(2, 1): text_of(((second, 0),)), policy_name(2, 2): text_of(((first, 0),))}
    desired = {1: text_of(((first, 0),)), 2: text_of(((second, 0),))}

    made = plan(desired, held)

    assert ({2: policy_name(2, 1)}, ()) == (made.keep, made.delete_first)
    assert ((((1, desired[1]),), (policy_name(2, 2),)),) == tuple(
        (each.create, each.delete_after) for each in made.rounds
    )


def test_where_a_grant_goes_is_written_before_where_it_leaves() -> None:
    """With one place for a swap: two rounds, and the grant is there all the time."""
    first, second, third = GRANTS[:3]
    held = {policy_name(1, 1): text_of(((first, 0), (second, 0))), policy_name(2, 1): text_of(((third, 0),))}
    held |= {f"foreign{number}": policy() for number in range(17)}
    desired = {1: text_of(((first, 0),)), 2: text_of(((third, 0), (second, 0)))}

    made = plan(desired, held)

    assert [[2], [1]] == [[slot for slot, _ in each.create] for each in made.rounds]
    assert [(policy_name(2, 1),), (policy_name(1, 1),)] == [each.delete_after for each in made.rounds]


@pytest.mark.parametrize("changed", [2, 5, 17])
def test_many_changes_take_turns_at_one_place(changed: int) -> None:
    """Eighteen policies of ours, one Deny, one place: each change waits for the one before it."""
    held = {policy_name(slot, 1): text_of(((UUID(int=slot), 0),)) for slot in range(1, 19)}
    held[policy_name(-1, 1)] = policy(Effect="Deny")
    desired = {slot: text_of(((UUID(int=slot), int(slot <= changed)),)) for slot in range(1, 19)}
    desired[-1] = held[policy_name(-1, 1)]

    made = plan(desired, held)

    assert ((), changed) == (made.delete_first, len(made.rounds))
    assert {1} == {len(each.create) for each in made.rounds} == {len(each.delete_after) for each in made.rounds}

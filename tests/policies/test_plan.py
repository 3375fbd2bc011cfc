"""The plan reaches what is wanted with the fewest changes and touches nothing foreign."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.policies.normal import same_meaning
from broker.policies.plan import (
    DENY,
    MAX_POLICIES,
    PREFIX,
    Plan,
    Round,
    is_ours,
    parse_name,
    plan,
    policy_name,
    room,
)
from tests.policies.examples import policy

DOCUMENTS = [policy(Sid=f"s{number}") for number in range(4)]
SPELLINGS = {
    text: [text, text.replace(" ", ""), text.replace('"222222222222"', '"arn:aws:iam::222222222222:root"')]
    for text in DOCUMENTS
}
FOREIGN = ["Newsletter", "delegation-brokers", "Delegation-Broker-1-1", "delegation-broker", "x-delegation-broker-1-1"]
STRAYS = [f"{PREFIX}01-1", f"{PREFIX}1", f"{PREFIX}", f"{PREFIX}1-1-1", f"{PREFIX}deny-x", f"{PREFIX}1-01"]

slots = st.integers(0, 5)
desired_states = st.dictionaries(slots | st.just(DENY), st.sampled_from(DOCUMENTS), max_size=6)
names = (
    st.sampled_from([*FOREIGN, *STRAYS])
    | st.builds(policy_name, slots | st.just(DENY), st.integers(1, 4))
    | st.integers(0, 12).map(lambda number: f"foreign{number}")
)
contents = st.sampled_from([spelling for spellings in SPELLINGS.values() for spelling in spellings] + ["", "not json"])
observed_states = st.dictionaries(names, contents, max_size=MAX_POLICIES)


def applied(made: Plan, observed: Mapping[str, str], used: Mapping[int, int]) -> tuple[dict[str, str], int]:
    """What SES holds after the plan, and the most policies that it held at any time after the first deletes."""
    held = {name: text for name, text in observed.items() if name not in made.delete_first}
    peak = len(held)
    for each in made.rounds:
        for slot, text in each.create:
            name = policy_name(slot, used.get(slot, 0) + 1)
            assert name not in observed
            held[name] = text
        peak = max(peak, len(held))
        for name in each.delete_after:
            del held[name]
    return held, peak


def versions(observed: Mapping[str, str]) -> dict[int, int]:
    used: dict[int, int] = {}
    for name in observed:
        if parsed := parse_name(name):
            used[parsed.slot] = max(used.get(parsed.slot, 0), parsed.version)
    return used


@given(desired_states, observed_states)
def test_a_plan_reaches_what_is_wanted_and_a_second_one_is_empty(
    desired: dict[int, str], observed: dict[str, str]
) -> None:
    held, _ = applied(plan(desired, observed), observed, versions(observed))

    ours = {parse_name(name): text for name, text in held.items() if is_ours(name)}
    assert {name.slot for name in ours if name} == set(desired)
    assert all(name and same_meaning(text, desired[name.slot]) for name, text in ours.items())
    assert len(ours) == len(desired)
    assert plan(desired, held).empty


@given(desired_states, observed_states)
def test_a_plan_touches_nothing_foreign(desired: dict[int, str], observed: dict[str, str]) -> None:
    made = plan(desired, observed)
    held, _ = applied(made, observed, versions(observed))

    foreign = {name: text for name, text in observed.items() if not name.startswith(PREFIX)}
    assert all(name.startswith(PREFIX) and name in observed for name in (*made.delete_first, *made.delete_after))
    assert {name: text for name, text in held.items() if not name.startswith(PREFIX)} == foreign
    assert made.foreign == tuple(sorted(foreign))


@given(desired_states, observed_states)
def test_a_plan_never_passes_the_limit_in_between_if_the_end_fits(
    desired: dict[int, str], observed: dict[str, str]
) -> None:
    held, peak = applied(plan(desired, observed), observed, versions(observed))

    assert peak <= max(MAX_POLICIES, len(held))


@given(desired_states, observed_states)
def test_what_is_right_already_is_kept_and_no_name_is_in_two_lists(
    desired: dict[int, str], observed: dict[str, str]
) -> None:
    made = plan(desired, observed)

    assert all(same_meaning(observed[name], desired[slot]) for slot, name in made.keep.items())
    assert set(made.keep) | {slot for slot, _ in made.create} == set(desired)
    assert set(made.keep).isdisjoint(slot for slot, _ in made.create)
    touched = [*made.keep.values(), *made.delete_first, *made.delete_after, *made.foreign]
    assert len(set(touched)) == len(touched) == len(observed)


def test_a_changed_slot_is_replaced_before_its_old_version_goes() -> None:
    observed = {policy_name(0, 3): DOCUMENTS[0], "Newsletter": DOCUMENTS[1]}

    made = plan({0: DOCUMENTS[2]}, observed)

    assert made == Plan(
        keep={},
        delete_first=(),
        rounds=(Round(((0, DOCUMENTS[2]),), (policy_name(0, 3),)),),
        foreign=("Newsletter",),
    )


def test_a_slot_that_nobody_wants_and_strays_go_first() -> None:
    observed = {policy_name(0, 1): DOCUMENTS[0], policy_name(1, 1): DOCUMENTS[1], STRAYS[0]: DOCUMENTS[0]}

    made = plan({0: DOCUMENTS[0]}, observed)

    assert made.keep == {0: policy_name(0, 1)}
    assert made.delete_first == (STRAYS[0], policy_name(1, 1))
    assert made.create == ()


def test_a_late_write_of_an_old_version_goes_first_and_the_right_one_stays() -> None:
    observed = {policy_name(0, 2): DOCUMENTS[0], policy_name(0, 1): DOCUMENTS[1]}

    made = plan({0: DOCUMENTS[0]}, observed)

    assert (made.keep, made.delete_first, made.delete_after) == ({0: policy_name(0, 2)}, (policy_name(0, 1),), ())


def test_of_two_right_versions_the_newest_stays() -> None:
    observed = {policy_name(0, 9): DOCUMENTS[0], policy_name(0, 10): DOCUMENTS[0]}

    assert plan({0: DOCUMENTS[0]}, observed).keep == {0: policy_name(0, 10)}


def test_a_full_identity_gives_up_the_old_version_first() -> None:
    observed = {policy_name(0, 1): DOCUMENTS[0]} | {f"foreign{number}": DOCUMENTS[1] for number in range(19)}

    made = plan({0: DOCUMENTS[2]}, observed)

    assert (made.delete_first, made.delete_after) == ((policy_name(0, 1),), ())


def test_the_last_free_place_is_enough_for_a_swap() -> None:
    observed = {policy_name(0, 1): DOCUMENTS[0]} | {f"foreign{number}": DOCUMENTS[1] for number in range(18)}

    made = plan({0: DOCUMENTS[2]}, observed)

    assert (made.delete_first, made.delete_after) == ((), (policy_name(0, 1),))


def test_nothing_to_do_is_an_empty_plan() -> None:
    assert plan({}, {"Newsletter": DOCUMENTS[0]}).empty
    assert plan({3: DOCUMENTS[0]}, {policy_name(3, 7): SPELLINGS[DOCUMENTS[0]][2]}).empty


@pytest.mark.parametrize(
    "name", [*FOREIGN, *STRAYS, f"{PREFIX}1-1\n", f"{PREFIX}-1-1", f"{PREFIX}1-{'9' * 40}", f"{PREFIX}\u0661-1"]
)
def test_what_is_not_one_of_our_names_has_no_slot(name: str) -> None:
    assert parse_name(name) is None


@given(st.integers(0, 999_999) | st.just(DENY), st.integers(0, 10**18 - 1))
def test_a_name_can_be_read_back_and_is_a_name_for_ses(slot: int, version: int) -> None:
    name = policy_name(slot, version)
    parsed = parse_name(name)

    assert parsed == (slot, version)
    assert parsed is not None
    assert parsed.is_deny == (slot == DENY)
    assert len(name) <= 64


def test_names_say_slot_and_version() -> None:
    assert policy_name(12, 7) == "delegation-broker-12-7"
    assert policy_name(DENY, 3) == "delegation-broker-deny-3"


def test_room_counts_every_policy() -> None:
    observed = {policy_name(0, 1): "", "Newsletter": ""}

    assert room(observed) == 18
    assert room([]) == 20
    assert room([f"p{number}" for number in range(25)]) == 0

"""Room for attempts: tenants take turns, nobody takes all of it, nobody waits for ever."""

from collections import Counter, deque
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.webhooks.shares import Shares

A, B, C = (UUID(int=number) for number in (1, 2, 3))


def crowd(shares: Shares[str], lanes: dict[UUID, list[str]]) -> dict[str, UUID]:
    """Queues all of these lanes; whose each is."""
    for tenant_id, names in lanes.items():
        for name in names:
            shares.wait(tenant_id, name)
    return {name: tenant_id for tenant_id, names in lanes.items() for name in names}


def served(shares: Shares[str], owners: dict[str, UUID], *, landings: int) -> list[str]:
    """Who begins when everybody always has more to send: each landing makes room for one, and who began waits again."""
    flying: deque[UUID] = deque()
    begun = []
    for _ in range(landings):
        if flying:
            shares.give(flying.popleft())
        while (name := shares.next()) is not None:
            while shares.take(owners[name]):
                flying.append(owners[name])
                begun.append(name)
            shares.wait(owners[name], name)
    return begun


def test_no_more_begin_than_there_is_room_for() -> None:
    shares: Shares[str] = Shares(most=5, most_of_one=3)
    began = [shares.take(tenant_id) for tenant_id in (A, A, A, A, B, B, B)]

    assert [True, True, True, False, True, True, False] == began


def test_what_has_landed_makes_room() -> None:
    shares: Shares[str] = Shares(most=2, most_of_one=2)
    before = [shares.take(A), shares.take(A), shares.take(B)]
    shares.give(A, 2)

    assert [True, True, False] == before
    assert [True, True, False] == [shares.take(B), shares.take(B), shares.take(A)]


def test_whose_tenant_has_its_part_is_passed_over() -> None:
    shares: Shares[str] = Shares(most=10, most_of_one=1)
    assert shares.take(A)
    shares.wait(A, "a")
    shares.wait(B, "b")

    assert ["b", None] == [shares.next(), shares.next()]
    shares.give(A)
    assert "a" == shares.next()


def test_a_lane_waits_once() -> None:
    shares: Shares[str] = Shares()
    shares.wait(A, "a")
    shares.wait(A, "a")

    assert ["a", None] == [shares.next(), shares.next()]


def test_tenants_take_turns_and_so_do_the_lanes_of_each() -> None:
    shares: Shares[str] = Shares()
    crowd(shares, {A: ["a1", "a2", "a3"], B: ["b"], C: ["c1", "c2"]})
    order = [shares.next() for _ in range(6)]

    assert ["a1", "b", "c1", "a2", "c2", "a3"] == order


def test_tenants_share_evenly_whatever_the_number_of_their_lanes() -> None:
    shares: Shares[str] = Shares(most=4, most_of_one=4)
    owners = crowd(shares, {A: [f"a{number}" for number in range(20)], B: ["b"], C: ["c1", "c2"]})
    counted = Counter(owners[name] for name in served(shares, owners, landings=600))

    assert max(counted.values()) <= 1.2 * min(counted[tenant_id] for tenant_id in (A, B, C))


@settings(deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.dictionaries(st.sampled_from([A, B, C]), st.integers(1, 12), min_size=1),
)
def test_nobody_starves(most: int, most_of_one: int, sizes: dict[UUID, int]) -> None:
    shares: Shares[str] = Shares(most=most, most_of_one=most_of_one)
    owners = crowd(
        shares, {tenant: [f"{tenant.int}-{number}" for number in range(size)] for tenant, size in sizes.items()}
    )
    begun = served(shares, owners, landings=20 * sum(sizes.values()) * len(sizes))

    assert set(owners) == set(begun)


@given(st.lists(st.tuples(st.sampled_from([A, B, C]), st.booleans()), max_size=200))
def test_the_counts_never_drift(steps: list[tuple[UUID, bool]]) -> None:
    """Whatever is taken and given: what may still begin is what is left."""
    shares: Shares[str] = Shares(most=8, most_of_one=5)
    flying: Counter[UUID] = Counter()
    for tenant_id, begins in steps:
        if begins:
            room = flying.total() < 8 and flying[tenant_id] < 5
            assert room == shares.take(tenant_id)
            flying[tenant_id] += room
        elif flying[tenant_id]:
            shares.give(tenant_id)
            flying[tenant_id] -= 1

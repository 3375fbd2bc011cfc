"""The worker of the model: loads the paper, sends its calls one by one, reads, and settles what it saw."""

from collections.abc import Iterator, Mapping
from functools import cache

from broker.policies.deny import Protection, TakenBack, touched
from broker.policies.normal import same_meaning
from broker.policies.plan import DENY, Plan, parse_name, plan, policy_name
from broker.policies.shares import Tenancy, going
from tests.policies.protocol_deny import (
    about_refusal,
    borne_out,
    brought,
    claimed,
    decided,
    named,
    refused_before,
    stays,
    taken_back,
    with_name,
)
from tests.policies.protocol_world import (
    GRANTS,
    TERMS,
    Deal,
    Effect,
    Op,
    Paper,
    Policies,
    Protocol,
    Run,
    Step,
    World,
    alive_in,
    allow,
    denies,
    executed,
    is_over,
    is_refused,
    slot_of,
    strays,
    told_of,
)


def claim(world: World, protocol: Protocol) -> World:
    """The claim brings the Deny that is on paper, where no read has shown it; without one, the paper is loaded."""
    sent = brought(world, protocol) if protocol.ahead else None
    if sent is None:
        return load(world, protocol)
    return world._replace(run=Run("claimed", None, deny=(sent,), ahead=sent.name))


def load(world: World, protocol: Protocol) -> World:
    """The first transaction: what is wanted, the Deny and its name, and what the receipts must not claim any more."""
    living, before = tuple(alive_in(world)), world.run
    refused = refused_before(world, protocol)
    denial = decided(taken_back(world, protocol, also_over=False), living, refused)
    claims = decided(taken_back(world, protocol, also_over=True), living, refused).protections
    deals = tuple(borne_out(deal, claims.get(grant), protocol) for grant, deal in zip(GRANTS, world.deals, strict=True))
    if not protocol.committed and before is not None and denial.document is not None:
        world = with_name(world, before.ahead, denial.document)  # it was sent under this one
    world = named(world, denial.document, protocol)
    name = world.deny_name or ""
    doomed = () if protocol.same_name else tuple(Op(each) for each in _doomed(world))
    over = tuple(is_over(deal, protocol) for deal in deals)
    run = Run("begin", denial.document, doomed, unclean=bool(doomed), over=over)
    if before is not None:
        run = run._replace(deny=before.deny)
    if before is not None and before.ahead == name:
        run = run._replace(deny_failed=before.deny_failed, deny_refused=before.deny_refused)
    elif denial.document is not None and name not in dict(world.shown):
        run = run._replace(deny=(*run.deny, Op(name, denial.document)))
    return world._replace(deals=deals, run=run)


def _doomed(world: World) -> tuple[str, ...]:
    """Names of revoked grants that SES shows, or may hold unseen until the first clean read."""
    tenancies = [
        Tenancy(grant, index, deal.paper is not Paper.revoked, deal.removed_for is None)
        for index, (grant, deal) in enumerate(zip(GRANTS, world.deals, strict=True))
    ]
    return _going(world.shown, world.written, tuple(tenancies))


@cache
def _going(shown: Policies, written: Policies, tenancies: tuple[Tenancy, ...]) -> tuple[str, ...]:
    return going(dict(shown), dict(written), tenancies)[0]


def work(world: World, run: Run, protocol: Protocol) -> Iterator[Step]:
    """What the worker may do next; the first step is the one without trouble."""
    if run.deny:
        yield from _called(world, run._replace(deny=run.deny[1:]), run.deny[0], protocol, beside=True)
    if run.stage == "claimed":
        yield "the worker loads", load(world, protocol)
        return
    if run.queue and not run.failed:
        yield from _called(world, run._replace(queue=run.queue[1:]), run.queue[0], protocol, beside=False)
    if not run.deny and (not run.queue or run.failed):
        yield from _advance(world, run, protocol)


def _called(world: World, run: Run, op: Op, protocol: Protocol, *, beside: bool) -> Iterator[Step]:
    """One request: done, refused for good, refused as one too many, or held back until the worker does not wait."""
    told = told_of(op)
    if is_refused(world, op):
        ours = op.name == world.deny_name or run.stage == "claimed"  # not one that the paper has given up meanwhile
        noted = run._replace(deny_failed=True, deny_refused=True) if slot_of(op.name) == DENY and ours else run
        yield f"{told}, refused for its principal", world._replace(run=noted)
        return
    done = world._replace(held=executed(world, op, protocol))
    trouble: Run | None = run._replace(failed=True)
    if beside:
        ours = op.name == world.deny_name or run.stage == "claimed"
        trouble = run._replace(deny_failed=True) if ours else run
    if not beside and not run.deny:
        trouble = None  # the worker gives up for now
    yield told, done._replace(run=run)
    if world.faults:
        yield f"{told}, throttled", world._replace(run=trouble, faults=world.faults - 1)
        yield f"{told}, refused", world._replace(run=run, faults=world.faults - 1)
    if world.may_be_late and world.late is None:
        held_back = world._replace(run=trouble, late=(op, 0), may_be_late=False)
        yield f"{told}, held back", held_back


def _advance(world: World, run: Run, protocol: Protocol) -> Iterator[Step]:
    if run.failed:
        yield "the worker gives up for now", world._replace(run=None)
    elif run.stage == "begin":
        yield "read", _planned(world, run._replace(observed=world.held), protocol)
    elif run.stage == "change":
        desired = _desired(world, run, protocol)
        old = tuple(op for op in run.after if _is_replaced(op.name, world.held, desired))
        old = tuple(op for op in old if not (protocol.strays and stays(op.name, world, run)))
        stage = "after" if old else "settle"
        yield "read", world._replace(run=run._replace(stage=stage, queue=old, after=(), observed=world.held))
    elif run.stage == "after":
        yield "read", world._replace(run=run._replace(stage="settle", observed=world.held))
    else:
        yield "settle", _settled(world, run, protocol)


def _planned(world: World, run: Run, protocol: Protocol) -> World:
    """After the first read: removals, then creates; a Deny stays where a stray has just been seen."""
    seen = any(strays(run.observed, index) for index, deal in enumerate(world.deals) if deal.paper is Paper.revoked)
    run = run._replace(unclean=run.unclean or seen)
    todo = _plan(tuple(sorted(_desired(world, run, protocol).items())), run.observed)
    if todo.empty:
        return world._replace(run=run._replace(stage="settle"))
    keeps = protocol.strays and run.unclean and not touched(dict(run.observed), alive_in(world))
    first = [Op(name) for name in todo.delete_first if not (keeps and slot_of(name) == DENY)]
    written, creates = world.written, []
    for slot, text in todo.create:
        if slot == DENY and run.deny_failed:
            continue
        name, written = _reserved(world, slot, text, written, protocol)
        creates.append(Op(name, text))
    after = tuple(Op(name) for name in todo.delete_after)
    if protocol.same_name:
        first, after = [], ()
    changing = run._replace(stage="change", queue=(*first, *creates), after=after)
    return world._replace(run=changing, written=written)


@cache
def _plan(desired: tuple[tuple[int, str], ...], observed: Policies) -> Plan:
    return plan(dict(desired), dict(observed))


def _desired(world: World, run: Run, protocol: Protocol) -> dict[int, str]:
    """What the identity is to hold, by the paper as it was loaded."""
    desired = {} if run.document is None else {DENY: run.document}
    for index, deal in enumerate(world.deals):
        if run.changed[index]:
            continue
        if deal.paper is Paper.agreed:
            desired[index] = allow(index, deal.terms)
        elif deal.paper is Paper.revoked and protocol.same_name:
            denied = TakenBack(GRANTS[index], (TERMS[index][deal.terms],))
            desired[index] = decided((denied,), (), ()).document or ""
    return desired


def _reserved(world: World, slot: int, text: str, written: Policies, protocol: Protocol) -> tuple[str, Policies]:
    if protocol.same_name:
        return policy_name(slot, 1), written
    if slot == DENY and world.deny_name is not None:
        return world.deny_name, written
    versions = {parsed.version: name for name, _ in written if (parsed := parse_name(name)) and parsed.slot == slot}
    if versions and dict(written)[versions[max(versions)]] == text:
        return versions[max(versions)], written
    name = policy_name(slot, _next(written, slot))
    return name, (*written, (name, text))


def _next(written: Policies, slot: int) -> int:
    return 1 + sum(slot_of(name) == slot for name, _ in written)


def _is_replaced(name: str, observed: Policies, desired: Mapping[int, str]) -> bool:
    slot = slot_of(name)
    return slot is not None and any(
        other != name and slot_of(other) == slot and same_meaning(text, desired.get(slot, ""))
        for other, text in observed
    )


def _settled(world: World, run: Run, protocol: Protocol) -> World:
    """The last transaction: what the last read means for each grant whose paper has not changed meanwhile."""
    deals = list(world.deals)
    for index, deal in enumerate(world.deals):
        if run.changed[index]:
            continue
        if deal.paper is Paper.agreed:
            deals[index] = _seen_alive(deal, index, dict(run.observed))
        elif deal.paper is Paper.revoked:
            deals[index] = _seen_ended(deal, index, run, claimed(deal, index, world, run, protocol), protocol)
    # What was written of a grant that was seen to be gone is not asked for any more.
    gone = {index for index, deal in enumerate(deals) if deal.removed_for is not None}
    written = tuple(sorted(each for each in world.written if slot_of(each[0]) not in gone))
    return world._replace(deals=tuple(deals), shown=run.observed, written=written, run=None)


def _seen_alive(deal: Deal, index: int, observed: Mapping[str, str]) -> Deal:
    wanted = allow(index, deal.terms)
    held = any(slot_of(name) == index and same_meaning(text, wanted) for name, text in observed.items())
    if held and not touched(observed, [TERMS[index][deal.terms]]):
        return deal._replace(effect=Effect.applied)
    return deal


def _seen_ended(deal: Deal, index: int, run: Run, found: Protection, protocol: Protocol) -> Deal:
    """What the receipt says: gone by two reads, protected by a Deny that was read, sealed by a last clean read."""
    gone = not any(slot_of(name) == index and not denies(text) for name, text in run.observed)
    if not run.over[index]:
        deal = deal._replace(by=found.by, why=about_refusal(found.reason))
    elif gone and not run.unclean and deal.effect is Effect.removed:
        return deal._replace(sealed=True, why=None)
    if deal.effect is Effect.removed:
        return deal
    if not protocol.reads:
        return deal._replace(effect=Effect.removed, removed_for=0)
    if not gone:
        return deal._replace(removed_for=None)
    if deal.removed_for is None:
        return deal._replace(removed_for=0)
    return deal._replace(effect=Effect.removed)

"""The worker of the model: loads the paper, sends its calls one by one, reads, and settles what it saw."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import cache
from itertools import count

from broker.policies.compile import document, statements
from broker.policies.deny import Denial, ProtectedBy, TakenBack, decide, protects, still_named, touched
from broker.policies.normal import same_meaning
from broker.policies.plan import DENY, Plan, parse_name, plan, policy_name
from broker.policies.shares import Tenancy, going
from broker.policies.terms import Action, Terms
from tests.policies.protocol_world import (
    ARN,
    GRANTS,
    NOW,
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
    denies,
    executed,
    is_over,
    slot_of,
    told_of,
)


def load(world: World, protocol: Protocol) -> World:
    """The first transaction: what is wanted, the Deny and its name, and what the receipts must not claim any more."""
    living = tuple(alive_in(world))
    denial = _decided(_taken(world, protocol, also_over=False), living)
    claims = _decided(_taken(world, protocol, also_over=True), living).protections
    current = dict(world.written).get(world.deny_name or "")
    name, written = world.deny_name, world.written
    if denial.document is None:
        name = None if protocol.fresh_names else name
    elif not still_named(name, current, denial.document):
        name = _unused(world)
        written = (*(each for each in written if slot_of(each[0]) != DENY), (name, denial.document))
    deals = tuple(
        deal._replace(by=ProtectedBy.reads)
        if protocol.downgrade and (told := claims.get(grant)) and told.by is ProtectedBy.reads
        else deal
        for grant, deal in zip(GRANTS, world.deals, strict=True)
    )
    doomed = () if protocol.same_name else tuple(Op(each) for each in _doomed(world))
    deny = () if denial.document is None or name in dict(world.shown) else (Op(name or "", denial.document),)
    over = tuple(is_over(deal, protocol) for deal in deals)
    run = Run("begin", denial.document, doomed, deny, unclean=bool(doomed), over=over)
    return world._replace(deals=deals, deny_name=name, written=written, run=run)


def _unused(world: World) -> str:
    """A name for a Deny that nothing knows. As good as one that was never used, and far fewer states."""
    known = {*dict(world.held), *dict(world.shown), world.deny_name, world.late[0].name if world.late else None}
    return next(name for version in count(1) if (name := policy_name(DENY, version)) not in known)


def _taken(world: World, protocol: Protocol, *, also_over: bool) -> tuple[TakenBack, ...]:
    """The grants whose Deny is wanted; or all that were not sealed yet."""
    taken = []
    for index, (grant, deal) in enumerate(zip(GRANTS, world.deals, strict=True)):
        over = is_over(deal, protocol) and not _strays(world.shown, index) and not also_over
        if deal.paper is Paper.revoked and not deal.sealed and not over:
            versions = range(deal.terms + 1) if protocol.earlier else [deal.terms]
            taken.append(TakenBack(grant, tuple(TERMS[index][each] for each in versions)))
    return tuple(taken) if protocol.deny else ()


@cache
def _decided(taken: tuple[TakenBack, ...], living: tuple[str, ...]) -> Denial:
    return decide(taken, living=living, observed={}, identity_arn=ARN, now=NOW)


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


def _strays(observed: Policies, index: int) -> bool:
    return any(slot_of(name) == index for name, _ in observed)


def work(world: World, run: Run, protocol: Protocol) -> Iterator[Step]:
    """What the worker may do next; the first step is the one without trouble."""
    if run.deny:
        yield from _called(world, run._replace(deny=run.deny[1:]), run.deny[0], protocol, beside=True)
    if run.queue and not run.failed:
        yield from _called(world, run._replace(queue=run.queue[1:]), run.queue[0], protocol, beside=False)
    if not run.deny and (not run.queue or run.failed):
        yield from _advance(world, run, protocol)


def _called(world: World, run: Run, op: Op, protocol: Protocol, *, beside: bool) -> Iterator[Step]:
    """One request: done, refused for good, refused as one too many, or held back until the worker does not wait."""
    told = told_of(op)
    done = world._replace(held=executed(world.held, op, protocol))
    trouble: Run | None = run._replace(deny_failed=True) if beside else run._replace(failed=True)
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
        old = tuple(op for op in run.after if _is_replaced(op.name, world.held, _desired(world, run, protocol)))
        stage = "after" if old else "settle"
        yield "read", world._replace(run=run._replace(stage=stage, queue=old, after=(), observed=world.held))
    elif run.stage == "after":
        yield "read", world._replace(run=run._replace(stage="settle", observed=world.held))
    else:
        yield "settle", _settled(world, run, protocol)


def _planned(world: World, run: Run, protocol: Protocol) -> World:
    """After the first read: removals, then creates; a Deny stays where a stray has just been seen."""
    strays = any(_strays(run.observed, index) for index, deal in enumerate(world.deals) if deal.paper is Paper.revoked)
    run = run._replace(unclean=run.unclean or strays)
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
            desired[index] = _decided((denied,), ()).document or ""
    return desired


@cache
def allow(index: int, version: int) -> str:
    terms = Terms(principals=(TERMS[index][version],), actions=(Action.send,), expires_at=NOW + timedelta(days=30))
    return document(statements(terms, grant_id=GRANTS[index], identity_arn=ARN))


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
            deals[index] = _seen_ended(deal, index, run, _claimed(deal, index, world, protocol), protocol)
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


def _seen_ended(deal: Deal, index: int, run: Run, by: ProtectedBy, protocol: Protocol) -> Deal:
    """What the receipt says: gone by two reads, protected by a Deny that was read, sealed by a last clean read."""
    gone = not any(slot_of(name) == index and not denies(text) for name, text in run.observed)
    if not run.over[index]:
        deal = deal._replace(by=by)
    elif gone and not run.unclean and deal.effect is Effect.removed:
        return deal._replace(sealed=True)
    if deal.effect is Effect.removed:
        return deal
    if not protocol.reads:
        return deal._replace(effect=Effect.removed, removed_for=0)
    if not gone:
        return deal._replace(removed_for=None)
    if deal.removed_for is None:
        return deal._replace(removed_for=0)
    return deal._replace(effect=Effect.removed)


def _claimed(deal: Deal, index: int, world: World, protocol: Protocol) -> ProtectedBy:
    """A Deny that was read under the name that is on paper: any other may be on its way out.

    A protocol without a Deny of its own claims as much for what it does.
    """
    principals = TERMS[index][: deal.terms + 1] if protocol.earlier else [TERMS[index][deal.terms]]
    observed = world.run.observed if world.run is not None else ()
    ours = {name: text for name, text in observed if name == world.deny_name or not protocol.name_on_paper}
    return ProtectedBy.deny if not protocol.deny or protects(ours, principals, ARN) else ProtectedBy.reads

"""The worker of the model: loads the paper, sends its calls one by one, reads, and settles what it saw."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import cache
from itertools import count
from uuid import UUID

from broker.policies.compile import document, statements
from broker.policies.deny import (
    Denial,
    ProtectedBy,
    Protection,
    TakenBack,
    decide,
    protects,
    still_named,
    touched,
)
from broker.policies.narrow import left_out, narrows, with_refusal
from broker.policies.normal import same_meaning
from broker.policies.plan import DENY, Plan, parse_name, plan, policy_name
from broker.policies.shares import Tenancy, going
from broker.policies.terms import Action, Terms
from tests.policies.protocol_world import (
    ARN,
    GRANTS,
    NOW,
    REFUSAL,
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
    is_refused,
    slot_of,
    told_of,
)


def name_ahead(world: World, protocol: Protocol) -> World:
    """What the transaction that takes access back does of it: the Deny is on paper before anybody claims it."""
    taken = _taken(world, protocol, also_over=False)
    reasons = [deal.why for deal in world.deals if deal.paper is Paper.revoked and not deal.sealed]
    if not (protocol.ahead and protocol.committed and taken) or any(map(narrows, reasons)):
        return world
    return _named(world, _decided(taken, tuple(alive_in(world)), ()).document, protocol)


def claim(world: World, protocol: Protocol) -> World:
    """The claim brings the Deny that is on paper, where no read has shown it; without one, the paper is loaded."""
    brought = _brought(world, protocol) if protocol.ahead else None
    if brought is None:
        return load(world, protocol)
    return world._replace(run=Run("claimed", None, deny=(brought,), ahead=brought.name))


def _brought(world: World, protocol: Protocol) -> Op | None:
    if protocol.committed:
        document = dict(world.written).get(world.deny_name or "")
        return None if document is None or world.deny_name in dict(world.shown) else Op(world.deny_name or "", document)
    wanted = _decided(_taken(world, protocol, also_over=False), tuple(alive_in(world)), ()).document
    if wanted is None or any(slot_of(name) == DENY and text == wanted for name, text in world.shown):
        return None
    return Op(_made_up(world), wanted)


def _made_up(world: World) -> str:
    """The next name after those that a read has shown: what a worker takes that has no paper to name it."""
    return next(name for version in count(1) if (name := policy_name(DENY, version)) not in dict(world.shown))


def load(world: World, protocol: Protocol) -> World:
    """The first transaction: what is wanted, the Deny and its name, and what the receipts must not claim any more."""
    living, before = tuple(alive_in(world)), world.run
    refused = _refused_before(world, protocol)
    denial = _decided(_taken(world, protocol, also_over=False), living, refused)
    claims = _decided(_taken(world, protocol, also_over=True), living, refused).protections
    deals = tuple(_claim(deal, claims.get(grant), protocol) for grant, deal in zip(GRANTS, world.deals, strict=True))
    if not protocol.committed and before is not None and denial.document is not None:
        world = _with_name(world, before.ahead, denial.document)  # it was sent under this one
    world = _named(world, denial.document, protocol)
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


def _named(world: World, document: str | None, protocol: Protocol) -> World:
    """The name under which the Deny stands or is to stand goes on paper: another one for other content."""
    if document is None:
        return world._replace(deny_name=None) if protocol.fresh_names else world
    if still_named(world.deny_name, dict(world.written).get(world.deny_name or ""), document):
        return world
    return _with_name(world, _unused(world), document)


def _with_name(world: World, name: str, document: str) -> World:
    written = (*(each for each in world.written if slot_of(each[0]) != DENY), (name, document))
    return world._replace(deny_name=name, written=written)


def _refused_before(world: World, protocol: Protocol) -> tuple[tuple[str, str], ...]:
    """Whom the next Deny leaves out, and why."""
    if not protocol.narrows or not any(deal.why for deal in world.deals):
        return ()
    tried = tuple(each for each in world.written if each[0] == world.deny_name)
    reasons = tuple((grant, deal.why) for grant, deal in zip(GRANTS, world.deals, strict=True) if deal.why)
    return _left_out(_taken(world, protocol, also_over=True), reasons, tried, world.shown)


@cache
def _left_out(
    taken: tuple[TakenBack, ...], reasons: tuple[tuple[UUID, str], ...], tried: Policies, shown: Policies
) -> tuple[tuple[str, str], ...]:
    found = left_out(taken, reasons=dict(reasons), tried=dict(tried), observed=dict(shown), identity_arn=ARN)
    return tuple(sorted(found.items()))


def _claim(deal: Deal, told: Protection | None, protocol: Protocol) -> Deal:
    """What was said of the last Deny is off the paper, and so is a claim that the next one does not bear out."""
    if narrows(deal.why):
        deal = deal._replace(why=None)
    if told is None or told.by is not ProtectedBy.reads or not protocol.downgrade:
        return deal
    return deal._replace(by=ProtectedBy.reads, why=_about_refusal(told.reason))


def _about_refusal(reason: str | None) -> str | None:
    return reason if reason is not None and reason.startswith("SES refuses ") else None


def _unused(world: World) -> str:
    """A name for a Deny that nothing knows. As good as one that was never used, and far fewer states."""
    known = {*dict(world.held), *dict(world.shown), world.deny_name, world.late[0].name if world.late else None}
    if world.run is not None:
        known |= {*dict(world.run.observed), *(op.name for op in world.run.deny)}
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
def _decided(taken: tuple[TakenBack, ...], living: tuple[str, ...], refused: tuple[tuple[str, str], ...]) -> Denial:
    return decide(taken, living=living, observed={}, identity_arn=ARN, now=NOW, refused=dict(refused))


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
            desired[index] = _decided((denied,), (), ()).document or ""
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
            deals[index] = _seen_ended(deal, index, run, _claimed(deal, index, world, run, protocol), protocol)
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
        deal = deal._replace(by=found.by, why=_about_refusal(found.reason))
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


def _claimed(deal: Deal, index: int, world: World, run: Run, protocol: Protocol) -> Protection:
    """A Deny that was read under the name that is on paper: any other may be on its way out.

    A protocol without a Deny of its own claims as much for what it does.
    """
    principals = TERMS[index][: deal.terms + 1] if protocol.earlier else TERMS[index][deal.terms : deal.terms + 1]
    ours = {name: text for name, text in run.observed if name == world.deny_name or not protocol.name_on_paper}
    behind = protects(ours, principals, ARN) or (run.deny_refused and not protocol.refusals)
    if not protocol.deny or behind:
        return Protection(ProtectedBy.deny)
    found = Protection(ProtectedBy.reads, deal.why)
    if run.deny_refused and touched({policy_name(DENY, 0): run.document or ""}, principals):
        return with_refusal(found, REFUSAL)
    return found

"""A small model of SES, the paper and the worker that syncs them, explored through all interleavings.

What decides is the product's own code: `compile`, `plan`, `deny` and the evaluator. What is modelled is the order of
steps: parties decide, the worker loads the paper, sends each call, reads and settles, and between any two of these
somebody else may move, the worker may die, SES may throttle, lose its answer, or hold one request back and execute it
late. A request lives for `LIFE` ticks (a signature has an end: IAM User Guide, create-signed-request: five minutes for
most services); a Deny is kept for `Protocol.keep` of them.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from broker.policies.compile import document, grant_of, statements
from broker.policies.context import Send
from broker.policies.deny import Denial, ProtectedBy, TakenBack, decide, protects, still_named, touched
from broker.policies.document import read
from broker.policies.evaluate import Decision, evaluate
from broker.policies.normal import same_meaning
from broker.policies.plan import DENY, Plan, parse_name, plan, policy_name
from broker.policies.terms import Action, Terms

ARN = "arn:aws:ses:eu-west-1:111111111111:identity/example.com"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIFE = 2  # ticks until a request that was not executed is dead
FIRST, SECOND = UUID(int=1), UUID(int=2)
GRANTS = (FIRST, SECOND)
# The first grant is amended from one account to another; the second gives the first account's user access again.
TERMS = (("222222222222", "333333333333"), ("arn:aws:iam::222222222222:user/ann",))
SENDERS = ("arn:aws:iam::222222222222:user/ann", "arn:aws:iam::333333333333:root")

Policies = tuple[tuple[str, str], ...]


class Protocol(NamedTuple):
    """How access is taken back. The flags beyond `keep` take one precaution away each."""

    deny: bool = True  # a Deny under its own name, at once
    reads: bool = True  # gone is what was read, twice
    same_name: bool = False  # names are not versioned, and the Deny overwrites the Allow
    keep: int = LIFE  # ticks for which the Deny stays
    earlier: bool = True  # principals of earlier versions are denied as well
    downgrade: bool = True  # the paper says `reads` before the Deny goes
    fresh_names: bool = True  # a Deny that was dropped comes back under a new name
    name_on_paper: bool = True  # only the Deny under that name is claimed
    strays: bool = True  # the Deny stays where a read has just shown a stray


class Paper(StrEnum):
    none = "none"
    agreed = "agreed"
    revoked = "revoked"


class Effect(StrEnum):
    none = "none"
    applied = "applied"
    removing = "removing"
    removed = "removed"


class Deal(NamedTuple):
    """One grant on paper; `effect` removed is "told revoked", and `by` what the receipt says."""

    paper: Paper = Paper.none
    terms: int = 0
    effect: Effect = Effect.none
    by: ProtectedBy = ProtectedBy.reads
    removed_for: int | None = None  # ticks since the first clean read
    sealed: bool = False


class Op(NamedTuple):
    """One request to SES; `document` is empty for a delete."""

    name: str
    document: str = ""


class Run(NamedTuple):
    """Where a worker stands. `deny` is the lane beside `queue`, until the first read."""

    stage: str
    document: str | None
    queue: tuple[Op, ...] = ()
    deny: tuple[Op, ...] = ()
    after: tuple[Op, ...] = ()
    observed: Policies = ()
    failed: bool = False
    deny_failed: bool = False
    unclean: bool = False
    over: tuple[bool, ...] = ()
    changed: tuple[bool, ...] = (False, False)  # whose paper has changed since it was loaded


class World(NamedTuple):
    """Everything. `late` is the request that SES holds back, with the ticks since it was sent."""

    held: Policies = ()
    late: tuple[Op, int] | None = None
    deals: tuple[Deal, ...] = (Deal(Paper.agreed), Deal())
    shown: Policies = ()
    written: Policies = ()
    deny_name: str | None = None
    run: Run | None = None
    may_be_late: bool = True
    faults: int = 1


Step = tuple[str, World]


def explore(protocol: Protocol, *, most: int = 2_000_000) -> tuple[int, list[str]]:
    """How many states there are, and the shortest way to one in which the protocol has lied; empty without one."""
    start = World()
    came: dict[World, tuple[World, str] | None] = {start: None}
    todo = deque([start])
    while todo:
        world = todo.popleft()
        if lies(world, protocol):
            return len(came), _way(came, world)
        for label, following in steps(world, protocol):
            if following not in came:
                came[following] = (world, label)
                todo.append(following)
        assert len(came) < most, "the model has too many states"
    return len(came), []


def _way(came: Mapping[World, tuple[World, str] | None], world: World) -> list[str]:
    way = []
    while (before := came[world]) is not None:
        world, label = before
        way.append(label)
    return way[::-1]


def lies(world: World, protocol: Protocol) -> bool:
    """Whether a receipt claims what is not so.

    Revoked behind a Deny, or sealed, while somebody may send by the grant; or a Deny that SES does not hold.
    """
    for index, (grant, deal) in enumerate(zip(GRANTS, world.deals, strict=True)):
        behind_deny = deal.effect is Effect.removed and deal.by is ProtectedBy.deny
        if (deal.sealed or behind_deny) and in_force(world.held, grant):
            return True
        if behind_deny and protocol.deny and not _is_over(deal, protocol) and not _shut(world.held, index, deal.terms):
            return True
    return False


@lru_cache(maxsize=None)
def _shut(held: Policies, index: int, terms: int) -> bool:
    return protects(dict(held), [TERMS[index][terms]], ARN)


@lru_cache(maxsize=None)
def in_force(held: Policies, grant: UUID) -> bool:
    """Whether SES would let anybody send by an Allow of this grant, by the evaluator."""
    texts = [text for _, text in held if _is_of(text, grant) or _denies(text)]
    if not any(_is_of(text, grant) for text in texts):
        return False
    return any(
        evaluate(
            texts,
            Send(
                action="ses:SendEmail",
                caller_arn=arn,
                caller_account=arn.split(":")[4],
                from_address="a@example.com",
                recipients=["ann@example.org"],
                time=NOW,
            ),
            identity_arn=ARN,
        ).decision
        is Decision.allow
        for arn in SENDERS
    )


def _is_of(text: str, grant: UUID) -> bool:
    return any(each.allow and grant_of(each.sid or "") == grant for each in read(text).statements)


def _denies(text: str) -> bool:
    return any(not each.allow for each in read(text).statements)


# What can happen next


def steps(world: World, protocol: Protocol) -> Iterator[Step]:
    """Every move of anybody."""
    run = world.run
    if run is None or (run.stage == "settle" and not run.queue):  # elsewhere nobody looks at paper or clock
        yield from _parties(world)
    if run is None:
        yield "time goes by", _later(world)
    if world.late is not None and _matters(world.late[0], run):
        op, _ = world.late
        yield f"SES is late with {_told(op)}", world._replace(held=_executed(world.held, op, protocol), late=None)
    if run is None:
        yield "the worker loads", _load(world, protocol)
    else:
        if world.faults:
            yield "the worker dies", world._replace(run=None, faults=world.faults - 1)
        yield from _work(world, run, protocol)


def _parties(world: World) -> Iterator[Step]:
    first, second = world.deals
    if first.paper is Paper.agreed and first.terms == 0:
        yield "amend", _with(world, 0, first._replace(terms=1))
    if first.paper is Paper.revoked and second.paper is Paper.none:
        yield "grant again", _with(world, 1, second._replace(paper=Paper.agreed))
    for index, deal in enumerate(world.deals):
        if deal.paper is Paper.agreed:
            ended = Deal(Paper.revoked, deal.terms, Effect.removing)
            yield f"revoke {index + 1}", _with(world, index, ended)


def _later(world: World) -> World:
    """One tick: a request that is too old now will never be executed."""
    deals = tuple(
        deal if deal.removed_for is None else deal._replace(removed_for=min(deal.removed_for + 1, LIFE))
        for deal in world.deals
    )
    late = world.late and (world.late[0], world.late[1] + 1)
    return world._replace(deals=deals, late=late if late and late[1] < LIFE else None)


def _matters(late: Op, run: Run | None) -> bool:
    """Whether it makes a difference that a late request is executed now, and not one call later."""
    ops = () if run is None else (*run.deny[:1], *run.queue[:1])
    return not ops or any(op.name == late.name for op in ops)


def _executed(held: Policies, op: Op, protocol: Protocol) -> Policies:
    policies = dict(held)
    if not op.document:
        policies.pop(op.name, None)
    elif op.name not in policies or protocol.same_name:
        policies[op.name] = op.document
    return tuple(sorted(policies.items()))


def _told(op: Op) -> str:
    return f"{'create' if op.document else 'delete'} {op.name}"


def _with(world: World, index: int, deal: Deal) -> World:
    deals = tuple(deal if place == index else each for place, each in enumerate(world.deals))
    run = world.run
    if run is not None:
        run = run._replace(changed=tuple(each or place == index for place, each in enumerate(run.changed)))
    return world._replace(deals=deals, run=run)


# The worker


def _load(world: World, protocol: Protocol) -> World:
    """The first transaction: what is wanted, the Deny and its name, and what the receipts must not claim any more."""
    living = tuple(_living(world))
    denial = _decided(_taken(world, protocol, also_over=False), living)
    claims = _decided(_taken(world, protocol, also_over=True), living).protections
    current = dict(world.written).get(world.deny_name or "")
    name, written = world.deny_name, world.written
    if denial.document is None:
        name = None if protocol.fresh_names else name
    elif not still_named(name, current, denial.document):
        name = policy_name(DENY, _next(written, DENY))
        written = (*written, (name, denial.document))
    deals = tuple(
        deal._replace(by=ProtectedBy.reads)
        if protocol.downgrade and (told := claims.get(grant)) and told.by is ProtectedBy.reads
        else deal
        for grant, deal in zip(GRANTS, world.deals, strict=True)
    )
    doomed = () if protocol.same_name else tuple(Op(each) for each in _doomed(world))
    deny = () if denial.document is None or name in dict(world.shown) else (Op(name or "", denial.document),)
    over = tuple(_is_over(deal, protocol) for deal in deals)
    run = Run("begin", denial.document, doomed, deny, unclean=bool(doomed), over=over)
    return world._replace(deals=deals, deny_name=name, written=written, run=run)


def _taken(world: World, protocol: Protocol, *, also_over: bool) -> tuple[TakenBack, ...]:
    """The grants whose Deny is wanted; or all that were not sealed yet."""
    taken = []
    for index, (grant, deal) in enumerate(zip(GRANTS, world.deals, strict=True)):
        over = _is_over(deal, protocol) and not _strays(world.shown, index) and not also_over
        if deal.paper is Paper.revoked and not deal.sealed and not over:
            versions = range(deal.terms + 1) if protocol.earlier else [deal.terms]
            taken.append(TakenBack(grant, tuple(TERMS[index][each] for each in versions)))
    return tuple(taken) if protocol.deny else ()


@lru_cache(maxsize=None)
def _decided(taken: tuple[TakenBack, ...], living: tuple[str, ...]) -> Denial:
    return decide(taken, living=living, observed={}, identity_arn=ARN, now=NOW)


def _is_over(deal: Deal, protocol: Protocol) -> bool:
    return deal.removed_for is not None and deal.removed_for >= protocol.keep


def _living(world: World) -> Iterator[str]:
    for index, deal in enumerate(world.deals):
        if deal.paper is Paper.agreed:
            yield TERMS[index][deal.terms]


def _doomed(world: World) -> list[str]:
    """Names of revoked grants that SES shows, or may hold unseen until the first clean read."""
    found = set()
    for index, deal in enumerate(world.deals):
        if deal.paper is Paper.revoked:
            names = {*dict(world.shown), *(dict(world.written) if deal.removed_for is None else ())}
            found |= {name for name in names if _slot(name) == index}
    return sorted(found)


def _strays(observed: Policies, index: int) -> bool:
    return any(_slot(name) == index for name, _ in observed)


def _slot(name: str) -> int | None:
    parsed = parse_name(name)
    return None if parsed is None else parsed.slot


def _work(world: World, run: Run, protocol: Protocol) -> Iterator[Step]:
    for lane in ("deny", "queue"):
        ops: tuple[Op, ...] = getattr(run, lane)
        if ops and not (lane == "queue" and run.failed):
            rest = run._replace(**{lane: ops[1:]})
            yield from _called(world, rest, ops[0], protocol, beside=lane == "deny")
    if not run.deny and (not run.queue or run.failed):
        yield from _advance(world, run, protocol)


def _called(world: World, run: Run, op: Op, protocol: Protocol, *, beside: bool) -> Iterator[Step]:
    """One request: done, refused for good, refused as one too many, or held back until the worker does not wait."""
    told = _told(op)
    done = world._replace(held=_executed(world.held, op, protocol))
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
    keeps = protocol.strays and run.unclean and not touched(dict(run.observed), _living(world))
    first = [Op(name) for name in todo.delete_first if not (keeps and _slot(name) == DENY)]
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


@lru_cache(maxsize=None)
def _plan(desired: tuple[tuple[int, str], ...], observed: Policies) -> Plan:
    return plan(dict(desired), dict(observed))


def _desired(world: World, run: Run, protocol: Protocol) -> dict[int, str]:
    """What the identity is to hold, by the paper as it was loaded."""
    desired = {} if run.document is None else {DENY: run.document}
    for index, deal in enumerate(world.deals):
        if run.changed[index]:
            continue
        if deal.paper is Paper.agreed:
            desired[index] = _allow(index, deal.terms)
        elif deal.paper is Paper.revoked and protocol.same_name:
            denied = TakenBack(GRANTS[index], (TERMS[index][deal.terms],))
            desired[index] = _decided((denied,), ()).document or ""
    return desired


@lru_cache(maxsize=None)
def _allow(index: int, version: int) -> str:
    terms = Terms(
        principals=(TERMS[index][version],), actions=(Action.send,), expires_at=NOW + timedelta(days=30)
    )
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
    return 1 + sum(_slot(name) == slot for name, _ in written)


def _is_replaced(name: str, observed: Policies, desired: Mapping[int, str]) -> bool:
    slot = _slot(name)
    return slot in desired and any(
        other != name and _slot(other) == slot and same_meaning(text, desired[slot]) for other, text in observed
    )


def _settled(world: World, run: Run, protocol: Protocol) -> World:
    """The last transaction: what the last read means for each grant whose paper has not changed meanwhile."""
    observed, deals = dict(run.observed), []
    for index, deal in enumerate(world.deals):
        if not run.changed[index]:
            if deal.paper is Paper.agreed:
                deal = _seen_alive(deal, index, observed)
            elif deal.paper is Paper.revoked:
                deal = _seen_ended(deal, index, run, _claimed(deal, index, world, protocol), protocol)
        deals.append(deal)
    return world._replace(deals=tuple(deals), shown=run.observed, run=None)


def _seen_alive(deal: Deal, index: int, observed: Mapping[str, str]) -> Deal:
    wanted = _allow(index, deal.terms)
    held = any(_slot(name) == index and same_meaning(text, wanted) for name, text in observed.items())
    if held and not touched(observed, [TERMS[index][deal.terms]]):
        return deal._replace(effect=Effect.applied)
    return deal


def _seen_ended(deal: Deal, index: int, run: Run, by: ProtectedBy, protocol: Protocol) -> Deal:
    """What the receipt says: gone by two reads, protected by a Deny that was read, sealed by a last clean read."""
    gone = not any(_slot(name) == index and not _denies(text) for name, text in run.observed)
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

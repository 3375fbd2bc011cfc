"""A small model of SES, the paper and the worker that syncs them, explored through all interleavings.

What decides is the code of the product: `compile`, `plan`, `shares`, `deny`, `narrow` and the evaluator. Modelled is
the order of steps: parties decide, the worker claims, loads the paper, sends each call, reads and settles, and
between any two of these somebody else may move, the worker may die, SES may throttle or refuse one call, or hold one
request back and execute it late. A revoke names the Deny in its own commit; the claim brings it, and it is sent beside
the loading. An account may be closed, and from then on SES refuses every policy that names it. A request lives for
`LIFE` ticks, since a signature has an end (IAM User Guide, reference_sigv: five minutes for most services); a Deny is
kept for `Protocol.keep` of them.
"""

import gc
from collections import deque
from collections.abc import Iterator, Mapping
from functools import cache
from uuid import UUID

from broker.policies.compile import grant_of
from broker.policies.context import Send
from broker.policies.deny import ProtectedBy, protects
from broker.policies.document import read
from broker.policies.evaluate import Decision, evaluate
from tests.policies import protocol_worker as worker
from tests.policies.protocol_deny import name_ahead
from tests.policies.protocol_world import (
    ARN,
    GRANTS,
    LIFE,
    NOW,
    SENDERS,
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
    denies,
    executed,
    is_over,
    told_of,
)

START = World()


def explore(protocol: Protocol, *, start: World = START, most: int = 1_000_000) -> tuple[list[World], list[str]]:
    """Every state, and the shortest way to one in which the protocol has lied; empty without one."""
    came: dict[World, tuple[World, str] | None] = {start: None}
    todo = deque([start])
    gc.disable()  # nothing here is garbage before the end, and looking for it would take most of the time
    try:
        while todo:
            world = todo.popleft()
            if lies(world, protocol):
                return list(came), _way(came, world)
            for label, following in steps(world, protocol):
                if following not in came:
                    came[following] = (world, label)
                    todo.append(following)
            assert len(came) < most, "the model has too many states"
    finally:
        gc.enable()
    return list(came), []


def at_rest(world: World, protocol: Protocol, *, runs: int = 8) -> World:
    """What becomes of it when nobody moves any more and SES does what it is asked."""
    world = world._replace(late=None)
    while runs:
        if world.run is None:
            runs -= 1
            world = worker.claim(_later(world), protocol)
        else:
            _, world = next(worker.work(world, world.run, protocol))
    return world._replace(run=None)


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
        if behind_deny and protocol.deny and not is_over(deal, protocol) and not _shut(world.held, index, deal.terms):
            return True
    return False


@cache
def _shut(held: Policies, index: int, terms: int) -> bool:
    return protects(dict(held), [TERMS[index][terms]], ARN)


@cache
def in_force(held: Policies, grant: UUID) -> bool:
    """Whether SES would let anybody send by an Allow of this grant, by the evaluator."""
    texts = [text for _, text in held if _is_of(text, grant) or denies(text)]
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


def steps(world: World, protocol: Protocol) -> Iterator[Step]:
    """Every move of anybody."""
    run = world.run
    if run is None or run.stage == "claimed" or (run.stage == "settle" and not run.queue):
        yield from _parties(world, protocol)  # elsewhere nobody looks at paper or clock
    if run is None:
        yield "time goes by", _later(world)
    if world.late is not None and _matters(world.late[0], run):
        op, _ = world.late
        yield f"SES is late with {told_of(op)}", world._replace(held=executed(world, op, protocol), late=None)
    if run is None:
        yield "the worker claims", worker.claim(world, protocol)
    else:
        if world.faults:
            yield "the worker dies", world._replace(run=None, faults=world.faults - 1)
        yield from worker.work(world, run, protocol)


def _parties(world: World, protocol: Protocol) -> Iterator[Step]:
    first, second = world.deals
    if first.terms == 1 and world.faults and not world.closed:
        yield "an account is closed", world._replace(closed=True, faults=world.faults - 1)
    if first.paper is Paper.agreed and first.terms == 0:
        yield "amend", _with(world, 0, first._replace(terms=1))
    if first.paper is Paper.revoked and second.paper is Paper.none:
        yield "grant again", _with(world, 1, second._replace(paper=Paper.agreed))
    for index, deal in enumerate(world.deals):
        if deal.paper is Paper.agreed:
            ended = Deal(Paper.revoked, deal.terms, Effect.removing)
            yield f"revoke {index + 1}", name_ahead(_with(world, index, ended), protocol)


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


def _with(world: World, index: int, deal: Deal) -> World:
    deals = tuple(deal if place == index else each for place, each in enumerate(world.deals))
    run = world.run
    if run is not None and run.stage != "claimed":
        run = run._replace(changed=tuple(each or place == index for place, each in enumerate(run.changed)))
    return world._replace(deals=deals, run=run)

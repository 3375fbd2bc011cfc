"""The Deny in the model of the revocation protocol: what it says, under which name, and what a receipt claims of it."""

from functools import cache
from itertools import count
from uuid import UUID

from broker.policies.deny import (
    Denial,
    ProtectedBy,
    Protection,
    TakenBack,
    decide,
    protects,
    shut_out,
    still_named,
    touched,
)
from broker.policies.narrow import left_out, narrows, with_refusal
from broker.policies.plan import DENY, parse_name, policy_name
from tests.policies.protocol_world import (
    ARN,
    GRANTS,
    NOW,
    REFUSAL,
    TERMS,
    Deal,
    Op,
    Paper,
    Policies,
    Protocol,
    Run,
    World,
    alive_in,
    is_over,
    slot_of,
    strays,
)


def name_ahead(world: World, protocol: Protocol) -> World:
    """What the transaction that takes access back does of it: the Deny is on paper before anybody claims it."""
    taken = taken_back(world, protocol, also_over=False)
    reasons = [deal.why for deal in world.deals if deal.paper is Paper.revoked and not deal.sealed]
    if not (protocol.ahead and protocol.committed and taken) or any(map(narrows, reasons)):
        return world
    return named(world, decided(taken, tuple(alive_in(world)), ()).document, protocol)


def brought(world: World, protocol: Protocol) -> Op | None:
    if protocol.committed:
        document = dict(world.written).get(world.deny_name or "")
        return None if document is None or world.deny_name in dict(world.shown) else Op(world.deny_name or "", document)
    wanted = decided(taken_back(world, protocol, also_over=False), tuple(alive_in(world)), ()).document
    if wanted is None or any(slot_of(name) == DENY and text == wanted for name, text in world.shown):
        return None
    return Op(_made_up(world), wanted)


def _made_up(world: World) -> str:
    """The next name after those that a read has shown: what a worker takes that has no paper to name it."""
    return next(name for version in count(1) if (name := policy_name(DENY, version)) not in dict(world.shown))


def named(world: World, document: str | None, protocol: Protocol) -> World:
    """The name under which the Deny stands or is to stand goes on paper: another one for other content."""
    if document is None:
        return world._replace(deny_name=None) if protocol.fresh_names else world
    if still_named(world.deny_name, dict(world.written).get(world.deny_name or ""), document):
        return world
    return with_name(world, _unused(world), document)


def with_name(world: World, name: str, document: str) -> World:
    written = (*(each for each in world.written if slot_of(each[0]) != DENY), (name, document))
    return world._replace(deny_name=name, written=written)


def _unused(world: World) -> str:
    """A name for a Deny, newer than all that anything knows. As good as one that was never used, and fewer states."""
    known = {*dict(world.held), *dict(world.shown), world.deny_name, world.late[0].name if world.late else None}
    if world.run is not None:
        known |= {*dict(world.run.observed), *(op.name for op in world.run.deny)}
    versions = [parsed.version for name in known if name and (parsed := parse_name(name)) and parsed.is_deny]
    return policy_name(DENY, max(versions, default=0) + 1)


def taken_back(world: World, protocol: Protocol, *, also_over: bool) -> tuple[TakenBack, ...]:
    """The grants whose Deny is wanted; or all that were not sealed yet."""
    taken = []
    for index, (grant, deal) in enumerate(zip(GRANTS, world.deals, strict=True)):
        over = is_over(deal, protocol) and not strays(world.shown, index) and not also_over
        if deal.paper is Paper.revoked and not deal.sealed and not over:
            versions = range(deal.terms + 1) if protocol.earlier else [deal.terms]
            taken.append(TakenBack(grant, tuple(TERMS[index][each] for each in versions)))
    return tuple(taken) if protocol.deny else ()


@cache
def decided(taken: tuple[TakenBack, ...], living: tuple[str, ...], refused: tuple[tuple[str, str], ...]) -> Denial:
    return decide(taken, living=living, observed={}, identity_arn=ARN, now=NOW, refused=dict(refused))


def refused_before(world: World, protocol: Protocol) -> tuple[tuple[str, str], ...]:
    """Whom the next Deny leaves out, and why."""
    if not protocol.narrows or not any(deal.why for deal in world.deals):
        return ()
    tried = tuple(each for each in world.written if each[0] == world.deny_name)
    reasons = tuple((grant, deal.why) for grant, deal in zip(GRANTS, world.deals, strict=True) if deal.why)
    return _left_out(taken_back(world, protocol, also_over=True), reasons, tried, world.shown)


@cache
def _left_out(
    taken: tuple[TakenBack, ...], reasons: tuple[tuple[UUID, str], ...], tried: Policies, shown: Policies
) -> tuple[tuple[str, str], ...]:
    found = left_out(taken, reasons=dict(reasons), tried=dict(tried), observed=dict(shown), identity_arn=ARN)
    return tuple(sorted(found.items()))


def borne_out(deal: Deal, told: Protection | None, protocol: Protocol) -> Deal:
    """What was said of the last Deny is off the paper, and so is a claim that the next one does not bear out."""
    if narrows(deal.why):
        deal = deal._replace(why=None)
    if told is None or told.by is not ProtectedBy.reads or not protocol.downgrade:
        return deal
    return deal._replace(by=ProtectedBy.reads, why=about_refusal(told.reason))


def claimed(deal: Deal, index: int, world: World, run: Run, protocol: Protocol) -> Protection:
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


def about_refusal(reason: str | None) -> str | None:
    return reason if reason is not None and reason.startswith("SES refuses ") else None


def stays(name: str, world: World, run: Run) -> bool:
    """A Deny that says more than the next one, where what it is against has just been seen."""
    if slot_of(name) != DENY or not run.unclean:
        return False
    old = dict(world.held).get(name, "")
    return _says_more(old, run.document or "") and not touched({name: old}, alive_in(world))


@cache
def _says_more(old: str, new: str) -> bool:
    before = shut_out({policy_name(DENY, 1): old}, ARN)
    return not protects({policy_name(DENY, 2): new}, before, ARN)

"""Would this send be allowed? For a grant, an identity or pasted policies; reads only."""

from collections.abc import Sequence
from datetime import datetime
from email.utils import parseaddr
from uuid import UUID

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker import clock
from broker.caller import Caller
from broker.db import Database
from broker.errors import Flaw, Invalid
from broker.grants.lifecycle import Party, State, state_of
from broker.grants.models import Grant
from broker.grants.present import party_of, standing_of, terms_of
from broker.grants.sending.asked import Asked, Decided, Puzzle, Simulation
from broker.grants.sending.checklist import Known, checklist
from broker.grants.sending.decide import Basis, decide
from broker.grants.sending.items import Item, Status, ok, problem, unknown
from broker.grants.sending.published import Question, Resolver, look_up
from broker.grants.service import find
from broker.identities.facts import Attributes
from broker.identities.models import Identity
from broker.identities.service import find as find_identity
from broker.policies.advice import Advice, explain_error
from broker.policies.arns import is_domain_name, parse_identity_arn, principal_account
from broker.policies.causes import About
from broker.policies.compile import document, statements
from broker.policies.document import Document, DocumentError, read_any
from broker.policies.evaluate import Decision
from broker.policies.terms import Terms

_HIDDEN = "Another policy of the owner decides this; only the owner can see it."


class _Subject(msgspec.Struct, frozen=True):
    """What the send is looked at under. `grant_id` is set where only that grant's own words may be shown."""

    known: Known
    basis: Basis
    caller: str | None
    items: tuple[Item, ...] = ()
    own: Basis | None = None
    grant_id: UUID | None = None
    delegate_id: UUID | None = None


async def simulate(db: Database, caller: Caller, asked: Asked, *, resolver: Resolver) -> Simulation:
    """The decision of the policies and a checklist of everything else; `Invalid` names what cannot be asked."""
    if sum(each is not None for each in (asked.grant_id, asked.identity_id, asked.policies)) != 1:
        what = "Give exactly one of grant_id, identity_id and policies."
        raise Invalid(what, flaws=(Flaw("", what),))
    now = clock.now()
    subject = await _subject(db, caller, asked, now)
    decided, known = _decided(asked, subject, now)
    known = await _with_sender(db, known, subject.delegate_id)
    items = [*subject.items, *checklist(asked.send, known)]
    if asked.dns and (question := _question(asked, known)) is not None:
        items += await look_up(resolver, question)
    return _simulation(decided, known, items)


def simulate_pasted(asked: Asked, *, now: datetime) -> Simulation:
    """The same for pasted policies, with nothing but them; `Invalid` names what cannot be asked."""
    decided, known = _decided(asked, _of_pasted(asked), now)
    return _simulation(decided, known, checklist(asked.send, known))


def _simulation(decided: Decided, known: Known, items: Sequence[Item]) -> Simulation:
    stopped = any(item.stops and item.status is Status.problem for item in items)
    allowed = decided.decision is Decision.allow and not stopped
    return Simulation(allowed, str(known.identity), decided, tuple(items))


async def explain(db: Database, caller: Caller, puzzle: Puzzle) -> Advice:
    """What is behind an error text of AWS, in the light of a grant where one is named."""
    about = About()
    if puzzle.grant_id is not None:
        async with db.read(caller) as session:
            grant, offer = await find(session, caller, puzzle.grant_id)
        about = About.of(identity_arn=grant.identity_arn, terms=terms_of(grant.terms or offer.terms))
    return explain_error(puzzle.text, about)


def _nobody() -> str:
    raise ValueError("Say who sends: caller is an account id, or the ARN of a user, role or session.")


async def _subject(db: Database, caller: Caller, asked: Asked, now: datetime) -> _Subject:
    if asked.grant_id is not None:
        return await _of_grant(db, caller, asked.grant_id, now)
    if asked.identity_id is not None:
        async with db.read(caller) as session:
            row = await find_identity(session, caller, asked.identity_id)
        known = Known(parse_identity_arn(row.arn), verified=row.verified, attributes=_attributes(row))
        return _Subject(known, Basis("ses", row.policies, row.read_at), None)
    return _of_pasted(asked)


def _of_pasted(asked: Asked) -> _Subject:
    if asked.identity_arn is None:
        raise Invalid("policies needs identity_arn.", flaws=(Flaw("/identity_arn", "Name the identity's ARN."),))
    try:
        identity = parse_identity_arn(asked.identity_arn)
    except ValueError as error:
        raise Invalid(str(error), flaws=(Flaw("/identity_arn", str(error)),)) from error
    policies: dict[str, str | Document] = {}
    for place, given in enumerate(asked.policies or ()):
        try:
            policies[str(place)] = read_any(given)
        except DocumentError as error:
            raise Invalid(
                f"Policy {place} cannot be read: {error}", flaws=(Flaw(f"/policies/{place}", str(error)),)
            ) from error
    return _Subject(Known(identity), Basis("pasted", policies), None)


async def _of_grant(db: Database, caller: Caller, grant_id: UUID, now: datetime) -> _Subject:
    async with db.read(caller) as session:
        grant, offer = await find(session, caller, grant_id)
    terms, state = terms_of(grant.terms or offer.terms), state_of(standing_of(grant, offer), now)
    # The delegate may not read the owner's rows; what it is told of them is what a sender has to know, and no more.
    async with db.read(Caller.system(grant.owner_id, job="simulate")) as session:
        row = await session.get_one(Identity, grant.identity_id)
    own = _compiled(grant, terms)
    live = state is State.ACTIVE and row.read_at is not None
    is_owner = party_of(grant, caller.tenant) is Party.OWNER
    return _Subject(
        known=Known(
            parse_identity_arn(grant.identity_arn),
            verified=row.verified if row.read_at is not None else None,
            attributes=_attributes(row),
            terms=terms,
            secret=not is_owner,
        ),
        basis=Basis("ses", row.policies, row.read_at) if live else own,
        caller=terms.principals[0],
        items=(_standing(state, read=row.read_at is not None),),
        own=own,
        grant_id=None if is_owner else grant.id,
        delegate_id=grant.delegate_id,
    )


def _compiled(grant: Grant, terms: Terms) -> Basis:
    text = document(statements(terms, grant_id=grant.id, identity_arn=grant.identity_arn))
    return Basis("terms", {"terms": text})


def _standing(state: State, *, read: bool) -> Item:
    if state is State.ACTIVE and not read:
        sentence = "The owner has said that the policy is applied; nobody has read SES to see."
        return unknown("grant", sentence, "The owner runs the export's command that reads it back.")
    if state is State.ACTIVE:
        return ok("grant", "The grant is active: SES was read with its policy.")
    sentence = f"The grant is {state.value}: its policy is not known to be on the identity."
    if state in {State.PROPOSED, State.SCHEDULED, State.ACTIVATING}:
        return problem("grant", sentence, "Wait until it is active; below is what its terms would allow.")
    return problem("grant", sentence, "Agree on a new grant; below is what its terms would allow.")


def _decided(asked: Asked, subject: _Subject, now: datetime) -> tuple[Decided, Known]:
    """The verdict, and what is known with the sending account."""
    try:
        who = asked.send.caller or subject.caller or _nobody()
        return _told(asked, subject, who, now), msgspec.structs.replace(
            subject.known, account_id=principal_account(who)
        )
    except DocumentError as error:
        raise Invalid(f"A policy cannot be read: {error}", flaws=(Flaw("/policies", str(error)),)) from error
    except ValueError as error:
        raise Invalid(str(error), flaws=(Flaw("/send", str(error)),)) from error


def _told(asked: Asked, subject: _Subject, who: str, now: datetime) -> Decided:
    """The verdict; for the delegate without a word of policies that are not its grant's."""
    arn = str(subject.known.identity)
    found = decide(asked.send, subject.basis, identity_arn=arn, caller=who, now=now)
    if subject.grant_id is None or subject.own is None or (found.statement or "").startswith(subject.grant_id.hex):
        return found
    own = decide(asked.send, subject.own, identity_arn=arn, caller=who, now=now)
    told = own.reason if own.decision is found.decision is Decision.implicit_deny else _HIDDEN
    return msgspec.structs.replace(found, policy=None, statement=None, reason=told)


async def _with_sender(db: Database, known: Known, delegate_id: UUID | None) -> Known:
    """With what is known of the sending account: from a role connection of the grant's delegate, if it has one."""
    if delegate_id is None or known.own_account:
        return known
    async with db.read(Caller.system(delegate_id, job="simulate")) as session:
        return msgspec.structs.replace(known, sender=await _sender(session, known, delegate_id))


async def _sender(session: AsyncSession, known: Known, delegate_id: UUID) -> Attributes | None:
    query = (
        select(Identity)
        .where(
            Identity.tenant_id == delegate_id,
            Identity.account_id == known.account_id,
            Identity.region == known.identity.region,
            Identity.removed_at.is_(None),
        )
        .limit(1)
    )
    row = await session.scalar(query)
    return None if row is None else _attributes(row)


def _attributes(row: Identity) -> Attributes:
    return msgspec.convert(row.attributes, Attributes)


def _question(asked: Asked, known: Known) -> Question | None:
    """What to ask the DNS; None where From names no domain."""
    domain = parseaddr(asked.send.from_)[1].rpartition("@")[2].lower()
    if not is_domain_name(domain):
        return None
    facts = known.attributes if known.attributes is not None and known.attributes.dkim is not None else None
    return Question(
        from_domain=domain,
        identity_domain=known.identity.domain,
        region=known.identity.region,
        signs=None if facts is None else facts.dkim == "SUCCESS" and facts.dkim_signing is not False,
        mail_from=None if facts is None else facts.mail_from or "",
    )

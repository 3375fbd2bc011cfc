"""Grants over HTTP."""

from uuid import UUID

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from broker.audit.service import Entry
from broker.audit.signing import Signer
from broker.caller import Caller, Scope
from broker.crypto import Keyring
from broker.db import Database
from broker.grants import negotiate, receipts, service
from broker.grants.views import (
    Counter,
    GrantView,
    OfferView,
    PolicyView,
    Proposal,
    Reason,
    Receipt,
)
from broker.settings import Settings
from broker.web import NO_STORE, IfMatch, Page, after, checked_size, expected_version, needs, page_of


def tagged(grant: GrantView) -> Response[GrantView]:
    """With the ETag that an approval names."""
    return Response(grant, headers={"ETag": grant.etag})


class GrantController(Controller):
    """Grants: proposing and reading."""

    path = "/v1/grants"
    tags = ("Grants",)

    @get(summary="List grants", operation_id="listGrants", guards=[needs(Scope.READ)])
    async def list_grants(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        identity_arn: FromQuery[str | None] = None,
        page_token: FromQuery[str | None] = None,
        page_size: FromQuery[int] = 50,
    ) -> Page[GrantView]:
        """Grants that you are a party to, oldest first."""
        size = checked_size(page_size)
        rows = await service.list_grants(db, caller, identity_arn=identity_arn, after=after(page_token), limit=size + 1)
        return page_of(rows, size, lambda grant: grant.id)

    @post(summary="Propose a grant", operation_id="proposeGrant", guards=[needs(Scope.DECIDE)])
    async def propose(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        settings: NamedDependency[Settings],
        data: JSONBody[Proposal],
    ) -> Response[GrantView]:
        """Puts terms forward. The other party approves, counters or declines them before they lapse."""
        return tagged(await negotiate.propose(db, caller, data, lifetime=settings.offer_lifetime))

    @get(
        "/{grant_id:uuid}",
        summary="Show a grant",
        operation_id="showGrant",
        response_headers=NO_STORE,
        guards=[needs(Scope.READ)],
    )
    async def show(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        keyring: NamedDependency[Keyring],
        grant_id: FromPath[UUID],
    ) -> Response[GrantView]:
        """The grant as it stands. The ETag header is what `If-Match` must carry to decide on its latest offer."""
        return tagged(await service.show(db, caller, grant_id, keyring=keyring))

    @get("/{grant_id:uuid}/offers", summary="List offers", operation_id="listOffers", guards=[needs(Scope.READ)])
    async def offers(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        grant_id: FromPath[UUID],
        page_token: FromQuery[str | None] = None,
        page_size: FromQuery[int] = 50,
    ) -> Page[OfferView]:
        """The versions of the terms, oldest first, in plain words and each compared with the one before."""
        size = checked_size(page_size)
        rows = await service.list_offers(db, caller, grant_id, after=after(page_token), limit=size + 1)
        return page_of(rows, size, lambda offer: offer.id)

    @get("/{grant_id:uuid}/history", summary="Show history", operation_id="showHistory", guards=[needs(Scope.READ)])
    async def history(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        grant_id: FromPath[UUID],
        page_token: FromQuery[str | None] = None,
        page_size: FromQuery[int] = 50,
    ) -> Page[Entry]:
        """What was done to the grant and by whom, oldest first."""
        size = checked_size(page_size)
        rows = await service.history(db, caller, grant_id, after=after(page_token), limit=size + 1)
        return page_of(rows, size, lambda entry: entry.id)

    @get("/{grant_id:uuid}/receipt", summary="Show the receipt", operation_id="showReceipt", guards=[needs(Scope.READ)])
    async def receipt(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        signer: NamedDependency[Signer],
        grant_id: FromPath[UUID],
    ) -> Receipt:
        """When the end was asked for, when SES was first read without the access, and when that was verified.

        `signed` is for both parties to keep: what was agreed and what became of it, signed with the service's key.
        """
        return await receipts.receipt(db, caller, grant_id, signer=signer)

    @get("/{grant_id:uuid}/policy", summary="Show the policy", operation_id="showPolicy", guards=[needs(Scope.READ)])
    async def policy(
        self, db: NamedDependency[Database], caller: NamedDependency[Caller], grant_id: FromPath[UUID]
    ) -> PolicyView:
        """The SES policy that the terms compile to, what it permits in plain words, and what to mind about it."""
        return await service.policy(db, caller, grant_id)


class NegotiationController(Controller):
    """Grants: deciding and amending."""

    path = "/v1/grants/{grant_id:uuid}"
    tags = ("Negotiation",)
    guards = (needs(Scope.DECIDE),)

    @post("/approve", summary="Approve the offer", operation_id="approveOffer", status_code=202)
    async def approve(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        grant_id: FromPath[UUID],
        if_match: IfMatch = None,
    ) -> Response[GrantView]:
        """Agrees to the offer named by `If-Match`, and to no other. Workers apply it; the state tells."""
        return tagged(await negotiate.approve(db, caller, grant_id, expected=expected_version(if_match)))

    @post("/counter", summary="Counter the offer", operation_id="counterOffer", status_code=202)
    async def counter(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        settings: NamedDependency[Settings],
        grant_id: FromPath[UUID],
        data: JSONBody[Counter],
        if_match: IfMatch = None,
    ) -> Response[GrantView]:
        """Answers the offer named by `If-Match` with other terms."""
        return tagged(
            await negotiate.counter(
                db,
                caller,
                grant_id,
                data,
                expected=expected_version(if_match),
                lifetime=settings.offer_lifetime,
            )
        )

    @post("/amend", summary="Propose an amendment", operation_id="amendGrant", status_code=202)
    async def amend(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        settings: NamedDependency[Settings],
        grant_id: FromPath[UUID],
        data: JSONBody[Counter],
        if_match: IfMatch = None,
    ) -> Response[GrantView]:
        """Proposes other terms for a live grant. The agreed ones stay in force until the other party approves."""
        return tagged(
            await negotiate.amend(
                db,
                caller,
                grant_id,
                data,
                expected=expected_version(if_match),
                lifetime=settings.offer_lifetime,
            )
        )

    @post("/decline", summary="Decline the offer", operation_id="declineOffer", status_code=202)
    async def decline(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        grant_id: FromPath[UUID],
        data: JSONBody[Reason | None] = None,
    ) -> Response[GrantView]:
        """Says no to the other party's offer."""
        return tagged(await negotiate.decline(db, caller, grant_id, data or Reason()))

    @post("/withdraw", summary="Withdraw your offer", operation_id="withdrawOffer", status_code=202)
    async def withdraw(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        grant_id: FromPath[UUID],
        data: JSONBody[Reason | None] = None,
    ) -> Response[GrantView]:
        """Takes your own open offer back."""
        return tagged(await negotiate.withdraw(db, caller, grant_id, data or Reason()))

"""What the parties take away from a grant: the delegate's sending kit, and the owner's export."""

import re
from uuid import UUID

from broker.caller import Caller
from broker.db import Database
from broker.errors import BadRequest, Conflict
from broker.grants.hooks import OwnSet
from broker.grants.lifecycle import Party
from broker.grants.present import party_of, terms_of
from broker.grants.service import find
from broker.policies.export import Export
from broker.policies.export import export as exported
from broker.policies.kit import Format, Kit, Snippet
from broker.policies.kit import kit as made

_SET_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # SES API v2, CreateConfigurationSet


async def kit(db: Database, caller: Caller, grant_id: UUID, *, configuration_set: str | None, own_set: OwnSet) -> Kit:
    """Snippets for the agreed terms, or for those on the table.

    `configuration_set` is the delegate's own; without one it is that of the grant's route, by which feedback is heard.
    """
    async with db.read(caller) as session:
        grant, offer = await find(session, caller, grant_id)
        made_set = await own_set(session, grant_id)
    if configuration_set is not None and not _SET_NAME.fullmatch(configuration_set):
        raise BadRequest("configuration_set must be 1 to 64 letters, digits, dashes and underscores.")
    terms = terms_of(grant.terms or offer.terms)
    return made(terms, identity_arn=grant.identity_arn, configuration_set=configuration_set or made_set)


def one(whole: Kit, form: Format) -> Snippet:
    """One snippet; `Conflict` where the terms do not permit its call."""
    found = next((each for each in whole.snippets if each.format is form), None)
    if found is None:
        offered = ", ".join(each.format.value for each in whole.snippets)
        raise Conflict(f"The terms of this grant do not permit the call of {form.value}; there are {offered}.")
    return found


async def export(db: Database, caller: Caller, grant_id: UUID) -> Export:
    """The policy for the owner to apply by itself; `Conflict` for the delegate, whose identity it is not."""
    async with db.read(caller) as session:
        grant, offer = await find(session, caller, grant_id)
    if party_of(grant, caller.tenant) is not Party.OWNER:
        raise Conflict("Only the owner of a grant can export it: the policy belongs on the owner's identity.")
    terms = terms_of(grant.terms or offer.terms)
    return exported(terms, grant_id=grant.id, identity_arn=grant.identity_arn)

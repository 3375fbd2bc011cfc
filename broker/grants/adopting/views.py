"""What the adoption of a policy takes."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from broker.grants.views import Note


class Adopting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A grant in the place of a policy that somebody wrote without the broker."""

    delegate_id: Annotated[UUID, Meta(description="The tenant id of the delegate whose accounts the policy names")]
    expires_at: Annotated[
        datetime | None,
        Meta(
            description="When the grant ends; needed for a policy without an end, and never after the policy's own",
            examples=["2027-02-20T00:00:00Z"],
        ),
    ] = None
    note: Note | None = None

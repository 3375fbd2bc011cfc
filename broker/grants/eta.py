"""How long a revocation of many grants takes at SES's own rate: a rule, with nothing but counts of calls in it."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

import msgspec

ONE_CALL = timedelta(seconds=1)
"""Create-, Update-, Delete- and GetEmailIdentityPolicies: each "no more than once per second" (their pages of the SES
API v2 reference), counted by account and Region (SES Developer Guide, quotas)."""


class Calls(msgspec.Struct, frozen=True):
    """How many calls of each operation an identity needs until its grants are `revoked`.

    `reads` come before the first clean look is over; one more follows, which proves it.
    """

    creates: int = 0
    deletes: int = 0
    reads: int = 1


class Load(msgspec.Struct, frozen=True):
    """The calls of one identity, and where they are counted: account and Region."""

    identity_id: UUID
    place: tuple[str, str]
    calls: Calls


class Within(msgspec.Struct, frozen=True):
    """By when an identity is first read without the access, and by when a second time: from now on, at SES's rate."""

    removed: timedelta
    revoked: timedelta


def calls_for(*, deletes: int, reduced: int, deny: int) -> Calls:
    """The calls of one sync and the second look: a shared document is written anew without those who go.

    The new version is read before the old one goes, and the identity once more after that.
    """
    reads = 1 + (deny + reduced > 0) + (reduced > 0)
    return Calls(creates=deny + reduced, deletes=deletes + reduced, reads=reads)


def schedule(loads: Sequence[Load], *, gap: timedelta) -> Mapping[UUID, Within]:
    """When each identity is done, worked on in this order; accounts and Regions go side by side.

    `gap` is the least time between the two looks. Every identity gets its first look before any gets its second: what
    is still open goes before what only has to be proven. It counts no call of others and no trouble, so SES may take
    longer, and not be quicker by much.
    """
    found: dict[UUID, Within] = {}
    for place in dict.fromkeys(load.place for load in loads):
        found.update(_in_one_place([load for load in loads if load.place == place], gap))
    return found


def _in_one_place(loads: Iterable[Load], gap: timedelta) -> Mapping[UUID, Within]:
    created = deleted = read = timedelta(0)
    removed: dict[UUID, timedelta] = {}
    for load in loads:
        created += load.calls.creates * ONE_CALL
        deleted += load.calls.deletes * ONE_CALL
        # What this identity has none of, it does not wait for.
        changed = max(created if load.calls.creates else timedelta(0), deleted if load.calls.deletes else timedelta(0))
        read = max(read + load.calls.reads * ONE_CALL, changed + ONE_CALL)
        removed[load.identity_id] = read
    found: dict[UUID, Within] = {}
    for identity_id, first in removed.items():
        read = max(read, first + gap) + ONE_CALL
        found[identity_id] = Within(first, read)
    return found

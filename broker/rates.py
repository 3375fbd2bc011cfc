"""How many requests a tenant and a key may make: token buckets of this process, and what an answer tells of them.

A bucket holds ten seconds' worth of requests and fills evenly, so that a burst passes and a flood does not.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

import msgspec

from broker.errors import TooManyRequests

WINDOW = 10.0  # seconds' worth that a bucket holds
MINUTE = 60.0
MOST_KEPT = 10_000  # buckets and keys at a time

Who = tuple[str, UUID]  # the policy's name, and the tenant or key


class Policy(msgspec.Struct, frozen=True):
    """`quota` requests pass at once, and as many again evenly over `window` seconds."""

    name: str
    quota: float
    window: float
    whose: str

    @property
    def header(self) -> str:
        """An item of `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10, section 3)."""
        return f'"{self.name}";q={math.floor(self.quota)};w={math.ceil(self.window)}'


class Bucket:
    """What is left, and when that was so, in seconds of a clock that only goes forward."""

    __slots__ = ("at", "left")

    def __init__(self, left: float, at: float) -> None:
        self.left = left
        self.at = at


class Standing(msgspec.Struct, frozen=True):
    """Where a request stands with the policies that it falls under; `refused` names the one that it is against."""

    policies: tuple[Policy, ...]
    left: tuple[float, ...]
    refused: Policy | None = None

    @property
    def retry_after(self) -> timedelta:
        """Until one more request passes."""
        waits = [(1 - left) * each.window / each.quota for each, left in zip(self.policies, self.left, strict=True)]
        return timedelta(seconds=max(1, math.ceil(max(waits))))

    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """`RateLimit` and `RateLimit-Policy`; `t` is when the bucket is full, or with nothing left `Retry-After`."""
        wait = math.ceil(self.retry_after.total_seconds())
        items = []
        for each, left in zip(self.policies, self.left, strict=True):
            full = math.ceil((each.quota - left) * each.window / each.quota)
            items.append(f'"{each.name}";r={max(0, math.floor(left))};t={wait if left < 1 else full}')
        told = ", ".join(each.header for each in self.policies)
        return (b"ratelimit", ", ".join(items).encode()), (b"ratelimit-policy", told.encode())

    def error(self) -> TooManyRequests:
        """The refusal as a sentence."""
        policy = self.refused or self.policies[0]
        seconds = math.ceil(self.retry_after.total_seconds())
        return TooManyRequests(
            f"{policy.whose} may make {math.floor(policy.quota)} of these requests in {math.ceil(policy.window)}"
            f" seconds (policy {policy.name}); try again in {seconds} seconds. Taking access back is never refused.",
            retry_after=timedelta(seconds=seconds),
        )


class Rates:
    """The buckets of one process. A rate of 0 is no limit; `acts` are further limits by name, each for a minute."""

    def __init__(self, *, tenant: float, key: float, acts: Mapping[str, float] | None = None) -> None:
        self._tenant = Policy("tenant", tenant * WINDOW, WINDOW, "A tenant") if tenant else None
        self._key = Policy("key", key * WINDOW, WINDOW, "An API key") if key else None
        self._acts = {name: Policy(name, most, MINUTE, "A tenant") for name, most in (acts or {}).items() if most}
        self._buckets: dict[Who, Bucket] = {}
        self._known: dict[bytes, tuple[UUID, UUID]] = {}
        self.taken: dict[Who, int] = {}  # since somebody last looked, for the other processes

    def refused(self, digest: bytes, now: float) -> Standing | None:
        """Whether a key that was seen before has nothing left: its flood is turned away without the database."""
        known = self._known.get(digest)
        standing = self._stand(self._general(*known), now, count=0) if known else None
        return standing if standing and standing.refused else None

    def take(self, digest: bytes, tenant_id: UUID, key_id: UUID, *, act: str | None, now: float) -> Standing | None:
        """One request of a key that is valid; None where nothing limits it. What is refused takes nothing."""
        if digest not in self._known:
            if len(self._known) >= MOST_KEPT:
                self._known.clear()
            self._known[digest] = tenant_id, key_id
        policies = self._general(tenant_id, key_id)
        policy = self._acts.get(act) if act else None
        if policy:
            policies = [*policies, (policy, (policy.name, tenant_id))]
        return self._stand(policies, now, count=1)

    def spend(self, who: Who, count: int, now: float) -> None:
        """What other processes have let pass; a bucket may so fall below zero, by one window's worth at most."""
        policy = {"tenant": self._tenant, "key": self._key}.get(who[0]) or self._acts.get(who[0])
        if policy is not None:
            bucket = self._bucket(policy, who, now)
            bucket.left = max(bucket.left - count, -policy.quota)

    def _general(self, tenant_id: UUID, key_id: UUID) -> list[tuple[Policy, Who]]:
        found = []
        if self._tenant:
            found.append((self._tenant, ("tenant", tenant_id)))
        if self._key:
            found.append((self._key, ("key", key_id)))
        return found

    def _stand(self, policies: Sequence[tuple[Policy, Who]], now: float, *, count: int) -> Standing | None:
        if not policies:
            return None
        buckets = [self._bucket(policy, who, now) for policy, who in policies]
        against = next((policy for (policy, _), bucket in zip(policies, buckets, strict=True) if bucket.left < 1), None)
        if against is None and count:
            for (_, who), bucket in zip(policies, buckets, strict=True):
                bucket.left -= count
                self.taken[who] = self.taken.get(who, 0) + count
        return Standing(tuple(policy for policy, _ in policies), tuple(bucket.left for bucket in buckets), against)

    def _bucket(self, policy: Policy, who: Who, now: float) -> Bucket:
        bucket = self._buckets.get(who)
        if bucket is None:
            if len(self._buckets) >= MOST_KEPT:
                self._forget(now)
            bucket = self._buckets[who] = Bucket(policy.quota, now)
        bucket.left = min(policy.quota, bucket.left + (now - bucket.at) * policy.quota / policy.window)
        bucket.at = now
        return bucket

    def _forget(self, now: float) -> None:
        """Lets go of what nobody has asked for in a minute: by then every bucket is as good as full."""
        self._buckets = {who: bucket for who, bucket in self._buckets.items() if now - bucket.at < MINUTE}

"""What must hold after every crash: nothing lost, nothing twice, nothing stuck, and SES as the paper says."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec

from bench.crash_scenarios import Run
from bench.crash_world import Broken, World, until
from broker.due import KINDS
from broker.local.world import DENY, OURS
from broker.policies.normal import parts

PATIENCE_S = 60.0
OVERDUE_S = 3.0
"""So long after its date nothing may wait that nobody holds: a sweep looks at least every 1.3 seconds."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """`lost`: events that a party was to hear and did not, and deliveries that are in no account. `duplicated`: events
    that are two, and webhooks that came more often than once and once more for each kill and replay. `resent`: those
    that came again, as "at least once" allows. `stuck`: due rows, grants and policies that nobody brings in order.
    """

    lost: int
    duplicated: int
    resent: int
    stuck: int
    why: str = ""


# Who hears an event: both parties as far as their terms let them, and of what is addressed to one endpoint that alone.
_EVENTS = """
    SELECT id::text, type, owner_id = $1::uuid AS owners, CASE WHEN owner_id = $1::uuid THEN owner_view IS NOT NULL
      ELSE delegate_view IS NOT NULL END AS heard
    FROM events WHERE (owner_id = $1::uuid AND owner_view IS NOT NULL)
      OR (delegate_id = $1::uuid AND delegate_view IS NOT NULL)
"""
_KNOWN = """
    SELECT data->>'message_id' AS mail, lower(data->>'recipient') AS recipient FROM events
    WHERE data->>'message_id' = ANY ($1)
"""
# What a delegate's topic told first and the owner's vouches for afterwards is a second row, which nobody hears.
_TWICE = """
    SELECT count(*) AS number FROM (
      SELECT FROM events WHERE type LIKE 'email.%' AND data ? 'message_id' AND data->>'recipient' IS NOT NULL
        AND coalesce(owner_view, delegate_view) IS NOT NULL
      GROUP BY owner_id, delegate_id, type, data->>'message_id', data->>'recipient' HAVING count(*) > 1) twice
"""
_PENDING = "SELECT count(*) AS number FROM deliveries"
_GRANTS = """
    SELECT g.id, g.paper, g.effect, g.stuck_at IS NOT NULL AS stuck, g.identity_arn,
      g.protected_by IS NOT NULL AND g.sealed_at IS NULL AND g.paper <> 'expired' AS unsealed FROM grants g
"""


class Checker:
    """Judges runs in one world; what was there before a run was judged with the one before."""

    def __init__(self, world: World, *, patience_s: float = PATIENCE_S) -> None:
        """`patience_s`: how long all may take to come to rest."""
        self._world = world
        self._patience_s = patience_s
        self._allowed: dict[str, int] = {}

    def judge(self, run: Run, *, kills: int) -> Verdict:
        """Waits until all is at rest, and looks."""
        why: list[str] = []
        stuck = self._stuck(why)
        lost = self._lost(run, why)
        resent, duplicated = self._copies(run, kills)
        twice = self._world.place.rows(_TWICE)[0]["number"]
        if twice or duplicated:
            why.append(f"{twice} events are two, {duplicated} webhooks came too often")
        return Verdict(lost=lost, duplicated=duplicated + twice, resent=resent, stuck=stuck, why="; ".join(why))

    def _stuck(self, why: list[str]) -> int:
        found: list[str] = []
        looks = (
            ("due rows", self._overdue),
            ("grants", self._ungranted),
            ("Denies", self._denies),
            ("deliveries", self._pending),  # last: what came to rest before has told somebody of it
        )
        for what, look in looks:
            last: list[Any] = []

            def at_rest(look: Any = look, last: list[Any] = last) -> bool:
                last[:] = look()
                return not last

            try:
                until(f"{what} are at rest", at_rest, seconds=self._patience_s)
            except Broken:
                found += [f"{what}: {each}" for each in last]
        why += found
        return len(found)

    def _overdue(self) -> list[str]:
        late = f"now() - interval '{OVERDUE_S} seconds'"
        query = " UNION ALL ".join(
            f"SELECT '{kind}' AS kind, id::text FROM {kind} WHERE due_at < {late}"  # noqa: S608 — our own tables
            f" AND (claimed_until IS NULL OR claimed_until < {late})"
            for kind in sorted(KINDS)
        )
        return [f"{row['kind']} {row['id']}" for row in self._world.place.rows(query)]

    def _pending(self) -> list[str]:
        number = self._world.place.rows(_PENDING)[0]["number"]
        return [f"{number} pending"] if number else []

    def _ungranted(self) -> list[str]:
        """Grants whose effect is not what their paper says, and identities that hold something else."""
        wanted: dict[str, set[UUID | None]] = {}
        wrong = []
        for row in self._world.place.rows(_GRANTS):
            live = row["paper"] == "agreed"
            wanted.setdefault(row["identity_arn"], set()).update({row["id"]} if live else set())
            settled = {"agreed": "applied", "open": "none"}.get(row["paper"], "removed")
            if row["stuck"] or row["effect"] != settled:
                wrong.append(f"{row['id']} is {row['paper']} and {row['effect']}")
        held = self._held()
        differ = [arn for arn in held if held[arn] != wanted.get(arn, set())]
        return wrong + [f"{arn} holds {held[arn]}" for arn in differ]

    def _denies(self) -> list[str]:
        """Grants that are gone and not sealed, and identities with a Deny that is against nobody any more."""
        rows = self._world.place.rows(_GRANTS)
        unsealed = {row["identity_arn"] for row in rows if row["unsealed"]}
        left = [arn for arn, policies in self._policies().items() if any(name.startswith(DENY) for name in policies)]
        return [f"{row['id']} is not sealed" for row in rows if row["unsealed"]] + [
            f"{arn} holds a Deny" for arn in left if arn not in unsealed
        ]

    def _held(self) -> Mapping[str, set[UUID | None]]:
        """Of which grants SES holds a policy of ours, by identity."""
        return {
            arn: {grant for name, text in policies.items() if _lets_in(name) for grant in parts(text)}
            for arn, policies in self._policies().items()
        }

    def _policies(self) -> Mapping[str, Mapping[str, str]]:
        """What SES holds, by identity."""
        state = self._world.place.aws.cloud.state
        with state.lock:
            every = [each for place in state.identities.values() for each in place.values()]
            return {each.arn: dict(each.history[-1].policies) for each in every}

    def _lost(self, run: Run, why: list[str]) -> int:
        """Events of the run that are nobody's, events that did not come to a party, deliveries in no account."""
        mails = sorted({mail for mail, _ in run.occurrences})
        known = {(row["mail"], row["recipient"]) for row in self._world.place.rows(_KNOWN, mails)}
        lost = len(run.occurrences - known)
        for name, inbox in self._world.inboxes.items():
            tenant = getattr(self._world, name)
            copies = inbox.read()
            expected = [
                row["id"]
                for row in self._world.place.rows(_EVENTS, tenant.id)
                if not row["type"].startswith("endpoint.")
            ]
            lost += sum(1 for each in expected if not copies[each])
            lost += sum(abs(day["missing"]) for day in tenant.get("/v1/usage")["days"])
        if lost:
            why.append(f"{lost} events or deliveries are lost")
        return lost

    def _copies(self, run: Run, kills: int) -> tuple[int, int]:
        """How many webhooks came again, and how many of them too often. A kill lets what was under way come again."""
        resent = duplicated = 0
        for name, inbox in self._world.inboxes.items():
            for event_id, copies in inbox.read().items():
                key = f"{name} {event_id}"
                before = self._allowed.get(key, 0)
                if copies > before:
                    most = max(before, 1) + kills + run.replayed if before == 0 else before + kills + run.replayed
                    resent += copies - max(before, 1)
                    duplicated += copies > most
                    self._allowed[key] = copies
        return resent, duplicated


def _lets_in(name: str) -> bool:
    """Whether it is a policy of ours for grants: a Deny may stay beside them for a while."""
    return name.startswith(OURS) and not name.startswith(DENY)

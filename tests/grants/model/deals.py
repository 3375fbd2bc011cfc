"""What the parties did to each grant, kept by the test itself, and what may then be said and held of it. Rules only."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from broker.grants.lifecycle import Paper, State
from broker.grants.views import GrantView
from broker.policies.compile import document, grant_of, statements
from broker.policies.context import Send
from broker.policies.deny import protects
from broker.policies.evaluate import Decision, evaluate
from broker.policies.normal import Form, parts
from broker.policies.plan import is_ours
from broker.policies.terms import ACTION_TO_IAM, Terms

# What a grant of each paper may be called; everything else is a lie.
SAYS: Mapping[Paper, frozenset[State]] = {
    Paper.OPEN: frozenset({State.PROPOSED}),
    Paper.DECLINED: frozenset({State.DECLINED}),
    Paper.WITHDRAWN: frozenset({State.WITHDRAWN}),
    Paper.LAPSED: frozenset({State.LAPSED}),
    Paper.AGREED: frozenset({State.SCHEDULED, State.ACTIVATING, State.ACTIVE, State.ACTIVATION_FAILED}),
    Paper.PAUSED: frozenset({State.SUSPENDING, State.SUSPENDED}),
    Paper.REVOKED: frozenset({State.REVOKING, State.REVOKED}),
    Paper.RELINQUISHED: frozenset({State.RELINQUISHING, State.RELINQUISHED}),
    Paper.EXPIRED: frozenset({State.ENDING, State.EXPIRED}),
}
GONE = frozenset({State.SUSPENDED, State.REVOKED, State.RELINQUISHED})
NOTHING = GONE | {
    State.EXPIRED,
    State.PROPOSED,
    State.DECLINED,
    State.WITHDRAWN,
    State.LAPSED,
    State.SCHEDULED,
}
"""Nothing of such a grant lets anybody send."""

AT_REST = NOTHING | {State.ACTIVE}


@dataclass
class Deal:
    """One grant between `owner` and `delegate`, which are numbers of the world's."""

    id: UUID
    owner: int
    delegate: int
    account: str
    arn: str
    paper: Paper
    offered: Terms
    offer: UUID
    by_owner: bool
    is_open: bool
    lapses_at: datetime
    agreed: Terms | None = None
    ever: list[Terms] = field(default_factory=list)
    replaces: str | None = None
    clean: list[datetime] = field(default_factory=list)
    """When the broker has read that nothing is left, since its end was asked for or it was last seen."""
    proven: bool = False
    """It was found to be called gone, and that was so."""

    def at(self, now: datetime) -> Paper:
        """The paper by the clock."""
        if self.paper is Paper.OPEN and self.lapses_at <= now:
            return Paper.LAPSED
        live = self.paper in {Paper.AGREED, Paper.PAUSED}
        return Paper.EXPIRED if live and self.agreed is not None and self.agreed.expires_at <= now else self.paper

    def awaits(self, now: datetime) -> bool:
        """Whether an offer can be decided."""
        return self.is_open and now < self.lapses_at

    def is_live(self, now: datetime) -> bool:
        """Whether it can be ended."""
        return self.at(now) in {Paper.AGREED, Paper.PAUSED}

    def sends(self, now: datetime) -> Iterator[Send]:
        """One that each of the terms ever agreed would allow."""
        for terms in self.ever:
            yield Send(
                action=ACTION_TO_IAM[terms.actions[0]][0],
                caller_account=self.account,
                from_address=terms.from_addresses[0].replace("*", "anybody"),
                recipients=["ann@example.org"],
                time=now,
            )

    def allowed(self, held: Mapping[str, str], now: datetime) -> list[bool]:
        """Which of these sends this grant's own statements allow; our own Deny documents speak, too."""
        mine = [left for name, text in held.items() if is_ours(name) and (left := _of(text, self.id))]
        if not any(grants_of(text) for text in mine):
            return [False] * len(self.ever)
        decisions = (evaluate(mine, send, identity_arn=self.arn).decision for send in self.sends(now))
        return [decision is Decision.allow for decision in decisions]

    def is_there(self, held: Mapping[str, str]) -> bool:
        """Whether a policy of ours has an Allow of this grant, whatever a Deny makes of it."""
        return any(is_ours(name) and self.id in grants_of(text) for name, text in held.items())

    def may_send(self, held: Mapping[str, str], now: datetime) -> bool:
        """Whether what is agreed now is allowed."""
        return bool(self.ever) and self.allowed(held, now)[-1]

    def left_by(self, held: Mapping[str, str], now: datetime) -> set[str]:
        """Names of policies that are not ours and let its delegate send all the same."""
        *_, last = self.sends(now)
        return {
            name
            for name, text in held.items()
            if not is_ours(name) and evaluate([text], last, identity_arn=self.arn).decision is Decision.allow
        }

    def read(self, found: Mapping[str, str], at: datetime) -> None:
        """The broker has read this."""
        if self.is_there(found):
            self.clean.clear()
        else:
            self.clean.append(at)

    def prove(self, state: State, gap: timedelta) -> Sequence[str]:
        """Nothing is called gone before two reads, so far apart, showed it; what came back late is another matter."""
        gone = state in GONE
        hasty = gone and not self.proven and not (self.clean and self.clean[-1] - self.clean[0] >= gap)
        self.proven = gone
        return [f"{state}, and was not read to be gone twice"] if hasty else []

    def beyond(self, held: Mapping[str, str]) -> list[str]:
        """Names of our policies that say something of this grant that the agreed terms do not."""
        forms = self._forms()
        return sorted(name for name, form in self._said(held).items() if form is not None and form not in forms)

    def is_as_agreed(self, held: Mapping[str, str]) -> bool:
        """Whether a policy of ours says of this grant what the agreed terms do."""
        forms = self._forms()
        return any(form in forms for form in self._said(held).values())

    def is_shut(self, held: Mapping[str, str]) -> bool:
        """Whether a Deny of ours keeps its delegate out."""
        return protects(held, [self.account], self.arn)

    def _forms(self) -> list[frozenset[Form]]:
        return [
            parts(document(statements(self.agreed, grant_id=self.id, identity_arn=self.arn, null_guard=guard)))[self.id]
            for guard in (True, False)
            if self.agreed is not None
        ]

    def _said(self, held: Mapping[str, str]) -> Mapping[str, frozenset[Form] | None]:
        return {name: parts(text).get(self.id) for name, text in held.items() if is_ours(name)}


def _of(text: str, grant_id: UUID) -> str:
    """A document with no other Allow than this grant's."""
    kept = [each for each in listed(text) if each["Effect"] == "Deny" or grant_of(str(each.get("Sid", ""))) == grant_id]
    return document(kept) if kept else ""


def listed(text: str) -> list[dict[str, object]]:
    """The statements of a document."""
    found = json.loads(text)["Statement"]
    return list(found) if isinstance(found, list) else [found]


def grants_of(text: str) -> set[UUID]:
    """Whose Allow a document holds."""
    sids = (grant_of(str(each.get("Sid", ""))) for each in listed(text) if each["Effect"] == "Allow")
    return {sid for sid in sids if sid is not None}


def lies(
    deal: Deal,
    seen: GrantView,
    held: Mapping[str, str],
    *,
    now: datetime,
    changed: bool,
    landed: bool,
    denied: bool,
    kept: bool,
) -> Sequence[str]:
    """What is said of a grant and is not so. Nobody can know what happened since SES was read.

    `changed`: somebody changed it by hand, and everything may be different. `landed`: what we had asked for was done
    late; that may bring back what was said to be gone where reads protect it, and not where a Deny does (`denied`),
    which is there as long as it has to be (`kept`).
    """
    found = []
    paper = deal.at(now)
    if seen.state not in SAYS[paper]:
        found.append(f"{paper} is called {seen.state}")
    if changed:
        return found
    told = seen.state in GONE and denied if landed else seen.state in NOTHING
    if told and any(deal.allowed(held, now)):
        found.append(f"{seen.state}, and may send")
    if seen.state in GONE and not landed and deal.is_there(held):
        found.append(f"{seen.state}, and its Allow is there")  # behind a Deny or not: it was to be read as gone
    if seen.state in GONE and denied and kept and not deal.is_shut(held):
        found.append(f"{seen.state} behind a Deny, and none is there")
    if seen.state is State.ACTIVE and not landed and "drifted" not in seen.flags:
        if not deal.may_send(held, now):
            found.append("active, and may not send")
        if beyond := deal.beyond(held):
            found.append(f"active, and {beyond} say something else")
    return found

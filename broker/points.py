"""Named points at which a process can be made to die, to see what is left of its work; of no effect in production.

`reach` marks a point. In a local run whose environment names one, the process that reaches it ends itself as `kill -9`
would: nothing is flushed, closed or answered. The crash matrix (`broker bench faults`) walks them all.
"""

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

VARIABLE = "BROKER_DIE_AT"
"""`point:hit`: at which point, and the how manieth time it is reached. Or `@path` of a file that holds such an order:
it is looked for at every point, so that a process can be told while it runs, and taken away by the one that obeys."""

POINTS: Mapping[str, str] = MappingProxyType(
    {
        "due.claimed": "rows are leased, nothing is done yet",
        "due.settled": "a lease is ended in a transaction that is not committed yet",
        "db.committing": "everything of a use case is written, nothing is committed",
        "db.committed": "committed; nobody is told, and the bell has not rung",
        "fastpath.begun": "the process that committed is about to do the work itself",
        "grants.proposed": "a grant is proposed, in a transaction that is not committed yet",
        "grants.approved": "a grant is approved, in a transaction that is not committed yet",
        "grants.ended": "a grant is ended, in a transaction that is not committed yet",
        "policies.loaded": "the paper is read, SES is not asked yet",
        "policies.reserved": "the name of a policy is on paper, SES has not heard of it",
        "policies.creating": "SES is about to be given a policy",
        "policies.created": "SES holds a policy that was not read back",
        "policies.read": "the policies of an identity were read",
        "policies.deleting": "SES is about to be told to take a policy away",
        "policies.deleted": "SES has taken away a policy, which was not read back",
        "policies.settling": "SES is as it should be, the paper does not say so yet",
        "policies.settled": "the paper says what SES holds; the worker has not looked again",
        "policies.failing": "SES has failed, the paper does not say so yet",
        "denies.named": "the name of a Deny is written and not committed, SES has not heard of it",
        "denies.claimed": "a receipt claims something else of a Deny, which is not committed",
        "denies.creating": "SES is about to be given a Deny, maybe beside a removal",
        "denies.created": "SES holds a Deny that was not read back",
        "denies.sealed": "nothing can bring a grant back any more, which is not committed",
        "adoptions.proposed": "a grant in a policy's place is proposed and not committed",
        "adoptions.decided": "the removal of a foreign policy is written and not committed",
        "adoptions.deleting": "the removal of a foreign policy is on paper, SES has not heard of it",
        "adoptions.deleted": "SES has taken a foreign policy away, which was not read back",
        "adoptions.settling": "a foreign policy was read to be gone, the paper does not say so yet",
        "adoptions.settled": "what became of a foreign policy is committed",
        "connections.claimed": "a connection is to be checked, AWS is not asked yet",
        "connections.assumed": "the role was assumed once",
        "connections.examined": "AWS was asked everything, nothing is written",
        "connections.recorded": "what was found is written and not committed",
        "connections.settled": "a connection is checked, and it is committed",
        "connections.proven": "an account is proven, in a transaction that is not committed yet",
        "topics.made": "SNS has our topic, we do not know its ARN",
        "topics.stored": "the ARN of a topic is stored, SNS does not deliver it yet",
        "topics.subscribed": "SNS was asked to deliver a topic to us",
        "topics.confirmed": "SNS has our confirmation, the paper does not say so yet",
        "topics.noted": "a confirmation is on paper and not committed",
        "routes.loaded": "a route is to be looked at, AWS is not asked yet",
        "routes.set": "SES has one of the notification topics, others may follow",
        "routes.repairing": "what SES has dropped is on paper and about to be put back",
        "routes.put_back": "one of the notification topics is as it was before us",
        "routes.looked": "AWS was asked everything, nothing is written",
        "routes.written": "what became of a route is written and not committed",
        "routes.settled": "what became of a route is committed",
        "sets.made": "SES has our configuration set, SNS does not have its topic",
        "sets.hardened": "a configuration set asks for TLS, which was not read back",
        "sets.topic_made": "SNS has the topic of a configuration set, SES does not tell it anything",
        "sets.topic_mended": "one attribute of our topic is right again, others may follow",
        "sets.told": "SES has our event destination, which was not read back",
        "sets.subscribed": "SNS was asked to deliver the topic of a set, the paper does not say so yet",
        "sets.deleted": "SES has taken away our configuration set, its topic is still there",
        "sets.silenced": "SES has taken away our event destination out of a set that stays",
        "sets.topic_deleted": "SNS has taken away the topic of a set, the paper does not say so yet",
        "foreign.noted": "what a delegate's topics will replace is written and not committed",
        "foreign.remembered": "what a delegate's topics will replace is on paper, SES is as it was",
        "foreign.set": "SES has one of a delegate's topics, others may follow",
        "foreign.silenced": "SES no longer sends by e-mail what a delegate's topics hear",
        "foreign.forwarding": "SES sends by e-mail again, a delegate's topics are still there",
        "foreign.put_back": "one of the topics is as it was before the delegate's",
        "foreign.quieted": "SES no longer sends by e-mail, as it was before the delegate's topics",
        "legacy.tried": "SES was asked for an old notification that it had dropped, others may follow",
        "legacy.edited": "SES has one changed old notification, others may follow",
        "legacy.begun": "the route that old notifications move to is made and not committed",
        "legacy.tested": "SES has a test mail of ours, the paper does not know",
        "legacy.cleared": "SES has taken away one old notification, others may follow",
        "legacy.gone": "no old notification is to be seen, the paper does not say so yet",
        "feedback.parsed": "a batch is read, nothing of it is stored",
        "feedback.stored": "a batch is committed; no bell has rung, no sender has its 200",
        "feedback.rung": "the bell of a batch has rung for deliveries alone",
        "feedback.answering": "a batch is dealt with, its senders do not know",
        "queues.received": "SQS has handed out messages, nothing of them is stored",
        "queues.stored": "messages of SQS are committed and not deleted",
        "queues.deleted": "messages of SQS are deleted",
        "lanes.claimed": "lanes are leased, nothing is read of them",
        "lanes.releasing": "lanes have nothing left and are about to be let go of",
        "deliveries.fetched": "deliveries are read, none is begun",
        "deliveries.sending": "a webhook is about to be sent",
        "deliveries.sent": "a receiver has answered, nobody knows",
        "deliveries.finishing": "results are collected, none is written",
        "deliveries.finished": "results are committed; the pump has not noted it",
        "replays.queued": "a batch of a replay is queued and not committed",
        "replays.stepped": "a batch of a replay is committed",
        "digests.closed": "a day is closed, its digest is not cut",
        "digests.sent": "a digest is kept and queued, and not committed",
        "digests.cut": "a digest is committed",
        "erasures.blanked": "traces of a recipient are blanked and not committed",
        "erasures.stepped": "traces of a recipient are blanked, and it is committed",
        "retentions.walked": "what is over by the terms is blanked and not committed",
        "reckonings.folded": "events are added up and not committed",
        "reckonings.moved": "events are added up, and it is committed",
        "pushes.suppressed": "SES has a suppression in its list, we do not know",
        "ledger.written": "figures are written and not committed",
        "ledger.rolled_up": "counters are summed up, and it is committed",
        "migrations.locked": "the lock of migrations is held, nothing is changed",
        "migrations.applying": "a migration is done and not committed",
        "migrations.applied": "the schema is new, its roles are not given out",
        "migrations.granted": "the roles are given out, the lock is held",
    }
)
"""Every point, and what has happened when it is reached."""


def reach(point: str) -> None:
    """The point is reached: nothing happens, unless this process is to die here."""
    if _armed is not None:
        _armed.reach(point)


class _Armed:
    """Counts how often points were reached since the order was given, and obeys it."""

    def __init__(self, order: str) -> None:
        self._file = Path(order[1:]) if order.startswith("@") else None
        self._order = "" if self._file else order
        self._reached = 0

    def reach(self, point: str) -> None:
        """Ends the process where the order says so."""
        if self._file is not None:
            self._look(self._file)
        wanted, _, hit = self._order.partition(":")
        if wanted != point:
            return
        self._reached += 1
        if self._reached >= int(hit or 1):
            if self._file is not None:
                self._file.unlink(missing_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)

    def _look(self, file: Path) -> None:
        try:
            order = file.read_text().strip()
        except FileNotFoundError:
            order = ""
        if order != self._order:
            self._order, self._reached = order, 0


def arm(environ: Mapping[str, str]) -> None:
    """Takes the order of this environment; in a local run only: no stray variable ends a process of production."""
    global _armed  # noqa: PLW0603 — one order for the process, read where a function call is all that it may cost
    order = environ.get(VARIABLE, "")
    _armed = _Armed(order) if order and environ.get("BROKER_ENVIRONMENT") == "local" else None


_armed: _Armed | None = None
arm(os.environ)

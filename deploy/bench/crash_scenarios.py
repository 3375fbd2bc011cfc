"""What the crash matrix has the broker do while it kills it: each scenario passes some of the points."""

import random
import time
from datetime import UTC, datetime, timedelta
from functools import partial

from bench.crash_world import OWNER_ACCOUNT, Steady, Tenant, World, until
from broker.local.aws import REGION
from broker.sandbox.faults import Fault

KINDS = ("bounce", "complaint", "delivery")


class Run:
    """One scenario under way: what it made, so that it can be judged, and when each of its steps was over."""

    def __init__(self, world: World, dice: random.Random) -> None:
        self.world = world
        self.dice = dice
        self.occurrences: set[tuple[str, str]] = set()  # mail and recipient, each to be heard of once by both parties
        self.steps: list[float] = []
        self.replayed = 0

    def done(self) -> None:
        """A step is over: what it asked for is so."""
        self.steps.append(time.monotonic())

    def publish(self, steady: Steady, *, kind: str = "", messages: int = 0) -> None:
        """SES has news of some mails."""
        for _ in range(messages or self.dice.randint(4, 16)):
            recipients = [f"r{self.dice.getrandbits(48):x}@example.org" for _ in range(self.dice.randint(1, 3))]
            mail = self.world.publish(steady, kind or self.dice.choice(KINDS), recipients)
            self.occurrences |= {(mail, recipient) for recipient in recipients}


def contract(run: Run) -> None:
    """Proposed, approved, active, revoked, gone."""
    world, owner = run.world, run.world.owner
    grant_id = world.propose(world.next_identity())
    run.done()
    world.approve(grant_id)
    owner.wait(f"/v1/grants/{grant_id}", "active")
    run.done()
    owner.ask("POST", f"/v1/grants/{grant_id}/revoke", {"note": "It has ended"})
    owner.wait(f"/v1/grants/{grant_id}", "revoked")
    run.done()


def contract_while_ses_fails(run: Run) -> None:
    """The same, and SES answers the first calls with an error."""
    faults = run.world.place.aws.cloud.faults
    for operation in ("GetEmailIdentityPolicies", "CreateEmailIdentityPolicy", "DeleteEmailIdentityPolicy"):
        faults.add(Fault("500", "sesv2", operation, account_id=OWNER_ACCOUNT))
    try:
        contract(run)
    finally:
        faults.clear()


def events(run: Run) -> None:
    """News of mails over HTTPS, each to two webhooks."""
    run.publish(run.world.steady)
    heard(run)


def queued(run: Run) -> None:
    """News of mails by SQS."""
    run.publish(run.world.queued)
    heard(run)


def heard(run: Run) -> None:
    """Waits until both parties know of everything."""
    for name in ("owner", "delegate"):
        until(f"the {name} hears of all of {len(run.occurrences)}", partial(_has_heard, run, name))
    run.done()


_HEARD = (
    "SELECT id::text, data->>'message_id' AS mail, lower(data->>'recipient') AS recipient FROM events"
    " WHERE data->>'message_id' = ANY ($1)"
)


def _has_heard(run: Run, name: str) -> bool:
    mails = sorted({mail for mail, _ in run.occurrences})
    copies = run.world.inboxes[name].read()
    found = {(row["mail"], row["recipient"]) for row in run.world.place.rows(_HEARD, mails) if copies[row["id"]]}
    return found >= run.occurrences


def connection(run: Run) -> None:
    """An owner connects an account, which is checked and looked through."""
    account_id = run.world.new_account()
    arn = run.world.verify(account_id, f"a{account_id}.example")
    owner = Tenant(run.world.place, "Another Ltd", account_id, "owner")
    owner.connect(REGION)
    until(f"{arn} is found", lambda: arn in [each["arn"] for each in owner.get("/v1/identities")["items"]])
    run.done()
    owner.close()


def proof(run: Run) -> None:
    """A delegate proves its account."""
    delegate = Tenant(run.world.place, "More Letters Ltd", run.world.new_account(), "delegate")
    delegate.prove()
    run.done()
    delegate.close()


def route(run: Run) -> None:
    """An owner's first grant: a topic is made, subscribed to and confirmed, and SES is set to it."""
    world, account_id = run.world, run.world.new_account()
    identity = f"a{account_id}.example"
    world.verify(account_id, identity)
    owner = Tenant(world.place, "Another Ltd", account_id, "owner")
    owner.connect(REGION)
    until("the identity is found", lambda: owner.get("/v1/identities")["items"])
    run.done()
    grant_id = world.propose(identity, owner=owner)
    world.approve(grant_id)
    owner.wait(f"/v1/grants/{grant_id}", "active")
    run.done()
    world.route(owner, grant_id, "configured", "live")
    run.done()
    until("SES tells our topic", lambda: len(_topics(world, account_id, identity)) == len(KINDS))
    owner.close()


def repair(run: Run) -> None:
    """SES drops a topic, which is put back; then the route is removed, and SES is as it was before us."""
    world, identity = run.world, run.world.next_identity()
    grant_id = world.propose(identity)
    world.approve(grant_id)
    world.owner.wait(f"/v1/grants/{grant_id}", "active")
    found = world.route(world.owner, grant_id, "configured", "live")
    run.done()
    _topics(world, OWNER_ACCOUNT, identity).pop("Delivery")
    world.owner.ask("POST", f"/v1/routes/{found['id']}/check")
    until("the topic is put back", lambda: len(_topics(world, OWNER_ACCOUNT, identity)) == len(KINDS))
    world.route(world.owner, grant_id, "configured", "live")
    run.done()
    world.owner.ask("DELETE", f"/v1/routes/{found['id']}")
    until("the topics are taken away", lambda: not _topics(world, OWNER_ACCOUNT, identity))
    world.owner.wait(f"/v1/routes/{found['id']}", "removed")
    run.done()


def _topics(world: World, account_id: str, identity: str) -> dict[str, str]:
    found = world.place.aws.cloud.state.identity((account_id, REGION), identity)
    return found.topics if found is not None else {}


def replay(run: Run) -> None:
    """The last events are sent again."""
    world, since = run.world, datetime.now(UTC) - timedelta(seconds=1)
    run.publish(world.steady, messages=4)
    heard(run)
    asked = {"from": since.isoformat(), "rate": 500}
    made = world.owner.ask("POST", f"/v1/endpoints/{world.endpoints['owner']}/replay", asked)
    run.replayed = 1
    world.owner.wait(f"/v1/replays/{made['id']}", "done")
    run.done()


def books(run: Run) -> None:
    """Events, and then figures: they are written every ten seconds."""
    before = len(run.world.place.deaths)
    events(run)
    until("the books are written", lambda: len(run.world.place.deaths) > before, seconds=25)
    run.done()

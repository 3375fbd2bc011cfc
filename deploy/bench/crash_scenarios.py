"""What the crash matrix has the broker do while it kills it: each scenario passes some of the points."""

import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from types import MappingProxyType
from uuid import UUID

import msgspec

from bench.crash_world import DELEGATE_ACCOUNT, OWNER_ACCOUNT, PATIENCE_S, Steady, Tenant, World, until
from broker.feedback.erasures.in_flight import GRACE
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


_YESTERDAY = """
    UPDATE digests SET day = (now() AT TIME ZONE 'UTC')::date - 1, due_at = now() WHERE id = $1::uuid RETURNING day
"""


def digest(run: Run) -> None:
    """Yesterday is cut, once."""
    world = run.world
    endpoint_id = world.listen("owner", event_types=["connection.lost"])
    day = world.place.rows(_YESTERDAY, endpoint_id)[0]["day"]
    look = "SELECT event_id::text FROM endpoint_digests WHERE endpoint_id = $1::uuid AND day = $2"
    found = until("the day is cut", lambda: world.place.rows(look, endpoint_id, day))
    until("the digest is sent", lambda: world.inboxes["owner"].read()[found[0]["event_id"]])
    run.done()
    until(
        "it is delivered",
        lambda: not world.place.rows("SELECT FROM deliveries WHERE endpoint_id = $1::uuid", endpoint_id),
    )
    world.owner.ask("DELETE", f"/v1/endpoints/{endpoint_id}")


def erasure(run: Run) -> None:
    """A recipient is forgotten."""
    world = run.world
    run.publish(world.steady, messages=3)
    heard(run)
    _, address = min(run.occurrences)
    made = world.owner.ask("POST", "/v1/erasures", {"address": address})
    run.occurrences = {each for each in run.occurrences if each[1] != address}
    left = "SELECT FROM events WHERE owner_id = $1::uuid AND strpos(lower(data::text), $2) > 0"
    until("nothing tells of the recipient", lambda: not world.place.rows(left, world.owner.id, address))
    run.done()
    # What was on its way to a receiver at that moment is given half a minute to arrive.
    world.owner.wait(f"/v1/erasures/{made['id']}", "done", seconds=GRACE.total_seconds() + PATIENCE_S)
    run.done()


def retention(run: Run) -> None:
    """What the terms say of keeping is looked at."""
    world = run.world
    world.place.rows("SELECT plan_retentions(30)")
    wind = "UPDATE retentions SET due_at = now() WHERE tenant_id = $1::uuid RETURNING id"
    if not world.place.rows(wind, world.owner.id):
        raise LookupError("No grant has a retention.")
    overdue = "SELECT FROM retentions WHERE due_at <= now() OR claimed_until IS NOT NULL"
    until("retentions are done", lambda: not world.place.rows(overdue))
    run.done()


_MAY_SUPPRESS = {"Effect": "Allow", "Action": "ses:PutSuppressedDestination", "Resource": "*"}
# Ids of the last minute wait for company: as if that were over. The first 8 digits are of the time, 65.5 s each.
_TWO_MINUTES_AGO = "lpad(to_hex((extract(epoch FROM now() - interval '2 minutes') * 1000)::bigint >> 16), 8, '0')"
_AGE = f"""
    UPDATE suppressions SET stamp = overlay(stamp::text placing {_TWO_MINUTES_AGO} from 1)::uuid
    WHERE delegate_id = $1::uuid AND stamp >= $2::uuid RETURNING id
"""  # noqa: S608 — our own words
_PUSH = f"""
    UPDATE suppression_pushes SET due_at = now(),
      after_id = overlay('00000000-0000-0000-0000-000000000000' placing {_TWO_MINUTES_AGO} from 1)::uuid
"""  # noqa: S608 — our own words
_YOUNGER = "SELECT FROM suppressions WHERE delegate_id = $1::uuid AND stamp >= $2::uuid"


def push(run: Run) -> None:
    """Hard bounces go into the suppression list of the delegate's account."""
    world, delegate = run.world, run.world.delegate
    connected = delegate.get(f"/v1/connections/{world.delegate_connection}")
    document = msgspec.json.encode({"Version": "2012-10-17", "Statement": [_MAY_SUPPRESS]}).decode()
    role = connected["role_arn"].rpartition("/")[2]
    delegate.aws.client("iam").put_role_policy(RoleName=role, PolicyName="push", PolicyDocument=document)
    wanted = {"connection_id": world.delegate_connection, "region": REGION, "enabled": True}
    delegate.ask("POST", "/v1/suppressions/pushes", wanted)
    since = str(UUID(int=int(time.time() * 1000) << 80))
    run.publish(world.steady, kind="bounce", messages=2)
    heard(run)
    addresses = {recipient for _, recipient in run.occurrences}
    until("all are suppressed", lambda: len(world.place.rows(_YOUNGER, delegate.id, since)) >= len(addresses))
    world.place.rows(_AGE, delegate.id, since)
    world.place.rows(_PUSH)
    listed = world.place.aws.cloud.state.suppressed
    until("SES has them", lambda: addresses <= set(listed.get((DELEGATE_ACCOUNT, REGION), {})))
    run.done()


def books(run: Run) -> None:
    """Events, and then figures: they are written every ten seconds."""
    before = len(run.world.place.deaths)
    events(run)
    until("the books are written", lambda: len(run.world.place.deaths) > before, seconds=25)
    run.done()


Scenario = Callable[[Run], None]
SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        each.__name__: each
        for each in (
            contract,
            contract_while_ses_fails,
            events,
            queued,
            connection,
            proof,
            route,
            repair,
            replay,
            digest,
            erasure,
            retention,
            push,
            books,
        )
    }
)

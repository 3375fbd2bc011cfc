"""Scenarios of the crash matrix that are about keeping, forgetting and looking back."""

import time
from uuid import UUID

import msgspec

from bench.crash_scenarios import Run, heard
from bench.crash_world import DELEGATE_ACCOUNT, PATIENCE_S, until
from broker.feedback.erasures.in_flight import GRACE
from broker.local.aws import REGION

_LONG_OVER = """
    UPDATE digests SET day = (now() AT TIME ZONE 'UTC')::date - 2, due_at = now() WHERE id = $1::uuid RETURNING day
"""


def digest(run: Run) -> None:
    """A day is cut, once: the one before yesterday, since a day is cut a quarter of an hour after its end."""
    world = run.world
    endpoint_id = world.listen("owner", event_types=["connection.lost"])
    day = world.place.rows(_LONG_OVER, endpoint_id)[0]["day"]
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

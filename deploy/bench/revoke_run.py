"""Makes grants, revokes them, idle and under load, and reads from the local AWS's log how long each one took."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import msgspec

from bench.flow import NOTHING, Flow
from bench.generator import Plan
from bench.machine import Machine, calibration_us, machine
from bench.match import Account, Percentiles, account, percentiles
from bench.messages import Stock
from bench.revoke_path import Call, Way, over_aws_ms, way_of
from bench.revoke_seed import Granted, held
from bench.revoke_stack import PATIENCE_S, make_grants, running
from bench.stack import Say, Stack, connection
from bench.world import plan_world
from broker.local.aws import LocalAws
from broker.local.child import StartError
from broker.local.telling import Untrue, wait_for

GROUPS = 100  # tenants and endpoints of the load
WARM_UP = 5  # revokes that do not count
SETTLE_S = 1.0  # after the last revoke, before the local AWS is asked for its log, which costs it time
LEAD_S = 3.0  # of load before the first revoke
LOAD_WARM_UP_S = 1.0  # of load that does not count
TAIL_S = 5.0  # of load after the last one was asked for


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """`revokes` idle and as many under `load` events per second (0: idle only), one each `every_s` seconds."""

    revokes: int = 50
    every_s: float = 0.2
    load: int = 0
    call_ms: float = 30.0


class Commit(msgspec.Struct, frozen=True):
    """When the transaction of a revoke committed, and how long it had taken by then."""

    at: datetime
    took_ms: float


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """One half of the run. `aws_calls`: how many revokes waited for so many AWS calls in sequence.

    `refused`: calls on the way that SES refused as too many. `commit_ms` is what the transaction itself took before the
    clock began, `answer_ms` what the owner waited for the API's 202.
    """

    revokes: int
    deny_present_ms: Percentiles
    revoke_ms: Percentiles
    aws_calls_ms: Percentiles
    over_aws_ms: Percentiles
    commit_ms: Percentiles
    answer_ms: Percentiles
    aws_calls: dict[int, int]
    refused: int


class Result(Flow, frozen=True, kw_only=True):
    """What `--json` prints. `left`: identities on which SES still held a policy at the end.

    The figures of `Flow`, `lost` and `duplicated` are of the load beside the revokes, None without one; SQL round trips
    are not told, since those of the revokes cannot be told from them. `unacknowledged` messages never got their 200.
    """

    since: str = "commit"
    call_ms: float
    idle: Times
    loaded: Times | None
    load_events_per_s: float
    unacknowledged: int
    lost: int | None
    duplicated: int | None
    left: int
    calibration_us: float
    machine: Machine


def measure(options: Options, directory: Path, stock: Stock, say: Say) -> Result:
    """Starts everything, makes the grants, and revokes them. `directory` is this run's alone.

    Raises:
        StartError, Untrue: something did not start, did not become active, or was not gone in time.
    """
    seconds = LEAD_S + TAIL_S + options.revokes * options.every_s
    stock.ensure(int(options.load * seconds) + 1, say)
    before = calibration_us()
    with running(directory, stock, say) as (servers, aws):
        owners = WARM_UP + options.revokes * (2 if options.load else 1)
        say(f"making {owners} grants, each in an account of its own")
        grants = make_grants(servers, aws, owners)
        servers.prepare(plan_world(fan_out=1, endpoints=stock.groups))
        aws.set_dialect(latency_seconds=options.call_ms / 1000, rate_limit_per_second=1)
        time.sleep(1.5)  # until what SES allows per second begins afresh
        say(f"revoking {options.revokes} grants, idle")
        _revoke(servers, aws, grants[:WARM_UP], options)  # the first ones compile statements and open connections
        idle, _ = _revoke(servers, aws, grants[WARM_UP:][: options.revokes], options)
        loaded, load = None, None
        if options.load:
            say(f"revoking {options.revokes} grants under {options.load} events/s")
            plan = _plan(options, servers, aws, stock, seconds)
            loaded, load = _under_load(servers, aws, grants[WARM_UP + options.revokes :], options, plan)
        aws.set_dialect(latency_seconds=0, rate_limit_per_second=None)
        return Result(
            **msgspec.structs.asdict(flow_of(load)),
            lost=load.lost if load else None,
            duplicated=load.duplicated if load else None,
            call_ms=options.call_ms,
            idle=idle,
            loaded=loaded,
            load_events_per_s=load.events_per_s if load else 0.0,
            unacknowledged=load.unacknowledged if load else 0,
            left=sum(1 for each in grants if held(aws, each)),
            calibration_us=max(before, calibration_us()),
            machine=machine(servers.postgres_version()),
        )


def _plan(options: Options, servers: Stack, aws: LocalAws, stock: Stock, seconds: float) -> Plan:
    return Plan(
        stock=str(stock.path),
        count=int(options.load * seconds),
        api_port=servers.api.port,
        certificate_port=int(aws.url.rpartition(":")[2]),
        seconds=seconds,
        rate=options.load,
        result=str(servers.directory / "load.bin"),
    )


def _under_load(
    servers: Stack, aws: LocalAws, grants: Sequence[Granted], options: Options, plan: Plan
) -> tuple[Times, Account]:
    """The revokes while a generator posts, and what became of its messages once all are delivered."""
    ways: list[tuple[Times, datetime]] = []

    def meanwhile() -> None:
        wait_for("the load runs", lambda: servers.received() >= options.load / 2 or None, PATIENCE_S)
        ways.append(_revoke(servers, aws, grants, options))

    summary, sent = servers.generate(plan, meanwhile)
    times, last = ways[0]
    if last.timestamp() > time.time() - time.monotonic() + summary.ended:
        raise StartError("The load ended before the last Allow was gone; try again with less load.")
    acked = sum(1 for at in sent.acked if at)
    with contextlib.suppress(Untrue):  # what does not come is told as lost
        wait_for("the load is delivered", lambda: servers.received() >= acked or None, PATIENCE_S)
    receipts = servers.receipts()
    return times, account(summary, sent, receipts, groups=GROUPS, fan_out=1, warm_up_s=LOAD_WARM_UP_S)


def flow_of(load: Account | None) -> Flow:
    """The figures of the load."""
    if load is None:
        return NOTHING
    return Flow(
        events_per_s=load.events_per_s,
        deliveries_per_s=load.deliveries_per_s,
        ack_ms=load.ack_ms,
        receive_ms=load.receive_ms,
        sql_round_trips_per_1000=None,
    )


def _revoke(servers: Stack, aws: LocalAws, grants: Sequence[Granted], options: Options) -> tuple[Times, datetime]:
    """Revokes these grants; the figures, and when the last Allow was gone."""
    answers = asyncio.run(_ask_all(servers.api.url, grants, options.every_s))
    servers.check()
    committed = asyncio.run(_committed(servers, grants))
    time.sleep(SETTLE_S)
    ways = wait_for("SES holds none of the Allows", lambda: _ways(aws, committed), PATIENCE_S)
    times = Times(
        revokes=len(grants),
        deny_present_ms=_percentiles(way.deny_ms for way in ways),
        revoke_ms=_percentiles(way.ms for way in ways),
        aws_calls_ms=_percentiles(way.calls * options.call_ms for way in ways),
        over_aws_ms=_percentiles(over_aws_ms(ways, call_ms=options.call_ms)),
        commit_ms=_percentiles(each.took_ms for each in committed.values()),
        answer_ms=percentiles(answers),
        aws_calls=dict(sorted(Counter(way.calls for way in ways).items())),
        refused=sum(way.refused for way in ways),
    )
    return times, max(way.gone_at for way in ways)


async def _ask_all(api_url: str, grants: Sequence[Granted], every_s: float) -> list[float]:
    """Revokes each at its time, whatever the others do; the seconds that each owner waited."""
    async with httpx.AsyncClient(base_url=api_url, timeout=20, trust_env=False) as client:
        return list(await asyncio.gather(*(_ask(client, each, n * every_s) for n, each in enumerate(grants))))


async def _ask(client: httpx.AsyncClient, granted: Granted, wait_s: float) -> float:
    await asyncio.sleep(wait_s)
    headers = {"authorization": f"Bearer {granted.key}", "idempotency-key": str(uuid4())}
    began = time.monotonic()
    answer = await client.post(f"/v1/grants/{granted.grant_id}/revoke", json={}, headers=headers)
    if answer.status_code != 202:
        raise StartError(f"A revoke was answered with {answer.status_code}: {answer.text[:300]}")
    return time.monotonic() - began


async def _committed(servers: Stack, grants: Sequence[Granted]) -> Mapping[str, Commit]:
    """The commits that ended these grants, by account: the transaction is that of the line in the audit trail."""
    query = (
        "SELECT g.id, g.ended_at, pg_xact_commit_timestamp(a.xmin) AS at FROM grants g JOIN audit a"
        " ON a.subject_id = g.id AND a.action = 'grant.revoke_requested' WHERE g.id = ANY ($1::uuid[])"
    )
    async with connection(servers.postgres.owner_url) as opened:
        rows = await opened.fetch(query, [UUID(each.grant_id) for each in grants])
    found = {str(row["id"]): Commit(row["at"], (row["at"] - row["ended_at"]).total_seconds() * 1000) for row in rows}
    return {each.account_id: found[each.grant_id] for each in grants}


def _ways(aws: LocalAws, committed: Mapping[str, Commit]) -> list[Way] | None:
    """Of all revokes, once all are done."""
    log = msgspec.convert(aws.calls(), list[Call])
    ways = [way_of(account_id, commit.at, log) for account_id, commit in committed.items()]
    done = [way for way in ways if way is not None]
    return done if len(done) == len(ways) else None


def _percentiles(milliseconds: Iterable[float]) -> Percentiles:
    return percentiles([each / 1000 for each in milliseconds])

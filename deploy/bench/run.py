"""Runs one scenario on servers of its own, from empty tables to the accounts."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from bench import faults, machine, match, messages, profiles, stack, world
from bench.generator import Plan
from broker.local.directories import run_directory

CLOSED_LOOP_MOST = 8_000  # messages a second that are held ready for a closed loop; at its end the run ends early
WARM_UP_S = 1.0
_DRAIN_S = 90.0
_POLL_S = 0.1


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure. ``rate`` messages a second (open loop), or 0: ``connections`` in closed loop.

    ``endpoints`` in all, of which each message is for ``fan_out``. ``seconds`` come after the warm-up.
    ``events_before`` and ``pending_before`` are in the tables when it begins. ``faults``: see bench.faults.
    """

    rate: float = 0.0
    connections: int = 256
    fan_out: int = 1
    endpoints: int = 1
    seconds: float = 10.0
    warm_up_s: float = WARM_UP_S
    workers: int = 1
    events_before: int = 0
    pending_before: int = 0
    faults: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """In words."""
        words = [f"open {self.rate:g}/s" if self.rate else f"closed {self.connections}", f"fan-out {self.fan_out}"]
        words.append(f"{max(self.endpoints, self.fan_out):,} endpoint{'s' if self.endpoints > 1 else ''}")
        if self.events_before or self.pending_before:
            words.append(f"after {self.events_before:,} events, {self.pending_before:,} pending")
        return ", ".join([*words, *self.faults])

    @property
    def links(self) -> int:
        """Connections to the API: enough that an answer may take a tenth of a second, and few enough to be in use."""
        return min(512, max(4, int(self.rate / 10))) if self.rate else self.connections

    @property
    def count(self) -> int:
        """Messages that may be needed."""
        return int((self.rate or CLOSED_LOOP_MOST) * (self.seconds + self.warm_up_s)) + 1


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one scenario. Fields of ``Account`` mean the same here; ``None``: could not be told.

    ``sql_round_trips_per_1000`` deliveries, of API and workers over their whole life, as counted in the driver.
    ``cpu_us_per_event``: microseconds of processor time per acknowledged event, by process. ``left_pending``, ``dead``
    and ``attempts`` are rows of the database at the end. ``calibration_us``: before and after, the slower one.
    """

    scenario: str
    mode: str
    rate: float | None
    connections: int
    fan_out: int
    endpoints: int
    seconds: float
    workers: int
    events_before: int
    pending_before: int
    faults: dict[str, int]
    events_per_s: float
    deliveries_per_s: float
    ack_ms: match.Percentiles
    receive_ms: match.Percentiles
    sql_round_trips_per_1000: float | None
    lost: int
    duplicated: int
    misdelivered: int
    acknowledged: int
    unacknowledged: int
    deliveries: int
    retried: int
    refused: dict[int, int]
    drained_s: float
    left_pending: int
    dead: int
    attempts: int
    cpu_us_per_event: dict[str, float] | None
    calibration_us: float
    machine: machine.Machine


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to run. ``data_dir`` keeps the messages; ``profile``: a directory for flame graphs; ``programs``: others."""

    data_dir: Path
    say: Callable[[str], None]
    profile: Path | None = None
    programs: stack.Programs | None = None
    settings: dict[str, str] = {}


def run(scenario: Scenario, options: Options) -> Result:
    """Measure one scenario.

    Raises:
        StartError: a program did not start or did not last.
    """
    options.say(f"== {scenario.name}")
    planned = world.plan_world(fan_out=scenario.fan_out, endpoints=scenario.endpoints)
    stock = messages.Stock(options.data_dir, len(planned.groups))
    stock.ensure(scenario.count, options.say)
    before = machine.calibration_us()
    with (
        run_directory(options.data_dir) as directory,
        stack.started(directory, stock, options.say, programs=options.programs, settings=options.settings) as servers,
    ):
        if scenario.events_before or scenario.pending_before:
            options.say("filling the tables, which takes a while")
        servers.prepare(planned, events=scenario.events_before, pending=scenario.pending_before)
        servers.start_api()
        servers.start_workers(scenario.workers)
        servers.start_control()
        measured = _measure(scenario, options, servers, planned, stock)
        version = servers.postgres_version()
    calibration = max(before, machine.calibration_us())
    return Result(**measured, calibration_us=calibration, machine=machine.machine(version))


def _measure(
    scenario: Scenario, options: Options, servers: stack.Stack, planned: world.World, stock: messages.Stock
) -> dict[str, Any]:
    breaker = faults.Breaker(servers, scenario.faults, options.say)
    plan = _plan(scenario, servers, stock)
    cpu = machine.cpu_by_name(servers.pids)
    options.say(f"sending for {scenario.warm_up_s:g} + {scenario.seconds:g} s")
    profiler = profiles.Profiler(options.profile, servers, scenario)
    with breaker.running(plan.seconds), profiler.running():
        summary, sent = servers.generate(plan)
    target = sum(1 for at in sent.acked if at) * scenario.fan_out
    drained_s = _drain(servers, planned, target, options.say)
    spent = {name: after - cpu[name] for name, after in machine.cpu_by_name(servers.pids).items()}
    receipts = servers.receipts()
    rows = _rows(servers, planned)
    servers.stop_programs()
    found = match.account(
        summary, sent, receipts, groups=len(planned.groups), fan_out=scenario.fan_out, warm_up_s=scenario.warm_up_s
    )
    trips = None if scenario.faults else servers.round_trips()
    return {
        **_described(scenario),
        **msgspec.structs.asdict(found),
        **rows,
        "faults": breaker.done,
        "refused": summary.refused,
        "drained_s": round(drained_s, 2),
        "sql_round_trips_per_1000": None if trips is None else _per(trips * 1000, found.deliveries),
        "cpu_us_per_event": None
        if scenario.faults
        else {
            name: _per(seconds * 1e6, found.acknowledged)
            for name, seconds in (spent | {"generator": summary.cpu_s}).items()
        },
    }


def _plan(scenario: Scenario, servers: stack.Stack, stock: messages.Stock) -> Plan:
    return Plan(
        stock=str(stock.path),
        count=scenario.count,
        api_port=servers.api.port,
        certificate_port=servers.sink.port,
        seconds=scenario.seconds + scenario.warm_up_s,
        result=str(servers.directory / "generator.bin"),
        rate=scenario.rate,
        connections=scenario.links,
    )


def _drain(servers: stack.Stack, planned: world.World, target: int, say: Callable[[str], None]) -> float:
    """Wait until all is delivered and the database knows it; the seconds that it took."""
    began = time.monotonic()
    while time.monotonic() - began < _DRAIN_S:
        if servers.received() >= target and _pending(servers, planned) == 0:
            return time.monotonic() - began
        time.sleep(_POLL_S)
    say(f"not drained after {_DRAIN_S:g} s: {servers.received()} of {target} received")
    return time.monotonic() - began


def _pending(servers: stack.Stack, planned: world.World) -> int:
    return servers.count("SELECT count(*) FROM deliveries WHERE endpoint_id = ANY ($1)", planned.endpoint_ids)


def _rows(servers: stack.Stack, planned: world.World) -> dict[str, int]:
    ask, ids = servers.count, planned.endpoint_ids
    return {
        "left_pending": _pending(servers, planned),
        "dead": ask("SELECT count(*) FROM dead_deliveries WHERE endpoint_id = ANY ($1)", ids),
        "attempts": ask("SELECT count(*) FROM attempts WHERE endpoint_id = ANY ($1)", ids),
    }


def _described(scenario: Scenario) -> dict[str, Any]:
    return {
        "scenario": scenario.name,
        "mode": "open" if scenario.rate else "closed",
        "rate": scenario.rate or None,
        "connections": scenario.links,
        "fan_out": scenario.fan_out,
        "endpoints": max(scenario.endpoints, scenario.fan_out),
        "seconds": scenario.seconds,
        "workers": scenario.workers,
        "events_before": scenario.events_before,
        "pending_before": scenario.pending_before,
    }


def _per(amount: float, count: int) -> float:
    return round(amount / count, 1) if count else 0.0

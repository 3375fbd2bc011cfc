"""One load of a fair run, on servers of its own: from empty tables to what each healthy endpoint got."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from bench.fair_layout import Ear, Heard, heard
from bench.fair_world import seed_layout
from bench.flow import Flow, passed, per_thousand
from bench.generator import Plan, Sent, Summary
from bench.machine import Machine, calibration_us, machine
from bench.messages import Stock
from bench.sink import READY as SINK_READY
from bench.sink import Receipts
from bench.stack import Say, Stack, connection, started
from broker.local.crew import Crew
from broker.local.directories import run_directory
from broker.local.telling import Untrue, wait_for

WARM_UP_S = 2.0
DRAIN_S = 20.0


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent to whom: messages of the first `groups` groups. Figures are of the endpoints in `counted`."""

    layout: Sequence[Ear]
    counted: frozenset[int]
    groups: int
    rate: float
    seconds: float
    workers: int = 1
    timeout_s: float = 15.0
    manner: str = "ok"


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """One load, measured. `worker_mb`: the most memory that a delivery worker held.

    `flow`: all messages, and all deliveries to receivers that are well; what was tried at the others is no delivery,
    and its SQL counts against those.
    """

    heard: Heard
    flow: Flow
    worker_mb: float
    calibration_us: float
    machine: Machine


def measure(load: Load, data_dir: Path, say: Say) -> Phase:
    """One load on servers of its own.

    Raises:
        StartError: a program did not start or did not last.
    """
    stock = Stock(data_dir, load.groups)
    stock.ensure(_count(load), say)
    before = calibration_us()
    with _running(load, data_dir, stock, say) as servers:
        say(f"sending {load.rate:g} events/s for {WARM_UP_S:g} + {load.seconds:g} s")
        summary, sent = servers.generate(_plan(load, servers, stock))
        _drain(load, servers, len(sent.due), say)
        receipts = servers.receipts()
        found = heard(load.layout, load.counted, sent, receipts, groups=load.groups, warm_s=WARM_UP_S)
        worker_mb = max(_peak_mb(pid) for pid in servers.pids["worker"])
        calibration = max(before, calibration_us())
        servers.stop_programs()
        return Phase(
            heard=found,
            flow=_flow(summary, sent, receipts, found, servers.round_trips()),
            worker_mb=worker_mb,
            calibration_us=calibration,
            machine=machine(servers.postgres_version()),
        )


def _flow(summary: Summary, sent: Sent, receipts: Receipts, found: Heard, trips: int | None) -> Flow:
    all_of_it = passed(summary, sent, receipts, warm_up_s=WARM_UP_S)
    return Flow(
        events_per_s=all_of_it.events_per_s,
        deliveries_per_s=all_of_it.deliveries_per_s,
        ack_ms=all_of_it.ack_ms,
        receive_ms=found.ms,
        sql_round_trips_per_1000=per_thousand(trips, all_of_it.deliveries),
    )


@contextmanager
def _running(load: Load, data_dir: Path, stock: Stock, say: Say) -> Iterator[Stack]:
    settings = {"BROKER_WEBHOOK_TIMEOUT": f"{load.timeout_s:g}"}
    with (
        run_directory(data_dir) as directory,
        started(directory, stock, say, settings=settings) as servers,
        Crew(directory / "logs-bad") as crew,
    ):
        port = crew.reserve()
        words = (sys.executable, "-m", "bench.sink", str(port), str(directory / "certificate.pem"))
        bad = crew.serve("bad-sink", words, env=servers.environment, marker=SINK_READY, port=port).result()
        urls = [
            f"{bad.url}/{load.manner}/{number}" if ear.bad else servers.endpoint_url(number)
            for number, ear in enumerate(load.layout)
        ]
        asyncio.run(_seed(servers, load.layout, urls))
        servers.start_api()
        servers.start_workers(load.workers)
        yield servers


async def _seed(servers: Stack, layout: Sequence[Ear], urls: Sequence[str]) -> None:
    async with connection(servers.postgres.owner_url) as opened:
        await seed_layout(opened, layout, servers.keyring, urls)


def _count(load: Load) -> int:
    return int(load.rate * (WARM_UP_S + load.seconds)) + 1


def _plan(load: Load, servers: Stack, stock: Stock) -> Plan:
    return Plan(
        stock=str(stock.path),
        count=_count(load),
        api_port=servers.api.port,
        certificate_port=servers.sink.port,
        seconds=WARM_UP_S + load.seconds,
        result=str(servers.directory / "generator.bin"),
        rate=load.rate,
        connections=min(512, max(4, int(load.rate / 10))),
    )


def _drain(load: Load, servers: Stack, sent: int, say: Say) -> None:
    """Waits for what the good receivers must still get; what the bad ones do not take stays."""
    good = {group for ear in load.layout if not ear.bad for group in ear.groups}
    target = sum(1 for number in range(sent) if number % load.groups in good)
    try:
        wait_for("the healthy endpoints have got all", lambda: servers.received() >= target or None, DRAIN_S)
    except Untrue as error:
        say(str(error))


def _peak_mb(pid: int) -> float:
    """VmHWM, the peak of resident memory (proc(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return round(next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0), 1)

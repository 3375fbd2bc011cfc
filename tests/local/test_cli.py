"""The command `broker`: what it says, with which exit code, and that it never says it with a traceback."""

import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import make_url

from broker.cli import main
from broker.local.processes import answers
from broker.migrate import head
from broker.settings import PREFIX, table
from tests.local.helpers import wait_for
from tests.local.programs import run_broker, started
from tests.servers import Postgres

HEAVY = ("alembic", "asyncpg", "boto3", "httpx", "litestar", "moto", "rich", "sqlalchemy", "uvicorn")
GOOD = {
    "BROKER_DATABASE_URL": "postgresql+asyncpg://broker_app:hidden-word@127.0.0.1:1/broker",
    "BROKER_SECRET_KEYS": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    "BROKER_API_KEY_PEPPER": "pepper-for-tests-only-0123456789abcdef",
    "BROKER_REGISTRATION": "open",
}


def run_python(script: str) -> "subprocess.CompletedProcess[str]":
    """Run a script with a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)  # noqa: S603 — the test's own script


def test_help_answers_without_importing_what_the_commands_need() -> None:
    script = f"import sys, broker.cli; print([name for name in {HEAVY} if name in sys.modules])"

    done = run_python(script)

    assert done.stdout.strip() == "[]", done.stderr


def test_help_names_every_command() -> None:
    shown = CliRunner().invoke(main, ["--help"])

    commands = {"demo", "up", "sandbox", "migrate", "api", "worker", "settings", "test", "bench", "listen", "trigger"}
    commands |= {"simulate", "explain-error", "policy", "quarantine", "audit", "receipt", "release-account", "secrets"}
    commands |= {"quota"}
    assert commands == set(main.commands)
    assert all(f"  {name}" in shown.output for name in commands)
    assert not [line for line in shown.output.splitlines() if line.endswith("...") and "Usage" not in line]


def test_the_version_is_that_of_the_distribution() -> None:
    shown = CliRunner().invoke(main, ["--version"])

    assert shown.output.strip() == version("ses-delegation-broker")


def test_settings_lists_each_setting_with_meaning_and_default() -> None:
    shown = CliRunner().invoke(main, ["settings"]).output

    rows = table()
    assert len(rows) > 20
    assert all(variable in shown and default in shown and meaning in shown for variable, default, meaning in rows)


def test_good_settings_pass_the_check() -> None:
    done = CliRunner().invoke(main, ["settings", "--check"], env=GOOD)

    assert (0, "Every setting is good.\n") == (done.exit_code, done.output)


@pytest.mark.parametrize("command", [["settings", "--check"], ["api"], ["worker", "policy"], ["migrate"]])
def test_a_missing_setting_is_a_sentence(command: list[str]) -> None:
    done = run_broker(*command)

    assert done.returncode == 2
    assert f"{PREFIX}" in done.stderr
    assert " is not set: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["api"], ["worker", "all"], ["secrets", "rotate"]])
@pytest.mark.parametrize("keys", ["", ",", "not-a-key", GOOD["BROKER_SECRET_KEYS"][:-4]])
def test_nothing_starts_without_a_key_for_secrets(command: list[str], keys: str) -> None:
    """Production is what runs unless something else is said."""
    done = run_broker(*command, settings={**GOOD, "BROKER_SECRET_KEYS": keys})

    assert done.returncode == 2
    assert "BROKER_SECRET_KEYS" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(keys) < 2 or keys not in done.stderr


@pytest.mark.parametrize("command", [["settings", "--check"], ["api"], ["worker", "all"], ["migrate"]])
@pytest.mark.parametrize("url", ["mysql://root:hidden-word@db/broker", "hidden-word"])
def test_a_bad_setting_is_a_sentence_without_its_secret(command: list[str], url: str) -> None:
    done = run_broker(*command, settings={**GOOD, "BROKER_DATABASE_URL": url})

    assert done.returncode == 2
    assert "BROKER_DATABASE_URL" in done.stderr
    assert "hidden-word" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "api",
        "migrate",
        "quarantine",
        "secrets check",
        "quota 00000000-0000-0000-0000-000000000000 endpoints",
        "release-account 111111111111 --reason sold",
    ],
)
def test_a_database_that_is_not_there_is_a_sentence(command: str) -> None:
    done = run_broker(*command.split(), settings=GOOD)

    assert done.returncode == 1
    assert "database" in done.stderr
    assert "hidden-word" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["api", "migrate"])
def test_a_wrong_password_is_a_sentence(command: str, postgres: Postgres) -> None:
    url = make_url(postgres.app_url).set(password="hidden-word").render_as_string(hide_password=False)

    done = run_broker(command, settings={**GOOD, "BROKER_DATABASE_URL": url})

    assert done.returncode == 1
    assert "database" in done.stderr
    assert "hidden-word" not in done.stderr
    assert "Traceback" not in done.stderr


def test_migrate_brings_the_tables_about_and_the_api_refuses_the_login_that_owns_them(
    postgres: Postgres, port: int
) -> None:
    owner = postgres.create_database("command")
    settings = {**GOOD, "BROKER_MIGRATION_DATABASE_URL": owner, "BROKER_DATABASE_URL": owner}

    migrated = run_broker("migrate", settings=settings)
    served = run_broker("api", "--port", str(port), settings=settings)

    postgres.drop_database("command")
    assert (0, head()) == (migrated.returncode, migrated.stdout.strip()), migrated.stderr
    assert served.returncode == 1
    assert "row-level security" in served.stderr
    assert "Traceback" not in served.stderr


def test_what_needs_more_packages_says_which_to_install() -> None:
    done = run_python("import sys; sys.modules['moto'] = None; from broker.cli import main; main(['demo'])")

    assert done.returncode == 2
    assert "moto" in done.stderr
    assert "ses-delegation-broker[local]" in done.stderr


def test_the_tests_say_that_they_need_a_checkout() -> None:
    done = CliRunner().invoke(main, ["test", "-x", "tests/local"])

    assert done.exit_code == 2
    assert "deploy/local test" in done.output


def test_the_local_aws_runs_alone_until_it_is_told_to_end(tmp_path: Path, port: int) -> None:
    with started(tmp_path / "output", "sandbox", "--port", str(port)) as program:
        program.wait_until_it_says(f"listens at http://127.0.0.1:{port}")
        wait_for(lambda: answers(port, "/_sandbox/health"))

        assert program.end(signal.SIGTERM) == 0
        assert not answers(port, "/_sandbox/health")


def test_an_account_that_is_bound_to_nobody_cannot_be_released(database_url: str) -> None:
    settings = GOOD | {"BROKER_DATABASE_URL": database_url}

    done = run_broker("release-account", "000000000009", "--reason", "sold", settings=settings)

    assert (1, "broker: Account 000000000009 is bound to nobody.\n") == (done.returncode, done.stderr)

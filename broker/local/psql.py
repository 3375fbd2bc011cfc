"""Speaks to the embedded Postgres as its superuser, by the psql that comes with it."""

import subprocess
from pathlib import Path

from broker.local.child import StartError
from broker.local.postgres_data import ENVIRONMENT, SUPERUSER
from broker.local.processes import LOOPBACK

DATABASE = "broker"
_NO_CONNECTION = 2  # exit code of psql: the server is not there, or does not take us yet

# Idempotent, so that a start which was interrupted half-way is made good by the next one.
_PREPARE = r"""
SET log_min_error_statement = panic;  -- a failing statement would put a password into the log
SELECT format('CREATE ROLE %I', name) FROM unnest(ARRAY['broker_owner', 'broker_app']) AS name
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec
ALTER ROLE broker_owner LOGIN NOSUPERUSER NOBYPASSRLS CREATEROLE PASSWORD :'broker_owner_password';
ALTER ROLE broker_app LOGIN NOSUPERUSER NOBYPASSRLS NOINHERIT PASSWORD :'broker_app_password';
SELECT 'CREATE DATABASE broker OWNER broker_owner'
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'broker')
\gexec
"""


class Psql:
    """The superuser's way in; ``programs`` is the directory of psql."""

    def __init__(self, programs: Path, port: int, passwords: dict[str, str]) -> None:
        """Speak to the server at ``port`` of loopback."""
        self.port = port
        self._program = programs / "psql"
        self._passwords = passwords

    def prepare(self) -> bool:
        """Bring the roles and the database about; False while the server accepts no connections yet.

        Raises:
            StartError: the server refused a statement.
        """
        variables = "".join(f"\\set {login}_password '{word}'\n" for login, word in self._passwords.items())
        done = self._call(variables + _PREPARE)
        if done.returncode not in (0, _NO_CONNECTION):
            raise StartError(f"The database could not be prepared: {done.stderr.strip()}")
        return done.returncode == 0

    def run(self, sql: str) -> None:
        """Run statements, each in a transaction of its own.

        Raises:
            StartError: with what Postgres says.
        """
        done = self._call(sql)
        if done.returncode != 0:
            raise StartError(f"Postgres refused: {done.stderr.strip()}")

    def _call(self, script: str) -> subprocess.CompletedProcess[str]:
        # The script comes on stdin and the password in the environment: neither shows in a list of processes.
        login = {"PGUSER": SUPERUSER, "PGPASSWORD": self._passwords[SUPERUSER], "PGCONNECT_TIMEOUT": "5"}
        return subprocess.run(  # noqa: S603 — our own words
            [self._program, "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", LOOPBACK, "-p", str(self.port)],
            input=script,
            env={**ENVIRONMENT, **login},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

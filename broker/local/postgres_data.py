"""The files of the embedded Postgres: its passwords, and the cluster that initdb makes once."""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
from pathlib import Path

from broker.local.child import StartError
from broker.local.postgres_account import Home

SUPERUSER = "postgres"
OWNER = "broker_owner"  # migrates
APP = "broker_app"  # what the broker logs in as

# Nothing of our own environment: neither PG… variables nor secrets are the server's business.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def find_passwords(path: Path) -> dict[str, str]:
    """Give the password of each login, made at the first time and kept where only we can read them."""
    with contextlib.suppress(FileNotFoundError):
        kept: dict[str, str] = json.loads(path.read_bytes())
        return kept
    passwords = {login: secrets.token_hex(24) for login in (SUPERUSER, OWNER, APP)}
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    _write_private(draft, json.dumps(passwords))
    draft.rename(path)  # at once: a half-written file would lock us out of the data
    return passwords


def _write_private(path: Path, text: str, *, owner: int = -1) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        os.fchown(descriptor, owner, -1)


def initialise(home: Home, password: str) -> None:
    """Run initdb at the first time; elsewhere, so that one which was interrupted is not taken for the data."""
    if (home.data / "PG_VERSION").exists():
        return
    draft = home.data.with_name("pgdata.new")
    password_file = home.data.with_name("pgdata.password")
    shutil.rmtree(draft, ignore_errors=True)
    password_file.unlink(missing_ok=True)
    _write_private(password_file, password, owner=home.run_as.uid)
    words: list[str | Path] = [
        "-D",
        draft,
        "-U",
        SUPERUSER,
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
        "--no-instructions",
    ]
    _run_as_server(home, home.bin / "initdb", *words, "--auth=scram-sha-256", f"--pwfile={password_file}")
    password_file.unlink()
    draft.rename(home.data)


def remove_stale_pid(home: Home) -> None:
    """Remove what a killed server left; we hold the lock and so know that it is gone, Postgres would guess."""
    if os.path.lexists(home.data / "postmaster.pid"):
        _run_as_server(home, "/bin/rm", "-f", home.data / "postmaster.pid")


def _run_as_server(home: Home, *command: str | Path) -> None:
    done = subprocess.run(  # noqa: S603 — our own words
        home.run_as.command(command),
        cwd=home.data.parent,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    if done.returncode != 0:
        raise StartError(f"{Path(command[0]).name} failed: {(done.stderr or done.stdout).strip()}")

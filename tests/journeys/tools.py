"""What customers send with, fetched once from the package registries and kept in .local: the AWS CLI and Nodemailer."""

import asyncio
import fcntl
import os
import subprocess
import sys
from pathlib import Path

from tests.gateways.real_servers import ROOT, find
from tests.sandbox.aws import REGION, Account

FETCHED = ROOT / ".local" / "tools"
CLI = "awscli==1.46.3"
NODE_PACKAGES = ("nodemailer@10.6.1", "@aws-sdk/client-sesv2@3.1176.0")
_PATIENCE = 300


def aws_cli() -> Path:
    """The directory of the command `aws`, as PyPI has it: version 1."""
    place = FETCHED / CLI
    with _Locked(place):
        if not (place / "done").exists():
            _do([sys.executable, "-m", "venv", str(place / "venv")])
            _do([str(place / "venv/bin/python"), "-m", "pip", "install", "--quiet", CLI])
            (place / "done").touch()
    return place / "venv/bin"


def nodemailer() -> tuple[Path, Path]:
    """Node, and a directory in which a module finds Nodemailer and the SDK."""
    node = find("node", package="nodejs")
    place = FETCHED / "nodemailer"
    with _Locked(place):
        if not (place / "done").exists():
            npm = find("npm", package="npm")
            _do([str(npm.path), "install", "--prefix", str(place), "--no-audit", "--no-fund", *NODE_PACKAGES])
            (place / "done").touch()
    return node.path, place


async def run(command: list[str], aws_url: str, account: Account, *, text: str = "") -> tuple[int, str]:
    """Exit code and all that it said; it finds the local AWS and the account's keys in its environment only."""
    environment = {
        "PATH": os.pathsep.join([str(Path(command[0]).parent), os.environ["PATH"]]),
        "HOME": str(FETCHED),  # where no configuration is
        "AWS_ENDPOINT_URL": aws_url,
        "AWS_ACCESS_KEY_ID": account.keys.access_key_id,
        "AWS_SECRET_ACCESS_KEY": account.keys.secret_access_key,
        "AWS_REGION": REGION,
        "AWS_MAX_ATTEMPTS": "1",
    }
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
    )
    async with asyncio.timeout(_PATIENCE):
        said, _ = await process.communicate(text.encode())
    return process.returncode or 0, said.decode()


class _Locked:
    """A directory that no other test session fetches into meanwhile."""

    def __init__(self, place: Path) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self._file = (place / "lock").open("w")

    def __enter__(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _do(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE)  # noqa: S603 - our own words
    if done.returncode:
        raise RuntimeError(
            f"These tests need packages that could not be fetched.\n{command}\n{done.stdout}{done.stderr}"
        )

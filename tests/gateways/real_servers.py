"""Web servers that the world runs, as processes of their own on loopback: uvicorn, nginx and Node.

nginx and Node are the installed ones, else Debian's: their packages are fetched by apt and unpacked in .local, without
root and without a service.
"""

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from string import Template

import msgspec

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
FETCHED = ROOT / ".local" / "servers"
_PATIENCE = 60.0


class EndedError(Exception):
    """A server that was started has ended."""


class Program(msgspec.Struct, frozen=True):
    """An executable, and the environment that it needs."""

    path: Path
    environment: Mapping[str, str]


@contextlib.asynccontextmanager
async def uvicorn(http: str) -> AsyncIterator[int]:
    """The port of the app in `real_app.py` on uvicorn with this parser: h11 or httptools."""
    command = [sys.executable, "-m", "uvicorn", "tests.gateways.real_app:app", "--port", "0", "--http", http]
    async with _running([*command, "--no-access-log"], announces=r"running on http://127\.0\.0\.1:(\d+)") as port:
        yield port


@contextlib.asynccontextmanager
async def node() -> AsyncIterator[int]:
    """The port of `real_node.js`."""
    program = await asyncio.to_thread(find, "node", package="nodejs")
    command = [str(program.path), str(HERE / "real_node.js")]
    async with _running(command, announces=r"listening on (\d+)", environment=program.environment) as port:
        yield port


@contextlib.asynccontextmanager
async def nginx(directory: Path) -> AsyncIterator[int]:
    """The port of an nginx with `real_nginx.conf`; the next port closes each connection after two answers."""
    program = await asyncio.to_thread(find, "nginx", package="nginx")
    (directory / "pages").mkdir()
    (directory / "pages" / "large.html").write_text("x" * 1_000_000)
    (directory / "pages" / "included.html").write_text('<!--# echo var="request_method" -->' + "y" * 3_000)
    async with contextlib.AsyncExitStack() as stack:
        for more in (3, 2, 1, 0):
            port = _two_free_ports()
            try:
                await stack.enter_async_context(_nginx_at(port, directory, program))
                break
            except EndedError:  # somebody else took one of the two meanwhile
                if not more:
                    raise
        yield port


def _nginx_at(port: int, directory: Path, program: Program) -> contextlib.AbstractAsyncContextManager[int]:
    given = {
        "port": port,
        "next_port": port + 1,
        "user": "user root;" if os.geteuid() == 0 else "",  # else the workers change to one that may not be there
    }
    config = directory / "nginx.conf"
    config.write_text(Template((HERE / "real_nginx.conf").read_text()).substitute(given))
    command = [str(program.path), "-p", f"{directory}/", "-c", str(config), "-e", "stderr"]
    return _running(command, announces=r"start worker process()", environment=program.environment)


def find(name: str, *, package: str) -> Program:
    """The installed program, or the one of Debian's package, which is fetched."""
    places = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"])
    if installed := shutil.which(name, path=places):
        return Program(Path(installed), {})
    place = FETCHED / package
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another test session may be fetching it
        if not (place / "root").exists():
            _fetch(package, place)
    root = place / "root"
    libraries = sorted({str(library.parent) for library in root.glob("**/*.so.*")})
    (path,) = [found for found in (root / "usr/sbin" / name, root / "usr/bin" / name) if found.exists()]
    return Program(path, {"LD_LIBRARY_PATH": os.pathsep.join(libraries)} if libraries else {})


def _fetch(package: str, place: Path) -> None:
    """Debian's package, and of those that it needs the ones that this machine has not."""
    scratch, root = place / "apt", place / "root.new"
    for old in (scratch, root):
        shutil.rmtree(old, ignore_errors=True)
    for new in (root, scratch / "lists/partial", scratch / "archives/partial"):
        new.mkdir(parents=True)
    options = {"Debug::NoLocking": "1", "Dir::State::lists": scratch / "lists", "Dir::Cache": scratch,
               "APT::Sandbox::User": ""}  # fmt: skip
    apt = ["apt-get", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    _do([*apt, "update"])
    _do([*apt, "--yes", "--no-install-recommends", "--download-only", "install", package])
    for archive in (scratch / "archives").glob("*.deb"):
        _do(["dpkg-deb", "--extract", str(archive), str(root)])
    root.rename(place / "root")
    shutil.rmtree(scratch)


def _do(command: list[str]) -> None:
    why = "These tests need nginx and node: one is not installed, and could not be fetched with apt-get. Install it."
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)  # noqa: S603 - our own words
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(why) from error
    if done.returncode:
        raise RuntimeError(f"{why}\n{' '.join(command)}\n{done.stdout}{done.stderr}")


@contextlib.asynccontextmanager
async def _running(command: list[str], *, announces: str, environment: Mapping[str, str] = {}) -> AsyncIterator[int]:
    """A process from the moment when it says that it listens; the number in what it says, if any, is its port."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    said = b""
    try:
        async with asyncio.timeout(_PATIENCE):
            while not (found := re.search(announces.encode(), said)):
                assert process.stdout is not None
                line = await process.stdout.readline()
                if not line:
                    raise EndedError(f"{command[0]} ended: {said.decode()}")
                said += line
        yield int(found.group(1) or 0)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


def _two_free_ports() -> int:
    """The first of two neighbours that nobody listens on."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            with contextlib.suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 1))
                return port

"""The embedded Postgres: a real server of our own, on loopback, gone when we are."""

import contextlib
import signal
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from broker.local.child import Child, Farewell
from broker.local.directories import held_lock
from broker.local.postgres_account import Home, find_home
from broker.local.postgres_data import APP, ENVIRONMENT, OWNER, SUPERUSER, find_passwords, initialise, remove_stale_pid
from broker.local.processes import LOOPBACK, at_free_port
from broker.local.psql import DATABASE, Psql

# Fast shutdown, immediate shutdown, and only then the signal that leaves shared memory behind
# (PostgreSQL documentation, "Shutting Down the Server").
_FAREWELL: Farewell = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))

_CONFIGURATION = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_CARELESS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """A running server; leave it as a context manager, or call ``stop``."""

    def __init__(
        self, child: Child, psql: Psql, passwords: dict[str, str], *, log: Path, endings: contextlib.ExitStack
    ) -> None:
        """Made by ``start``."""
        self.port = psql.port
        self.log = log
        self._child = child
        self._psql = psql
        self._passwords = passwords
        self._endings = endings

    @classmethod
    def start(
        cls,
        data_dir: Path,
        *,
        port: int | None = None,
        durable: bool = True,
        autovacuum: bool = True,
        discard: bool = False,
        user_namespaces: bool | None = None,
    ) -> Self:
        """Start the server on ``data_dir``, which is made at the first time, with its roles and the database.

        Not ``durable`` means that a crash of the machine may lose data: for tests, as is to do without ``autovacuum``,
        whose transactions others would wait for. ``discard`` removes the data when the server is stopped.
        ``user_namespaces``: see ``find_home``. ``port`` None takes a free one.

        Raises:
            StartError: the sentence says why.
        """
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        data_dir = data_dir.resolve()
        with contextlib.ExitStack() as stack:
            lock = stack.enter_context(held_lock(data_dir / "postgres.lock", whose=f"The database in {data_dir}"))
            home = find_home(data_dir, user_namespaces=user_namespaces)
            if discard:
                stack.callback(home.discard)
            passwords = find_passwords(data_dir / "passwords.json")
            initialise(home, passwords[SUPERUSER])
            remove_stale_pid(home)
            log = data_dir / "postgres.log"

            def serve(port: int) -> tuple[Child, Psql]:
                settings = {**_CONFIGURATION, "port": str(port), "autovacuum": "on" if autovacuum else "off"}
                child = _launch(home, settings if durable else settings | _CARELESS, log=log, lock=lock)
                psql = Psql(home.client, port, passwords)
                child.wait_until(psql.prepare, 60)
                return child, psql

            child, psql = at_free_port(serve, port)
            stack.callback(child.stop)
            return cls(child, psql, passwords, log=log, endings=stack.pop_all())

    def __enter__(self) -> Self:
        """Use the running server."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()

    def stop(self) -> None:
        """End the server with a fast shutdown; when it has ended already, let go of what it held."""
        self._endings.close()

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would; ``stop`` is still to be called."""
        self._child.kill()

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        return self._child.pid

    @property
    def owner_url(self) -> str:
        """URL of the login that owns the database and runs the migrations."""
        return self.url(OWNER)

    @property
    def app_url(self) -> str:
        """URL of the login that the broker runs as; it bypasses no row-level security."""
        return self.url(APP)

    @property
    def admin_url(self) -> str:
        """URL of the superuser."""
        return self.url(SUPERUSER)

    def url(self, login: str, database: str = DATABASE) -> str:
        """Give the SQLAlchemy URL by which ``login`` reaches ``database``."""
        return f"postgresql+asyncpg://{login}:{self._passwords[login]}@{LOOPBACK}:{self.port}/{database}"

    def create_database(self, name: str, owner: str = OWNER, *, template: str = "template1") -> None:
        """Make one more database, as a copy of ``template`` (to which nobody may be connected)."""
        self._psql.run(f'CREATE DATABASE "{name}" OWNER "{owner}" TEMPLATE "{template}";')

    def drop_database(self, name: str) -> None:
        """Remove a database and end the connections to it."""
        self._psql.run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE);')


def _launch(home: Home, settings: Mapping[str, str], *, log: Path, lock: int) -> Child:
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return Child.start(
        "Postgres",
        [home.bin / "postgres", "-D", home.data, *words],
        log=log,
        env=ENVIRONMENT,
        cwd=home.data.parent,
        run_as=home.run_as,
        keep_open=[lock],
        farewell=_FAREWELL,
        death_signal=signal.SIGINT,
    )

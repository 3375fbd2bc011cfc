"""The map of the code that import-linter cannot draw."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
HTTP_FILES = {
    "api.py", "auth.py", "problems.py", "web.py", "app.py", "headers.py", "health.py", "openapi.py", "queries.py",
}  # fmt: skip


def imports_of(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_only_the_http_edge_knows_the_web_framework() -> None:
    """Use cases can be called from anywhere, because nothing below the edge imports litestar."""
    knowing = {path for path in (ROOT / "broker").rglob("*.py") if "litestar" in imports_of(path)}

    assert {path for path in knowing if path.name in HTTP_FILES or path.name.endswith("_api.py")} == knowing


def test_packages_export_nothing() -> None:
    """`__init__.py` stays empty: there is one way to import a name."""
    assert [str(path) for path in (ROOT / "broker").rglob("__init__.py") if path.read_text().strip()] == []


def test_a_migration_never_imports_the_models() -> None:
    """A migration means the same for ever, whatever the models become."""
    importing = [path.name for path in (ROOT / "migrations" / "versions").glob("*.py") if "broker" in imports_of(path)]

    assert [] == importing


# Who may ask for the time: the clock itself, the edges (HTTP, gateways, processes, the local AWS), and the places where
# something happens that bears a time from then on. Rules and ingest are given `now`.
MAY_ASK = {
    "broker/clock.py": "the clock",
    "broker/parts.py": "gives `now` to ingest",
    "broker/feedback/door.py": "the door for SNS, an edge of the API",
    "broker/feedback/flusher.py": "notes when a message came",
    "broker/feedback/intake.py": "the door for queues, as that for SNS",
    "broker/feedback/suppressions/service.py": "how long a party of an ended grant may still see",
    "broker/feedback/suppressions/push.py": "how long a party of an ended grant may still see",
    "broker/connections/binding.py": "the time of a connection's event",
    "broker/connections/prove.py": "how old a proof is",
    "broker/grants/events.py": "the time of a grant's event",
    "broker/health.py": "says since when something is gone",
    "broker/grants/service.py": "the state that is shown depends on the time",
    "broker/grants/sending/simulate.py": "a send is simulated now unless a time is given",
    "broker/webhooks/attempt.py": "the time that an attempt is signed with",
    "broker/webhooks/endpoints.py": "the time of an endpoint's event, and when a secret ends",
    "broker/webhooks/replays/service.py": "what may be asked for depends on the time",
    "broker/webhooks/addressed.py": "the time of an endpoint's event",
    "broker/webhooks/health.py": "the time of an endpoint's event",
}
EDGES = ("broker/gateways/", "broker/local/", "broker/sandbox/", "workers/")
CLOCKS = {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today"), ("time", "time"),
          ("time", "time_ns"), ("clock", "now")}  # fmt: skip


def clock_calls(path: Path) -> set[str]:
    """The wall clock as a file calls it, under the names that it imports."""
    tree = ast.parse(path.read_text())
    bare = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in {"broker.clock", "time"}
        for alias in node.names
        if alias.name in {"now", "time", "time_ns"}
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            found |= {f"{owner}.{node.attr}"} if (owner, node.attr) in CLOCKS else set()
        elif isinstance(node, ast.Name) and node.id in bare and isinstance(node.ctx, ast.Load):
            found.add(node.id)
    return found


def test_only_edges_ask_for_the_time() -> None:
    """Rules take `now`, ingest is given it, and what is scheduled goes by the database's clock."""
    asking = {
        name: calls
        for root in ("broker", "workers")
        for path in (ROOT / root).rglob("*.py")
        if not (name := path.relative_to(ROOT).as_posix()).startswith(EDGES) and path.name != "api.py"
        if (calls := clock_calls(path))
    }

    assert MAY_ASK.keys() == asking.keys(), asking


def test_the_clock_is_found_under_every_name(tmp_path: Path) -> None:
    """The test above can fail."""
    for text in (
        "import datetime\ndatetime.datetime.now()",
        "from broker import clock\nclock.now()",
        "from broker.clock import now as then\nf = then",
        "import time\ntime.time()",
        "from datetime import date\ndate.today()",
    ):
        (tmp_path / "rule.py").write_text(text)
        assert clock_calls(tmp_path / "rule.py"), text

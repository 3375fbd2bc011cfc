"""The map of the code that import-linter cannot draw."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
HTTP_FILES = {"api.py", "auth.py", "web.py", "app.py", "health.py", "openapi.py"}


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

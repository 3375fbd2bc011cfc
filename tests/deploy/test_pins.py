"""Dependencies, audited without a network: what is installed is what is pinned, file by file, and nothing else."""

import base64
import hashlib
import re
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
OURS = "ses-delegation-broker"
SHA256 = re.compile(r"--hash=sha256:([0-9a-f]{64})(?=\s|$)")
PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[^\]]*\])?==(?P<version>[^\s;\\]+)\s*(;\s*(?P<marker>[^\\]+?))?\s*\\?")
BROUGHT_BY_VENV = {"pip"}  # of Python itself (docs.python.org, venv)
# Written by the installer, without a hash (PyPA, recording installed projects): the list itself, and what is compiled.
UNHASHED = re.compile(r"\.dist-info/RECORD$|\.pyc$")


def pins(name: str) -> dict[str, str]:
    """Version by name of what is pinned for this machine; fails on anything but a version with hashes."""
    found: dict[str, str] = {}
    text = re.sub(r"^#.*\n", "", (ROOT / "deploy" / name).read_text(), flags=re.MULTILINE)
    for block in re.split(r"\n(?=\S)", text.strip()):
        head, *rest = block.splitlines()
        pin = PIN.fullmatch(head)
        assert pin is not None, head
        assert rest, f"{head} has no hash"
        assert all(SHA256.fullmatch(line.strip().removesuffix("\\").strip()) for line in rest), block
        if pin["marker"] is None or Marker(pin["marker"]).evaluate():
            found[canonicalize_name(pin["name"])] = pin["version"]
    return found


def installed() -> dict[str, Distribution]:
    """By name; each once."""
    every = [each for each in distributions() if canonicalize_name(each.name) != OURS]
    found = {canonicalize_name(each.name): each for each in every}
    assert len(every) == len(found)
    return {name: each for name, each in found.items() if name not in BROUGHT_BY_VENV}


def test_what_is_installed_is_what_is_pinned() -> None:
    """Every distribution, in its version; none is missing and none is there besides."""
    assert pins("requirements.txt") == {name: each.version for name, each in installed().items()}


def test_no_installed_file_has_been_changed() -> None:
    """Each has the hash that came with its package, whose own hash is pinned (PyPA, recording installed projects)."""
    changed, seen = [], 0
    for name, each in installed().items():
        for file in each.files or ():
            if file.hash is None:
                assert UNHASHED.search(str(file)) or file.name in {"INSTALLER", "REQUESTED"}, (name, file)
                continue
            digest = hashlib.new(file.hash.mode, Path(str(file.locate())).read_bytes()).digest()
            seen += 1
            if base64.urlsafe_b64encode(digest).decode().rstrip("=") != file.hash.value:
                changed.append(f"{name}: {file}")

    assert [] == changed
    assert seen > 5000


@pytest.mark.parametrize("name", ["deploy/local", "deploy/Dockerfile"])
def test_nothing_is_installed_without_its_hash(name: str) -> None:
    """Each line that installs pins says so; our own project is built without fetching anything."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / name).read_text())
    lines = [line for line in re.split(r"\n|&&", text) if re.search(r"\bpip install\b", line)]

    assert lines
    assert [] == [line for line in lines if "--require-hashes" not in line and "--no-build-isolation" not in line]

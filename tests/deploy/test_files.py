"""The files of the deployment agree with the code."""

import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from broker.cli import main
from broker.settings import table

DEPLOY = Path(__file__).parents[2] / "deploy"
VARIABLES = {variable: default for variable, default, _ in table()}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The compose file as data, anchors resolved."""
    data: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return data


def test_every_variable_of_the_compose_file_is_a_setting(compose: dict[str, Any]) -> None:
    """A renamed setting would be ignored in silence."""
    given = {name for service in compose["services"].values() for name in service.get("environment", {})}

    ours = {name for name in given if name.startswith("BROKER_")} - {"BROKER_APP_PASSWORD", "BROKER_OWNER_PASSWORD"}
    assert ours <= set(VARIABLES)


def test_the_compose_file_gives_every_setting_that_is_required(compose: dict[str, Any]) -> None:
    """Otherwise nothing of it would start."""
    required = {variable for variable, default in VARIABLES.items() if default == "required"}

    for name in ("migrate", "api", "policy-worker", "control-worker", "delivery-worker"):
        assert required <= set(compose["services"][name]["environment"])


def test_the_commands_of_the_containers_exist(compose: dict[str, Any]) -> None:
    """`broker` knows each of them, with its options and arguments."""
    assert isinstance(main, click.Group)
    for name in ("migrate", "api", "policy-worker", "control-worker", "delivery-worker"):
        command, *rest = compose["services"][name]["command"]
        found = main.commands[command]
        context = found.make_context(command, list(rest))
        assert context.info_name == command


def test_both_kinds_of_worker_run(compose: dict[str, Any]) -> None:
    """Otherwise policies would be applied and nothing delivered, or the other way round."""
    commands = {tuple(service.get("command", ())) for service in compose["services"].values()}

    assert {("worker", "policy"), ("worker", "delivery")} <= commands


def test_the_image_copies_what_the_build_needs() -> None:
    """Each path that the Dockerfile names is there."""
    sources = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
        for source in line.split()[:-1]
    ]

    assert sources
    assert [] == [source for source in sources if not (DEPLOY.parent / source).exists()]


def test_no_pin_is_without_hash_or_names_an_address() -> None:
    """What is installed is exactly what was pinned, wherever it comes from."""
    for name in ("requirements.txt", "installer.txt"):
        text = (DEPLOY / name).read_text()
        blocks = re.split(r"\n(?=[a-zA-Z0-9])", text)
        pins = [block for block in blocks if "==" in block.partition("\n")[0]]

        assert pins
        assert [] == [pin for pin in pins if "--hash=sha256:" not in pin]
        assert "://" not in text

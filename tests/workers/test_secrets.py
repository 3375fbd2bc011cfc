"""Secrets planted everywhere, and looked for in everything that the API, a worker and the commands print or answer."""

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from cryptography.fernet import Fernet
from sqlalchemy import make_url

from broker.local.environment import LOCAL_SETTINGS, without_cloud
from broker.settings import LogFormat, Settings
from tests.local.helpers import reserved_port, wait_for
from tests.local.programs import SLOW_S, Program, run_broker, started
from tests.servers import Postgres


def canary(name: str) -> str:
    """A text that nobody prints by chance."""
    return f"{name}-canary-{secrets.token_hex(8)}"


class Planted:
    """The environment of a broker whose every secret is a canary, and the secrets that it hands out."""

    def __init__(self, settings: Settings, owner_url: str, redis_url: str, log_format: LogFormat) -> None:
        place = redis_url.partition("://")[2]
        self.secrets = {name: canary(name) for name in ("pepper", "operator", "metrics", "redis", "aws-key", "session")}
        self.secrets["pepper"] += "0123456789"
        self.secrets |= {"first key": Fernet.generate_key().decode(), "old key": Fernet.generate_key().decode()}
        for name, url in (("database", settings.database_url), ("owner", owner_url)):
            self.secrets[f"{name} password"] = str(make_url(url).password)
        self.environment = {
            **without_cloud(os.environ),
            **LOCAL_SETTINGS,
            "BROKER_DATABASE_URL": settings.database_url,
            "BROKER_MIGRATION_DATABASE_URL": owner_url,
            "BROKER_REDIS_URL": f"redis://:{self.secrets['redis']}@{place}",
            "BROKER_SECRET_KEYS": f"{self.secrets['first key']},{self.secrets['old key']}",
            "BROKER_API_KEY_PEPPER": self.secrets["pepper"],
            "BROKER_REGISTRATION": "token",
            "BROKER_OPERATOR_TOKEN": self.secrets["operator"],
            "BROKER_METRICS_TOKEN": self.secrets["metrics"],
            "BROKER_LOG_FORMAT": log_format.value,
            "BROKER_LOG_LEVEL": "debug",
            "BROKER_AWS_ENDPOINT_URL": "http://127.0.0.1:9",
            "BROKER_AWS_ACCOUNT_ID": "999999999999",
            "BROKER_AWS_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": self.secrets["aws-key"],
            "AWS_SESSION_TOKEN": self.secrets["session"],
        }

    def found(self, told: Mapping[str, str]) -> list[str]:
        """Which secret stands where."""
        return [
            f"{name} in {where}" for where, text in told.items() for name, each in self.secrets.items() if each in text
        ]


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port at which nobody listens, and nobody will."""
    with reserved_port() as port:
        yield port


@pytest.mark.parametrize("log_format", list(LogFormat))
def test_no_output_holds_a_secret(
    settings: Settings, postgres: Postgres, redis_url: str, tmp_path: Path, closed_port: int, log_format: LogFormat
) -> None:
    """Keys, pepper, passwords, tokens, AWS's own, an ExternalId, an API key, a signing secret and a custom header."""
    planted = Planted(settings, postgres.owner_url, redis_url, log_format)
    with ExitStack() as stack:
        port = stack.enter_context(reserved_port())
        api = stack.enter_context(started(tmp_path / "api", "api", "--port", str(port), settings=planted.environment))
        worker = stack.enter_context(started(tmp_path / "worker", "worker", "all", settings=planted.environment))
        worker.wait_until_it_says("worker ready")
        client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=SLOW_S))
        wait_for(lambda: _serves(client), SLOW_S)
        told = _lived(client, planted, closed_port)
        worker.wait_until_it_says("doorbell")
        told |= {"api": _ended(api), "worker": _ended(worker)}
    commands = ("settings", "settings --check", "secrets check", "quarantine", "migrate")
    for command in commands:
        done = run_broker(*command.split(), settings=planted.environment)
        told[command] = done.stdout + done.stderr

    assert [] == planted.found(told)
    assert len(planted.secrets) > 12
    assert "request" in told["api"]
    assert "broker_" in told["metrics"]
    assert "endpoint_secrets.sealed" in told["secrets check"]


def _serves(client: httpx.Client) -> bool:
    try:
        return client.get("/health/live").status_code == 200
    except httpx.TransportError:
        return False


def _lived(client: httpx.Client, planted: Planted, closed_port: int) -> dict[str, str]:
    """Secrets are handed out, used rightly and wrongly, and put where they do not belong; what was answered after."""
    told = {}
    body = {"name": "Canary", "roles": ["owner", "delegate"]}
    made = client.post("/v1/tenants", json=body, headers=_bearer(planted.secrets["operator"])).json()
    planted.secrets["api key"] = made["secret"]
    client.headers.update(_bearer(made["secret"]))
    planted.secrets["header"] = canary("header")
    wanted = {"url": f"http://127.0.0.1:{closed_port}/", "headers": {"x-token": planted.secrets["header"]}}
    endpoint = client.post("/v1/endpoints", json=wanted).json()
    planted.secrets["signing secret"] = endpoint["secret"]
    account = f"{secrets.randbelow(10**12):012}"
    role = client.post("/v1/connections", json={"kind": "role", "account_id": account, "regions": ["eu-west-1"]}).json()
    told["verify"] = client.post(f"/v1/connections/{role['id']}/verify").text.replace(role["external_id"], "")
    planted.secrets["external id"] = role["external_id"]
    told["test"] = client.post(f"/v1/endpoints/{endpoint['id']}/test").text
    for name in ("api key", "signing secret"):  # where they do not belong
        client.get("/v1/tenant", params={"key": planted.secrets[name]})
        client.get("/v1/grants", params={"page_token": planted.secrets[name]})
        client.post("/v1/endpoints", content=planted.secrets[name].encode())
    told["wrong"] = client.get("/v1/tenant", headers=_bearer(planted.secrets["api key"][:-1])).text
    told["metrics"] = client.get("/metrics", headers=_bearer(planted.secrets["metrics"])).text
    for name, path in (("ready", "/health/ready"), ("schema", "/schema/openapi.json"), ("keys", "/v1/api-keys")):
        told[name] = client.get(path).text
    for path in ("/v1/endpoints", f"/v1/endpoints/{endpoint['id']}", "/v1/audit", "/v1/deliveries"):
        told[path] = client.get(path).text
    return told


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def _ended(program: Program) -> str:
    program.process.terminate()
    program.process.wait(SLOW_S)
    return program.output()

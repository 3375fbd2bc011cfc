"""The tenants of the crash matrix: who they are, what they ask of an API that may die, and what they heard."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
import msgspec

from bench.crash_settings import QUEUE_REGION
from bench.crash_stack import Place
from bench.revoke_seed import _template
from broker.local.aws import REGION
from broker.local.aws_account import AwsAccount
from broker.local.world import terms

OWNER_ACCOUNT, DELEGATE_ACCOUNT = "111111111111", "222222222222"
FIRST_ACCOUNT = 300_000_000_000
PATIENCE_S = 60.0
PAUSE_S = 0.02


class Broken(Exception):
    """Something did not become as it has to be; the sentence says what."""


def until(what: str, look: Callable[[], Any], *, seconds: float = PATIENCE_S) -> Any:
    """What `look` finds, once it is true; `Broken` after `seconds`."""
    ends = time.monotonic() + seconds
    while True:
        if found := look():
            return found
        if time.monotonic() > ends:
            raise Broken(f"Not within {seconds:g} s: {what}.")
        time.sleep(PAUSE_S)


class Tenant:
    """One tenant. What it asks is asked again, under the same Idempotency-Key, until the API has answered."""

    def __init__(self, place: Place, name: str, account_id: str, *roles: str) -> None:
        """Registers."""
        self._http = httpx.Client(base_url=place.api_url, timeout=20, trust_env=False)
        made = self.ask("POST", "/v1/tenants", {"name": name, "roles": list(roles)})
        self.id = str(made["tenant"]["id"])
        self._http.headers["authorization"] = f"Bearer {made['secret']}"
        keys = place.control.open_account(account_id)
        self.aws = AwsAccount(place.aws.url, account_id, keys)
        self.account_id = account_id

    def ask(self, method: str, path: str, body: object = None, *, etag: str | None = None, **query: str) -> Any:
        """The JSON that is answered, None without any; `Broken` where it is refused."""
        headers = {"idempotency-key": str(uuid4())} if method == "POST" else {}
        headers |= {"if-match": etag} if etag else {}
        send = partial(self._send, method, path, headers, {"json": body} if body is not None else {}, query)
        answer: httpx.Response = until(f"{method} {path} is answered", send)
        if not answer.is_success:
            raise Broken(f"{method} {path} got {answer.status_code}: {answer.text[:400]}")
        return answer.json() if answer.content else None

    def _send(
        self, method: str, path: str, headers: dict[str, str], given: dict[str, Any], query: dict[str, str]
    ) -> httpx.Response | None:
        """None where it has to be sent again: nobody listens, nobody answers, not now, or the first one still runs."""
        try:
            answer = self._http.request(method, path, headers=headers, params=query, **given)
        except httpx.TransportError:
            return None
        again = answer.status_code == 503 or (answer.status_code == 409 and "still running" in answer.text)
        return None if again else answer

    def get(self, path: str, **query: str) -> Any:
        """The JSON at a path."""
        return self.ask("GET", path, **query)

    def wait(self, path: str, *states: str, seconds: float = PATIENCE_S) -> Any:
        """The resource at a path, once it is in one of these states."""
        last: list[Any] = []

        def look() -> Any:
            last.append(self.get(path))
            return last[-1] if last[-1]["state"] in states else None

        try:
            return until(f"{path} is {' or '.join(states)}", look, seconds=seconds)
        except Broken as error:
            why = {key: last[-1].get(key) for key in ("state", "reason", "error")}
            raise Broken(f"{error} It is {why}") from error

    def connect(self, *regions: str) -> Any:
        """Its account, connected by the role of the template and verified."""
        asked = {"kind": "role", "account_id": self.account_id, "regions": list(regions)}
        made = self.ask("POST", "/v1/connections", asked)
        script = until("the template", partial(self._text, f"/v1/connections/{made['id']}/template"))
        trust, policy = _template(script)
        name, iam = made["role_arn"].rpartition("/")[2], self.aws.client("iam")
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)
        iam.put_role_policy(RoleName=name, PolicyName="broker", PolicyDocument=policy)
        self.ask("POST", f"/v1/connections/{made['id']}/verify")
        return self.wait(f"/v1/connections/{made['id']}", "verified")

    def _text(self, path: str) -> str | None:
        try:
            answer = self._http.get(path, params={"format": "sh"})
        except httpx.TransportError:
            return None
        return answer.text if answer.is_success else None

    def prove(self) -> None:
        """Proves its account, which gives no right to it."""
        made = self.ask("POST", "/v1/connections", {"kind": "proof", "account_id": self.account_id})
        proof = made["proof"]
        signed = self.aws.presign(proof["url"], proof["region"], proof["headers"])
        path = f"/v1/connections/{made['id']}/prove"
        self.ask("POST", path, {"url": signed, "headers": proof["headers"]})
        self.wait(f"/v1/connections/{made['id']}", "verified")

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()
        self.aws.close()


class Inbox:
    """How often each webhook came to one receiver."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=20, trust_env=False)
        self._read = 0
        self.copies: Counter[str] = Counter()

    def read(self) -> Counter[str]:
        """All so far, by webhook-id."""
        fresh = self._http.get("/received", params={"after": self._read}).json()
        self._read += len(fresh)
        self.copies.update(each["headers"]["webhook-id"] for each in fresh)
        return self.copies

    def close(self) -> None:
        """Closes the connection."""
        self._http.close()


class Steady(msgspec.Struct, frozen=True):
    """A grant that is active, of whose mail feedback comes by one way."""

    region: str
    identity: str
    grant_id: str


class World:
    """An owner with as many identities as there are runs, a delegate with a role, and the webhooks of both."""

    def __init__(self, place: Place, identities: int) -> None:
        """All that comes before a run."""
        self.place = place
        self._identities = iter(range(identities))
        self._accounts = iter(range(FIRST_ACCOUNT, FIRST_ACCOUNT + 100_000))
        names = [(REGION, f"n{number}.example") for number in range(identities)]
        for region, name in [*names, (REGION, "steady.example"), (QUEUE_REGION, "queued.example")]:
            self.verify(OWNER_ACCOUNT, name, region)
        self.owner = Tenant(place, "Example Ltd", OWNER_ACCOUNT, "owner")
        self.delegate = Tenant(place, "Letters Ltd", DELEGATE_ACCOUNT, "delegate")
        self.endpoints = {name: self.listen(name) for name in ("owner", "delegate")}
        self.inboxes = {name: Inbox(place.receivers[name]) for name in ("owner", "delegate")}
        self.owner.connect(REGION, QUEUE_REGION)
        self.delegate_connection = str(self.delegate.connect(REGION)["id"])
        self.steady = self._steady(REGION, "steady.example")
        self.queued = self._steady(QUEUE_REGION, "queued.example")

    def listen(self, name: str, **more: object) -> str:
        """One more endpoint of the owner's or the delegate's at its receiver; the id."""
        tenant: Tenant = getattr(self, name)
        asked = {"url": f"{self.place.receivers[name]}/hook", "description": name, **more}
        return str(tenant.ask("POST", "/v1/endpoints", asked)["id"])

    def verify(self, account_id: str, name: str, region: str = REGION) -> str:
        """A verified identity; its ARN."""
        self.place.control.open_account(account_id)
        return self.place.aws.cloud.state.add_identity((account_id, region), name, verified=True).arn

    def next_identity(self) -> str:
        """One of the owner's that no run has used."""
        return f"n{next(self._identities)}.example"

    def new_account(self) -> str:
        """An account that nobody has."""
        return str(next(self._accounts))

    def propose(self, identity: str, *, owner: Tenant | None = None, region: str = REGION) -> str:
        """The id of a grant that the owner proposes."""
        owner = owner or self.owner
        asked = {
            "identity_arn": f"arn:aws:ses:{region}:{owner.account_id}:identity/{identity}",
            "delegate_id": self.delegate.id,
            "terms": terms(DELEGATE_ACCOUNT, f"news@{identity}", days=30),
        }
        return str(owner.ask("POST", "/v1/grants", asked)["id"])

    def approve(self, grant_id: str) -> None:
        """The delegate agrees."""
        etag = self.delegate.get(f"/v1/grants/{grant_id}")["etag"]
        self.delegate.ask("POST", f"/v1/grants/{grant_id}/approve", etag=etag)

    def route(self, owner: Tenant, grant_id: str, *states: str) -> Any:
        """The route of a grant, once it is in one of these states."""

        def look() -> Any:
            found = owner.get("/v1/routes", grant_id=grant_id)["items"]
            return next((each for each in found if each["state"] in states), None)

        return until(f"the route of {grant_id} is {' or '.join(states)}", look)

    def _steady(self, region: str, identity: str) -> Steady:
        grant_id = self.propose(identity, region=region)
        self.approve(grant_id)
        self.owner.wait(f"/v1/grants/{grant_id}", "active")
        self.route(self.owner, grant_id, "configured", "live")
        return Steady(region, identity, grant_id)

    def publish(self, steady: Steady, kind: str, recipients: list[str]) -> str:
        """SES has news of a mail of the delegate's; the mail's id."""
        told = self.place.control.publish(
            account_id=OWNER_ACCOUNT,
            region=steady.region,
            identity=steady.identity,
            sending_account_id=DELEGATE_ACCOUNT,
            source=f"news@{steady.identity}",
            recipients=recipients,
            kind=kind,
        )
        return str(told["message_id"])

    def close(self) -> None:
        """Closes every connection."""
        self.owner.close()
        self.delegate.close()
        for inbox in self.inboxes.values():
            inbox.close()


@contextlib.contextmanager
def made(place: Place, identities: int) -> Iterator[World]:
    """A world on a place that runs."""
    world = World(place, identities)
    try:
        yield world
    finally:
        world.close()

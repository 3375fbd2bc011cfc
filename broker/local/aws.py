"""The control API of the local AWS, for what no AWS API offers: opening accounts, verifying identities."""

import json
import urllib.error
import urllib.request
from typing import Any

import msgspec

from broker.local.child import StartError

REGION = "eu-west-1"
SECONDS = 20


class Keys(msgspec.Struct, frozen=True):
    """The access key of an account's administrator, and the ARN that it signs as."""

    access_key_id: str
    secret_access_key: str
    arn: str


class LocalAws:
    """A local AWS that runs."""

    def __init__(self, url: str) -> None:
        """``url`` is the endpoint for every service and Region."""
        self.url = url
        # An opener of our own: proxies of the environment are not for loopback.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def open_account(self, account_id: str) -> Keys:
        """The credentials of the account, which is made at the first time."""
        return msgspec.convert(self._post("accounts", account_id=account_id), Keys)

    def verify_identity(self, account_id: str, identity: str) -> str:
        """A verified domain or address in the account, as if its DNS records had been found; gives the ARN."""
        answer = self._post("identities", account_id=account_id, region=REGION, identity=identity)
        return str(answer["arn"])

    def leave_ses_sandbox(self, account_id: str) -> None:
        """Lets the account send to anybody."""
        self._post("production", account_id=account_id, region=REGION)

    def calls(self) -> list[dict[str, Any]]:
        """Every AWS call so far, oldest first: the local AWS's CloudTrail."""
        found: list[dict[str, Any]] = self._send("GET", "calls")
        return found

    def set_dialect(self, **switches: object) -> None:
        """Have the open points of SES behave otherwise (broker.sandbox.dialect)."""
        self._send("PATCH", "dialect", switches)

    def check(self) -> None:
        """Raises StartError where no local AWS answers at the URL."""
        if self._send("GET", "health") != {"ok": True}:
            raise StartError(f"What answers at {self.url} is not a local AWS.")

    def publish(self, **event: object) -> dict[str, Any]:
        """An SES event of a mail that need not have been sent (broker.sandbox.synthetic); `message_id`, `topics`."""
        told: dict[str, Any] = self._send("POST", "events", event)
        return told

    def _post(self, path: str, **body: str) -> Any:
        return self._send("POST", path, body)

    def _send(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_sandbox/{path}", data, method=method)  # noqa: S310 — our own server
        try:
            with self._opener.open(request, timeout=SECONDS) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(500).decode(errors="replace")
            raise StartError(f"The local AWS at {self.url} refuses {method} {path}: {said}") from error
        except ValueError as error:
            raise StartError(f"What answers at {self.url} is not a local AWS.") from error
        except OSError as error:
            raise StartError(f"The local AWS does not answer {method} {path} at {self.url}: {error}") from error

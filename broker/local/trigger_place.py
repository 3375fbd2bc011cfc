"""Where `broker trigger` acts: a local AWS, and a grant of the key's tenant whose feedback comes in."""

import time
from collections.abc import Sequence
from datetime import datetime
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from broker.local.asking import Asking, Missing
from broker.local.aws import LocalAws
from broker.local.child import StartError
from broker.local.scenarios import Round

POLL_S = 0.2
READY = frozenset({"configured", "live", "quiet"})


class Heard(msgspec.Struct, frozen=True):
    """Which kinds each party hears of."""

    owner_events: frozenset[str] = frozenset()
    delegate_events: frozenset[str] = frozenset()


class Agreed(msgspec.Struct, frozen=True):
    """The terms of a grant as far as they matter here."""

    principals: Sequence[str]
    from_addresses: Sequence[str] = ()
    from_display_names: Sequence[str] = ()
    feedback: Heard = Heard()


class Grant(msgspec.Struct, frozen=True):
    """A grant as one of its parties sees it."""

    id: str
    state: str
    you_are: Literal["owner", "delegate"]
    identity_arn: str
    terms: Agreed | None
    activated_at: datetime | None

    @property
    def heard(self) -> frozenset[str]:
        """The kinds that this party hears of."""
        feedback = self.terms.feedback if self.terms else Heard()
        return feedback.owner_events if self.you_are == "owner" else feedback.delegate_events

    @property
    def line(self) -> str:
        """For a list."""
        return f"{self.id}  {self.state:<10} {self.identity_arn}"


def sender_of(grant: Grant) -> str:
    """A From that the terms allow: the first address and name that are no patterns, else one that fits the identity."""
    terms = grant.terms or Agreed(())
    identity = grant.identity_arn.rpartition(":identity/")[2]
    usual = identity if "@" in identity else f"news@{identity}"
    address = next((each for each in terms.from_addresses if _is_plain(each)), usual)
    name = next((each for each in terms.from_display_names if _is_plain(each)), None)
    return f"{name} <{address}>" if name else address


def account_of(grant: Grant) -> str:
    """The delegate's account, of a bare id or an ARN."""
    first = (grant.terms or Agreed(())).principals[0]
    return first.split(":")[4] if first.startswith("arn:") else first


def local_aws(url: str) -> LocalAws:
    """The local AWS at a URL.

    Raises:
        StartError: it is not one.
    """
    if not _is_loopback(url):
        raise StartError(
            f"{url} is not on this machine: broker trigger speaks to a local AWS only, never to the real one."
        )
    aws = LocalAws(url.rstrip("/"))
    aws.check()
    return aws


def choose_grant(api: Asking, wanted: str | None) -> Grant:
    """The grant with this id, or the only one that is active.

    Raises:
        StartError: there is none, or there are several; the sentence lists them.
    """
    if wanted is not None:
        try:
            found = api.get(f"/v1/grants/{wanted}", Grant)
        except Missing as error:
            raise StartError(f"You have no grant {wanted}.") from error
        if found.activated_at is None:
            raise StartError(f"The grant {wanted} is {found.state} and was never active: no mail was sent under it.")
        return found
    grants = msgspec.convert(api.get_all("/v1/grants"), list[Grant])
    active = [grant for grant in grants if grant.state == "active"]
    if len(active) == 1:
        return active[0]
    if active:
        listed = "\n".join(grant.line for grant in active)
        raise StartError(f"Several of your grants are active: say which with --grant.\n{listed}")
    others = "\n" + "\n".join(grant.line for grant in grants) if grants else ""
    raise StartError(f"None of your grants is active.{others}")


def check_terms(grant: Grant, rounds: Sequence[Round]) -> None:
    """Raises StartError where this party does not hear of what is to happen."""
    kinds = {scene.kind for scenes in rounds for scene in scenes}
    deaf = sorted(kind.value for kind in kinds if kind.value not in grant.heard)
    if deaf:
        raise StartError(
            f"By the terms of grant {grant.id} you do not hear of: {', '.join(deaf)}. "
            f"Its feedback.{grant.you_are}_events are: {', '.join(sorted(grant.heard)) or 'none'}."
        )


def wait_for_route(api: Asking, grant: Grant, *, until: float) -> None:
    """Returns when feedback about the grant reaches the broker; StartError where it does not until then."""
    while True:
        routes = api.get_all("/v1/routes", grant_id=grant.id)
        if any(route["state"] in READY for route in routes):
            return
        if time.monotonic() > until:
            said = "; ".join(f"{route['state']} ({route['reason'] or 'no reason given'})" for route in routes)
            raise StartError(f"The feedback route of grant {grant.id} is not set up: {said or 'there is none'}.")
        time.sleep(POLL_S)


def needs_stand_in(rounds: Sequence[Round]) -> list[str]:
    """The kinds that no identity topic would ever get."""
    return sorted({scene.kind.value for scenes in rounds for scene in scenes if scene.stands_in})


def _is_plain(pattern: str) -> bool:
    return "*" not in pattern and "?" not in pattern


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False

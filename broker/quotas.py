"""How many of each thing a tenant may have, and how often it may do what costs; a setting changes the numbers."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec


class Quota(StrEnum):
    """What is counted; the text is its name in the setting."""

    API_KEYS = "api_keys"
    CONNECTIONS = "connections"
    ENDPOINTS = "endpoints"
    IDENTITIES = "identities"
    OPEN_PROPOSALS = "open_proposals"
    ROUTES = "routes"


class Act(StrEnum):
    """What costs us calls of AWS, DNS look-ups or requests to others, and is counted by the minute."""

    CHECKS = "checks"
    ENDPOINT_TESTS = "endpoint_tests"
    REPLAYS = "replays"
    SIMULATIONS = "simulations"


class Numbered(msgspec.Struct, frozen=True):
    """A number, what is counted, and what makes room."""

    most: int
    things: str
    way_out: str


MOST: Mapping[Quota, Numbered] = {
    Quota.API_KEYS: Numbered(50, "API keys in force", "revoke one first"),
    Quota.CONNECTIONS: Numbered(100, "connections", "remove one first"),
    Quota.ENDPOINTS: Numbered(20, "endpoints", "delete one first"),
    Quota.IDENTITIES: Numbered(1_000, "identities entered by hand", "remove their connection first"),
    Quota.OPEN_PROPOSALS: Numbered(500, "open proposals that it has made", "withdraw one first"),
    Quota.ROUTES: Numbered(1_000, "routes", "remove one first"),
}
A_MINUTE: Mapping[Act, int] = {
    Act.CHECKS: 120,  # of connections, identities and routes: each becomes calls of AWS in the owner's account
    Act.ENDPOINT_TESTS: 60,
    Act.REPLAYS: 120,
    Act.SIMULATIONS: 300,
}


class Quotas(msgspec.Struct, frozen=True):
    """What this installation allows; 0 is no limit."""

    numbers: Mapping[str, int] = {}

    def most(self, quota: Quota) -> int:
        """How many a tenant may have."""
        return self.numbers.get(quota, MOST[quota].most)

    def a_minute(self) -> dict[str, float]:
        """How often a tenant may do each act in a minute."""
        return {act.value: float(self.numbers.get(act, usual)) for act, usual in A_MINUTE.items()}


def parse(text: str) -> Quotas:
    """`name=number,…`; ValueError for another name, or for no number."""
    found = {}
    names = [*(each.value for each in Quota), *(each.value for each in Act)]
    for pair in filter(None, (each.strip() for each in text.split(","))):
        name, _, number = (each.strip() for each in pair.partition("="))
        if name not in names or not number.isdecimal():
            raise ValueError(f"{pair} is not name=number with a name of {', '.join(names)}")
        found[name] = int(number)
    return Quotas(found)

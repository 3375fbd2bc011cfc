"""Fixtures of the tests about identities."""

from tests.connections.aws import cloud, gateways

__all__ = ["cloud", "gateways"]

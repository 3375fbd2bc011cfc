"""Fixtures of the tests about AWS accounts."""

from tests.connections.aws import cloud, gateways

__all__ = ["cloud", "gateways"]

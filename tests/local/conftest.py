"""What all tests of local runs need."""

import signal
from collections.abc import Iterator

import pytest

from tests.local.helpers import reserved_port


@pytest.fixture(scope="package", autouse=True)
def _interruptible() -> None:
    """A shell starts what it puts into the background with SIGINT ignored, and what we start would inherit it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def port() -> Iterator[int]:
    """A port of loopback for a server of the test's own."""
    with reserved_port() as reserved:
        yield reserved

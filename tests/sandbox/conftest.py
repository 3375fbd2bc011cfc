"""One local AWS for all tests of this directory; each test opens accounts of its own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from broker.sandbox.dialect import Dialect
from broker.sandbox.server import start_in_thread
from tests.sandbox.aws import Aws, Endpoint, endpoint


@pytest.fixture(scope="session")
def aws() -> Iterator[Aws]:
    """With the default dialect, but SNS retries at once."""
    with start_in_thread(dialect=Dialect(sns_retry_seconds=0.02)) as running:
        yield Aws(running)


@pytest.fixture
def aws_speaking() -> Iterator[Callable[..., Aws]]:
    """A local AWS of its own for a test about one switch of the dialect."""
    with ExitStack() as stack:

        def start(**switches: Any) -> Aws:
            return Aws(stack.enter_context(start_in_thread(dialect=Dialect(**switches))))

        yield start


@pytest.fixture
def listener() -> Iterator[Endpoint]:
    """An HTTP endpoint that SNS can post to."""
    with endpoint() as found:
        yield found

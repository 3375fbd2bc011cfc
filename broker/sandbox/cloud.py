"""The parts of one running local AWS, handed to every handler."""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Event

from broker.sandbox.accounts import Accounts
from broker.sandbox.dialect import Dialect
from broker.sandbox.faults import Faults
from broker.sandbox.sns_delivery import Courier
from broker.sandbox.state import State

_log = logging.getLogger(__name__)


def _report(future: Future[None]) -> None:
    """Logs what went wrong in a background thread, where nobody would see it."""
    if not future.cancelled() and (error := future.exception()) is not None:
        _log.error("work in the background failed", exc_info=error)


class Cloud:
    """One local AWS. `dialect` may be replaced while it runs; `url` is where it is reached."""

    def __init__(self, dialect: Dialect, url: str) -> None:
        self.dialect = dialect
        self.url = url
        self.state = State()
        self.accounts = Accounts()
        self.closing = Event()
        self.faults = Faults()
        self._background = ThreadPoolExecutor(4, thread_name_prefix="ses-feedback")
        self._unfinished: set[Future[None]] = set()
        self.courier = Courier(url, self.closing)

    def later(self, work: Callable[[], None]) -> None:
        """Does the work soon in another thread; what goes wrong there is logged."""
        with self.state.lock:
            future = self._background.submit(work)
            future.add_done_callback(_report)
            self._unfinished = {each for each in self._unfinished if not each.done()} | {future}

    def settle(self, seconds: float) -> bool:
        """Waits until all work of `later` so far is done; False when that takes longer."""
        with self.state.lock:
            waiting = set(self._unfinished)
        return not wait(waiting, seconds).not_done

    def close(self) -> None:
        """Stops what runs in the background; undelivered messages are dropped."""
        self.closing.set()
        self.faults.clear()
        self._background.shutdown(wait=True, cancel_futures=True)
        self.courier.close()

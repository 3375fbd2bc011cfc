"""The parts of one running local AWS, handed to every handler."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

from broker.sandbox.accounts import Accounts
from broker.sandbox.dialect import Dialect
from broker.sandbox.faults import Faults
from broker.sandbox.sns_delivery import Courier
from broker.sandbox.state import State


class Cloud:
    """One local AWS. `dialect` may be replaced while it runs; `url` is where it is reached."""

    def __init__(self, dialect: Dialect, url: str) -> None:
        self.dialect = dialect
        self.url = url
        self.state = State()
        self.accounts = Accounts()
        self.closing = Event()
        self.faults = Faults()
        self.background = ThreadPoolExecutor(4, thread_name_prefix="ses-feedback")
        self.courier = Courier(url, self.closing)

    def close(self) -> None:
        """Stops what runs in the background; undelivered messages are dropped."""
        self.closing.set()
        self.faults.clear()
        self.background.shutdown(wait=True, cancel_futures=True)
        self.courier.close()

"""SNS, as fast as wanted: a process that posts signed messages and keeps when each was sent and acknowledged.

Usage: ``python -m bench.generator PLAN`` with the file of a ``Plan`` in JSON.

Open loop (``rate`` > 0): message n is due at start + n / rate whatever the broker does, and its latency counts from
that moment, so that a broker that stalls pays for every message that had to wait. Closed loop (``rate`` 0): each
connection sends the next message when the last one was answered.

What is not answered with 200 is sent again after ``Retry-After`` or a second, as often as it takes within
``patience_s``; SNS itself does so 3 times, 20 s apart, unless its topic's policy says more.
"""

import asyncio
import gc
import sys
import time
from array import array
from collections import deque
from pathlib import Path
from typing import NamedTuple

import msgspec
import uvloop

from bench import messages
from bench.posting import RECONNECT_S, Connection
from bench.sink import raise_file_limit

_TICK_S = 0.001


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to send. ``seconds`` after the start nothing new is begun. ``first``: number of the first message."""

    stock: str
    count: int
    api_port: int
    certificate_port: int
    seconds: float
    result: str
    rate: float = 0.0
    connections: int = 256
    first: int = 0
    patience_s: float = 60.0


class Sent(NamedTuple):
    """What was sent, by message from the plan's ``first`` on; times are time.monotonic().

    ``due``: when it should have been sent; ``acked``: when 200 came, 0.0 if never; ``tries``: how often it was sent.
    """

    due: "array[float]"
    acked: "array[float]"
    tries: "array[int]"


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The run as a whole. ``ended``: when the last message was begun; ``refused``: answers by status, 0: none came."""

    first: int
    started: float
    ended: float
    cpu_s: float
    refused: dict[int, int]


class Load:
    """The messages, and what became of each."""

    def __init__(self, plan: Plan, requests: list[bytes]) -> None:
        """Send these requests."""
        self.plan = plan
        self.port = plan.api_port
        self._requests = requests
        self.sent = Sent(array("d"), array("d"), array("q"))
        self.refused: dict[int, int] = {}
        self.started = self.ended = 0.0
        self._idle: deque[Connection] = deque()
        self._waiting: deque[int] = deque()  # due and not yet sent for want of a connection, or to be sent again
        self._open = 0  # begun and not acknowledged
        self._loop = asyncio.get_running_loop()
        self.done = asyncio.Event()

    async def run(self) -> None:
        """Send everything; at the end, wait for what is not acknowledged yet."""
        first = [Connection(self) for _ in range(self.plan.connections)]
        await asyncio.gather(*(each.connect() for each in first))
        self.started = time.monotonic()
        if self.plan.rate:
            self._tick()
        else:
            for _ in range(self.plan.connections):
                self._begin_next()
        deadline = self.plan.seconds + self.plan.patience_s
        try:
            await asyncio.wait_for(self.done.wait(), deadline)
        except TimeoutError:
            sys.stderr.write(f"{self._open} messages were not acknowledged in time\n")

    def free(self, connection: Connection) -> None:
        """This connection has nothing to do."""
        if self._waiting:
            connection.send(self._waiting.popleft(), self._requests)
        else:
            self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
        """This connection is gone."""
        if connection in self._idle:
            self._idle.remove(connection)
        if connection.number is not None:
            self.answered(connection.number, 0, RECONNECT_S)
            connection.number = None
        if not self.done.is_set():
            self._loop.call_later(RECONNECT_S, connection.connect_later)

    def answered(self, number: int, status: int, again_s: float) -> None:
        """Take an answer to a message; the closed loop begins the next one."""
        if status == 200:
            self.sent.acked[number] = time.monotonic()
            self._open -= 1
        else:
            self.refused[status] = self.refused.get(status, 0) + 1
            self._loop.call_later(again_s, self._dispatch, number)
        if not self.plan.rate and status == 200:
            self._begin_next()
        self._look_for_end()

    def count_try(self, number: int) -> None:
        """It is being sent."""
        self.sent.tries[number] += 1

    def _tick(self) -> None:
        now = time.monotonic()
        last = min(len(self._requests), int(self.plan.rate * self.plan.seconds))
        while (number := len(self.sent.due)) < last:
            due = self.started + number / self.plan.rate
            if due > now:
                break
            self._begin(due)
        if number < last:
            self._loop.call_later(_TICK_S, self._tick)
        else:
            self._end()

    def _begin_next(self) -> None:
        now = time.monotonic()
        if now < self.started + self.plan.seconds and len(self.sent.due) < len(self._requests):
            self._begin(now)
        else:
            self._end()

    def _begin(self, due: float) -> None:
        number = len(self.sent.due)
        self.sent.due.append(due)
        self.sent.acked.append(0.0)
        self.sent.tries.append(0)
        self._open += 1
        self._dispatch(number)

    def _dispatch(self, number: int) -> None:
        if self._idle:
            self._idle.popleft().send(number, self._requests)
        else:
            self._waiting.append(number)

    def _end(self) -> None:
        self.ended = self.ended or time.monotonic()
        self._look_for_end()

    def _look_for_end(self) -> None:
        if self.ended and not self._open:
            self.done.set()


def load_result(path: Path) -> tuple[Summary, Sent]:
    """What a generator wrote to its plan's ``result``."""
    sent = Sent(array("d"), array("d"), array("q"))
    with path.open("rb") as file:
        summary = msgspec.json.decode(file.readline(), type=Summary)
        count = int(file.readline())
        for column in sent:
            column.fromfile(file, count)
    return summary, sent


def _save(path: Path, summary: Summary, sent: Sent) -> None:
    with path.open("wb") as file:
        file.write(msgspec.json.encode(summary) + b"\n%d\n" % len(sent.due))
        for column in sent:
            column.tofile(file)


async def main(plan: Plan) -> None:
    """Carry out a plan."""
    requests = messages.load(
        Path(plan.stock), plan.first + plan.count, api_port=plan.api_port, certificate_port=plan.certificate_port
    )[plan.first :]
    gc.freeze()
    gc.disable()  # what is kept holds no cycles, and a pause would be measured as the broker's
    load = Load(plan, requests)
    before = time.process_time()
    await load.run()
    cpu_s = time.process_time() - before
    summary = Summary(first=plan.first, started=load.started, ended=load.ended, cpu_s=cpu_s, refused=load.refused)
    _save(Path(plan.result), summary, load.sent)


if __name__ == "__main__":
    raise_file_limit()
    uvloop.run(main(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Plan)))

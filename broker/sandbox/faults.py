"""Trouble on request: throttling, server errors, refusals, answers that never come, and calls carried out late."""

from collections.abc import Callable
from contextlib import suppress
from threading import Condition, Event
from typing import Literal

import msgspec

from broker.sandbox.errors import AwsError


class Fault(msgspec.Struct, forbid_unknown_fields=True):
    """What shall go wrong. Empty `service`, `operation` or `account_id` mean any; `times` None means until cleared.

    With `after` the operation takes effect first and only its answer is replaced or lost. `late` answers as a server
    error and holds the call back, until somebody has it carried out.
    """

    error: Literal["throttle", "500", "access_denied", "timeout", "late"]
    service: str | None = None
    operation: str | None = None
    times: int | None = 1
    account_id: str | None = None
    after: bool = False


HANG_SECONDS = 60.0
"""How long a call with a `timeout` fault is left without an answer; clients of the broker give up long before."""


class Faults:
    """The faults that are set now. Safe to use from several threads."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._late: list[Callable[[], object]] = []
        self._lock = Condition()
        self._cleared = Event()

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._cleared.clear()
            self._faults.append(fault)

    def clear(self) -> None:
        """Forgets all faults, lets hanging calls end and drops those that were held back."""
        with self._lock:
            self._faults.clear()
            self._late.clear()
            self._cleared.set()

    def listed(self) -> list[Fault]:
        with self._lock:
            return list(self._faults)

    def take(self, service: str, operation: str, account_id: str) -> Fault | None:
        """The first fault that fits this call, counted down."""
        with self._lock:
            for fault in self._faults:
                if (
                    fault.service in {None, service}
                    and fault.operation in {None, operation}
                    and fault.account_id in {None, account_id}
                ):
                    if fault.times is not None:
                        fault.times -= 1
                        if fault.times <= 0:
                            self._faults.remove(fault)
                    return fault
            return None

    def hold_back(self, call: Callable[[], object]) -> None:
        """Keeps a call for later."""
        with self._lock:
            self._late.append(call)

    def carry_out_late(self) -> int:
        """Carries out what was held back, as if it came now; how many calls that were. What they answer is lost."""
        with self._lock:
            late, self._late = self._late, []
        for call in late:
            with suppress(AwsError):
                call()
        return len(late)

    def strike(self, fault: Fault, service: str) -> AwsError:
        """The refusal that a fault stands for; one of kind `timeout` first keeps the caller waiting."""
        match fault.error:
            case "throttle":
                return throttled(service)
            case "access_denied":
                return AwsError("AccessDenied", "Access denied by a fault of the local AWS", 403)
            case "timeout":
                self._cleared.wait(HANG_SECONDS)
        return AwsError("InternalFailure", "The request processing has failed because of an unknown error.", 500)


def throttled(service: str) -> AwsError:
    """Each API has its own word for too many calls; version 2 of SES answers 429."""
    match service:
        case "sesv2":
            return AwsError("TooManyRequestsException", "Too Many Requests", 429)
        case "sns":
            return AwsError("Throttled", "Rate exceeded", 429)
        case _:
            return AwsError("Throttling", "Rate exceeded", 400)

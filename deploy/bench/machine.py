"""What runs cost this machine: processor time by process, and how fast the machine is just now."""

import os
import platform
import statistics
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bench import payloads

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PARENT, _OWN, _REAPED = 1, slice(11, 13), slice(13, 15)  # fields of /proc/PID/stat behind the name (proc(5))


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where figures were measured."""

    cores: int
    processor: str
    python: str
    postgres: str


def machine(postgres: str) -> Machine:
    """This machine; ``postgres`` is the server's version."""
    return Machine(
        cores=os.cpu_count() or 1, processor=_processor(), python=platform.python_version(), postgres=postgres
    )


def calibration_us() -> float:
    """Median microseconds of decoding one bounce: tells how fast a shared machine is at this moment."""
    text = payloads.payload(0, 0, datetime(2026, 1, 5, tzinfo=UTC))
    return round(statistics.median(_decode_us(text) for _ in range(200)), 2)


def _decode_us(text: bytes, times: int = 50) -> float:
    began = time.perf_counter()
    for _ in range(times):
        msgspec.json.decode(text)
    return (time.perf_counter() - began) / times * 1e6


def cpu_s(pids: Iterable[int]) -> float:
    """Processor seconds of these processes and of all their descendants, those too that have ended."""
    stats = _stats()
    children: dict[int, list[int]] = {}
    for pid, fields in stats.items():
        children.setdefault(int(fields[_PARENT]), []).append(pid)
    waiting, ticks = list(pids), 0
    while waiting:
        pid = waiting.pop()
        if pid in stats:
            ticks += sum(int(field) for field in (*stats[pid][_OWN], *stats[pid][_REAPED]))
            waiting += children.get(pid, [])
    return ticks * _TICK_S


def cpu_by_name(processes: Mapping[str, Iterable[int]]) -> dict[str, float]:
    """``cpu_s`` of each named set of processes."""
    return {name: cpu_s(pids) for name, pids in processes.items()}


def _stats() -> dict[int, list[str]]:
    found = {}
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                text = (directory / "stat").read_text()
            except OSError:
                continue
            # The name stands in parentheses and may hold any character.
            found[int(directory.name)] = text[text.rfind(")") + 2 :].split()
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")

"""What became of one run of the crash matrix."""

from collections.abc import Sequence

import msgspec

from bench.crash_stack import LEASE_S
from bench.flow import NOTHING, Flow
from bench.machine import Machine
from bench.match import percentiles


class Crash(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `recover_ms`: from the kill until what was under way is as it has to be; None where nothing died."""

    point: str
    seed: int
    hit: int
    role: str = ""
    recover_ms: float | None = None
    restart_ms: float = 0.0
    lost: int = 0
    duplicated: int = 0
    resent: int = 0
    stuck: int = 0
    why: str = ""

    @property
    def survived(self) -> bool:
        """It died, and nothing was wrong afterwards."""
        return self.recover_ms is not None and not (self.lost or self.duplicated or self.stuck or self.why)


class Result(Flow, frozen=True, kw_only=True):
    """What `--json` prints. The figures of `Flow` are of other benchmarks: here is no load."""

    points: int
    runs: int
    killed: int
    survived: int
    lost: int
    duplicated: int
    resent: int
    stuck: int
    recover_ms_p50: float
    recover_ms_p99: float
    restart_ms_p50: float
    lease_ms: float
    crashes: Sequence[Crash]
    calibration_us: float
    machine: Machine


def result_of(crashes: Sequence[Crash], *, machine: Machine, calibration_us: float) -> Result:
    """The figures of all runs."""
    recovered = percentiles([each.recover_ms / 1000 for each in crashes if each.recover_ms is not None])
    sums = {name: sum(getattr(each, name) for each in crashes) for name in ("lost", "duplicated", "resent", "stuck")}
    return Result(
        **msgspec.structs.asdict(NOTHING),
        **sums,
        points=len({each.point for each in crashes}),
        runs=len(crashes),
        killed=sum(each.recover_ms is not None for each in crashes),
        survived=sum(each.survived for each in crashes),
        recover_ms_p50=recovered.p50,
        recover_ms_p99=recovered.p99,
        restart_ms_p50=percentiles([each.restart_ms / 1000 for each in crashes if each.restart_ms]).p50,
        lease_ms=LEASE_S * 1000,
        crashes=crashes,
        calibration_us=calibration_us,
        machine=machine,
    )

"""What became of one run of the crash matrix."""

import msgspec


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

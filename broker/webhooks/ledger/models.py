"""Tables of the ledger: latencies by tenant and hour, their sum, tallies of what the processes did, and levels."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Double, Index, Integer, SmallInteger, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from broker.tables import Base
from broker.webhooks.ledger.ledger import Sums, sums_of


class LatencyRow(Base):
    """Histograms of one tenant's latencies in one hour (UTC), one for each `Stage`: numbers by slot (`ledger.BOUNDS`).

    What is left out at the end of a histogram is 0. `seconds`: the sum of each stage; `total`: how many in all.
    """

    __tablename__ = "latencies"
    __table_args__ = (Index("latencies_hour_idx", "hour"),)

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    ses_to_received: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    received_to_committed: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    committed_to_attempted: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    attempted_to_accepted: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    seconds: Mapped[list[float]] = mapped_column(ARRAY(Double))
    total: Mapped[int] = mapped_column(BigInteger)

    @property
    def sums(self) -> Sums:
        """As the ledger has them."""
        stages = (
            self.ses_to_received,
            self.received_to_committed,
            self.committed_to_attempted,
            self.attempted_to_accepted,
        )
        return sums_of(stages, self.seconds)


class LatencyTotalRow(Base):
    """The sum of all latencies ever noted; one row, which only grows."""

    __tablename__ = "latency_totals"
    __table_args__ = (CheckConstraint("id = 1", name="id"),)

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    counts: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    seconds: Mapped[list[float]] = mapped_column(ARRAY(Double))


class TallyRow(Base):
    """How often something happened in any process, ever; see `ledger.Count` for the names."""

    __tablename__ = "tallies"

    name: Mapped[str] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)


class LevelRow(Base):
    """The last reading of something that rises and falls; see `levels.Level` for the names."""

    __tablename__ = "levels"

    name: Mapped[str] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[datetime] = mapped_column(server_default=func.now())

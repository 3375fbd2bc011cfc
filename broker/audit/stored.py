"""From stored rows to what is sealed, and back."""

from datetime import datetime
from uuid import UUID

from broker.audit.chain import Record, Seal, instant, withheld
from broker.audit.models import AuditRow, SealRow
from broker.audit.signing import Signature


def record_of(row: AuditRow) -> Record:
    """An entry as it is sealed."""
    return Record(
        id=str(row.id),
        at=instant(row.at),
        tenant_id=str(row.tenant_id),
        counterpart_id=str(row.counterpart_id) if row.counterpart_id else None,
        actor=row.actor,
        action=row.action,
        subject_kind=row.subject_kind,
        subject_id=str(row.subject_id),
        details=row.details,
        withheld=withheld(str(row.key_id) if row.key_id else None, row.request_id),
    )


def seal_of(row: SealRow) -> Seal:
    """A stored seal."""
    return Seal(
        tenant_id=str(row.tenant_id),
        position=row.position,
        entry_id=str(row.entry_id),
        digest=row.digest,
        previous=row.previous,
        sealed_at=instant(row.sealed_at),
        hash=row.hash,
        signature=Signature(row.key_id, row.signature),
    )


def row_of(seal: Seal, *, counterpart_id: UUID | None, sealed_at: datetime) -> dict[str, object]:
    """A seal to be stored; the counterpart of its entry may see it."""
    return {
        "tenant_id": UUID(seal.tenant_id),
        "position": seal.position,
        "entry_id": UUID(seal.entry_id),
        "counterpart_id": counterpart_id,
        "digest": seal.digest,
        "previous": seal.previous,
        "sealed_at": sealed_at,
        "hash": seal.hash,
        "key_id": seal.signature.key_id,
        "signature": seal.signature.value,
    }

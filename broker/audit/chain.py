"""How an entry is sealed: its digest, and its place after all entries of its tenant that were sealed before."""

import hashlib
from datetime import UTC, datetime
from typing import Any

import msgspec

from broker.audit.canonical import canonical
from broker.audit.signing import PublicKeys, Signature, Signer

BEGINNING = "0" * 64
"""What stands for the seal before the first one."""


class Record(msgspec.Struct, frozen=True):
    """An entry as it is sealed: ids as texts, times in UTC to the microsecond.

    `withheld`: digest of the acting tenant's key and request, which the counterpart does not see.
    """

    id: str
    at: str
    tenant_id: str
    counterpart_id: str | None
    actor: str
    action: str
    subject_kind: str
    subject_id: str
    details: dict[str, Any]
    withheld: str


class Seal(msgspec.Struct, frozen=True):
    """An entry's place in the chain of its tenant, signed by the service.

    `digest` is that of the entry, `previous` the hash of the seal before, `hash` that of this one: SHA-256 in hex, of
    canonical JSON (RFC 8785). So each seal stands for all that were before it.
    """

    tenant_id: str
    position: int
    entry_id: str
    digest: str
    previous: str
    sealed_at: str
    hash: str
    signature: Signature


def instant(at: datetime) -> str:
    """A time as it is hashed."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def withheld(key_id: str | None, request_id: str) -> str:
    """Binds an entry to who exactly made it, without telling."""
    return _sha256({"key_id": key_id, "request_id": request_id})


def digest_of(record: Record) -> str:
    """Of all that an entry says."""
    return _sha256({"kind": "ses-delegation-broker/audit-entry/1", **msgspec.to_builtins(record)})


def make_seal(record: Record, *, position: int, previous: str, sealed_at: datetime, signer: Signer) -> Seal:
    """The next one of a chain."""
    said = _said(record.tenant_id, position, record.id, digest_of(record), previous, instant(sealed_at))
    return Seal(
        tenant_id=record.tenant_id,
        position=position,
        entry_id=record.id,
        digest=said["digest"],
        previous=previous,
        sealed_at=said["sealed_at"],
        hash=_sha256(said),
        signature=signer.sign(said),
    )


def hash_of(seal: Seal) -> str:
    """What its hash has to be."""
    return _sha256(said_by(seal))


def is_signed(seal: Seal, keys: PublicKeys) -> bool:
    """Whether one of these keys signed what the seal says."""
    return keys.has_signed(seal.signature, said_by(seal))


def said_by(seal: Seal) -> dict[str, Any]:
    """What is hashed and signed of a seal."""
    return _said(seal.tenant_id, seal.position, seal.entry_id, seal.digest, seal.previous, seal.sealed_at)


def _said(tenant_id: str, position: int, entry_id: str, digest: str, previous: str, sealed_at: str) -> dict[str, Any]:
    return {
        "kind": "ses-delegation-broker/audit-seal/1",
        "tenant_id": tenant_id,
        "position": position,
        "entry_id": entry_id,
        "digest": digest,
        "previous": previous,
        "sealed_at": sealed_at,
    }


def _sha256(said: dict[str, Any]) -> str:
    return hashlib.sha256(canonical(said)).hexdigest()

"""Suppressions as CSV (RFC 4180), for spreadsheets and other senders' imports."""

import csv
import io
from collections.abc import AsyncIterator, Sequence

import msgspec

from broker.feedback.suppressions.views import SuppressionView

COLUMNS = ("recipient", "recipient_hash", "reason", "guessed", "identity_arn", "grant_id", "since", "last_at")
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


async def csv_of(batches: AsyncIterator[Sequence[SuppressionView]]) -> AsyncIterator[str]:
    """The header, then one text for each batch."""
    yield _lines([COLUMNS])
    async for batch in batches:
        yield _lines([[_cell(getattr(each, name)) for name in COLUMNS] for each in batch])


def _cell(value: object) -> str:
    """Strangers choose their addresses: none may begin a formula in a spreadsheet (OWASP, CSV Injection)."""
    written = "" if value is None else value if isinstance(value, str) else str(msgspec.to_builtins(value))
    return f"'{written}" if written.startswith(_FORMULAS) else written


def _lines(rows: Sequence[Sequence[str]]) -> str:
    target = io.StringIO()
    csv.writer(target).writerows(rows)
    return target.getvalue()

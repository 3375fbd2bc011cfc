"""INSERT of many rows as one array per column: one text and one plan, whatever the number of rows.

SQLAlchemy writes VALUES anew for each call, at some 50 µs a row; this way it is written once, and bound in one go.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Table, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY, Insert, insert
from sqlalchemy.types import NullType, TypeEngine


def from_arrays(table: Table, names: Sequence[str]) -> Insert:
    """The statement for these columns; its parameters, `as_arrays`, are called as they are."""
    arrays = (func.unnest(bindparam(name, type_=ARRAY(_type_of(table, name)))).label(name) for name in names)
    return insert(table).from_select(list(names), select(*arrays))


def as_arrays(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, list[Any]]:
    """The rows by column."""
    return {name: [row[name] for row in rows] for name in names}


def _type_of(table: Table, name: str) -> TypeEngine[Any]:
    """A foreign key has the type of what it refers to, and none before that table is imported."""
    found: TypeEngine[Any] = table.c[name].type
    if isinstance(found, NullType):
        raise TypeError(f"{table.name}.{name} has no type yet; import the table that it refers to first.")
    return found

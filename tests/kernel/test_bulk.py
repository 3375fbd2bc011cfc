"""Rows as one array per column."""

import pytest
from sqlalchemy import BindParameter, Column, ForeignKey, MetaData, Table, Uuid
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.visitors import iterate

from broker.bulk import as_arrays, from_arrays


def test_a_foreign_key_whose_table_is_not_imported_yet_is_told_at_once() -> None:
    metadata = MetaData()
    child = Table("child", metadata, Column("parent_id", ForeignKey("parent.id")))

    with pytest.raises(TypeError, match=r"child\.parent_id has no type yet"):
        from_arrays(child, ["parent_id"])

    Table("parent", metadata, Column("id", Uuid, primary_key=True))
    [bound] = [each for each in iterate(from_arrays(child, ["parent_id"])) if isinstance(each, BindParameter)]
    assert isinstance(bound.type, ARRAY)
    assert isinstance(bound.type.item_type, Uuid)


def test_rows_become_columns() -> None:
    assert {"a": [1, 3], "b": [2, 4]} == as_arrays([{"a": 1, "b": 2}, {"a": 3, "b": 4}], ["a", "b"])

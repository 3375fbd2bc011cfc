"""What the generated OpenAPI document leaves open: that unknown fields are refused, and a second form of an answer."""

from collections.abc import Iterator
from typing import Any

import msgspec
from litestar import Litestar
from litestar.openapi.spec import OpenAPI, OpenAPIMediaType, OpenAPIResponse, Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.routes import HTTPRoute


def forbid_others(app: Litestar, document: OpenAPI) -> None:
    """Says `additionalProperties: false` of every body whose Struct refuses what it does not know."""
    schemas: Any = document.components.schemas if document.components else {}
    strict = {kind.__name__ for body in _bodies(app) for kind in _structs(msgspec.inspect.type_info(body))}
    for name, schema in schemas.items():
        if name.rpartition("_")[2] in strict and isinstance(schema, Schema):
            schema.additional_properties = False


def add_csv(document: OpenAPI) -> None:
    """Lists of suppressions are CSV, too, where that is asked for."""
    item = (document.paths or {}).get("/v1/suppressions")
    responses = item.get.responses if item and item.get else None
    answer = (responses or {}).get("200")
    if isinstance(answer, OpenAPIResponse) and answer.content is not None:
        text = Schema(type=OpenAPIType.STRING)
        answer.content["text/csv"] = OpenAPIMediaType(schema=text, example="recipient,recipient_hash,reason")


def _bodies(app: Litestar) -> Iterator[Any]:
    for route in app.routes:
        for handler in route.route_handlers if isinstance(route, HTTPRoute) else ():
            data = handler.parsed_fn_signature.parameters.get("data")
            if data is not None:
                yield data.annotation


def _structs(kind: msgspec.inspect.Type) -> Iterator[type]:
    """The Structs in a type that refuse unknown fields."""
    match kind:
        case msgspec.inspect.StructType():
            if kind.forbid_unknown_fields:
                yield kind.cls
            for field in kind.fields:
                yield from _structs(field.type)
        case msgspec.inspect.UnionType():
            for each in kind.types:
                yield from _structs(each)
        case msgspec.inspect.Metadata():
            yield from _structs(kind.type)
        case msgspec.inspect.ListType() | msgspec.inspect.CollectionType() | msgspec.inspect.VarTupleType():
            yield from _structs(kind.item_type)
        case msgspec.inspect.DictType():
            yield from _structs(kind.value_type)

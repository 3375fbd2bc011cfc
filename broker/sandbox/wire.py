"""Reads AWS calls out of HTTP requests, led by botocore's own service models.

The protocols are AWS Query (SES version 1, SNS, STS, IAM), REST-JSON (SES version 2) and AWS JSON (SQS).
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any
from urllib.parse import unquote

import botocore.loaders
import botocore.model
import botocore.validate

from broker.sandbox.errors import AwsError

MODELLED = {"ses", "sesv2", "sns", "sts", "iam"}
"""Services whose calls are parsed here; SQS speaks JSON that needs no model."""


@cache
def model(service: str) -> Any:
    """botocore's ServiceModel of a service, by botocore's name."""
    loader = botocore.loaders.create_loader()
    return botocore.model.ServiceModel(loader.load_service_model(service, "service-2"), service)


@cache
def _routes(service: str) -> list[tuple[str, re.Pattern[str], str]]:
    found = []
    for name in model(service).operation_names:
        http = model(service).operation_model(name).http
        path = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(http["requestUri"].split("?")[0]))
        found.append((http["method"], re.compile(path + "/?"), name))
    return found


def rest_operation(service: str, method: str, raw_path: str) -> tuple[str, dict[str, str]]:
    """The operation that a REST path names, and the parts of the path. Raises AwsError when there is none."""
    for wanted, pattern, name in _routes(service):
        if wanted == method and (match := pattern.fullmatch(raw_path)):
            return name, {key: unquote(value) for key, value in match.groupdict().items()}
    raise AwsError("UnknownOperationException", f"No operation at {method} {raw_path}", 404)


def rest_params(service: str, operation: str, labels: Mapping[str, str], rest: tuple[Mapping[str, str], bytes]) -> Any:
    """Input of a REST-JSON call from its path labels, query string and body."""
    query, body = rest
    shape = model(service).operation_model(operation).input_shape
    try:
        params: dict[str, Any] = json.loads(body) if body else {}
    except ValueError as error:
        raise AwsError("SerializationException", "The request body is not JSON") from error
    for name, member in (shape.members if shape else {}).items():
        wire_name = member.serialization.get("name", name)
        where = member.serialization.get("location")
        if where == "uri":
            params[name] = labels[wire_name]
        elif where == "querystring" and wire_name in query:
            params[name] = int(query[wire_name]) if member.type_name == "integer" else query[wire_name]
    return params


def query_params(service: str, operation: str, form: Mapping[str, str]) -> Any:
    """Input of an AWS Query call from its flattened form. Raises AwsError InvalidAction for an unknown operation."""
    if operation not in model(service).operation_names:
        raise AwsError("InvalidAction", f"Could not find operation {operation}")
    shape = model(service).operation_model(operation).input_shape
    return (_from_form(shape, form, "") or {}) if shape else {}


def check(service: str, operation: str, params: Any) -> None:
    """Raises AwsError when a required parameter is missing or has the wrong type; calls without a model pass."""
    if service not in MODELLED:
        return
    shape = model(service).operation_model(operation).input_shape
    if shape is not None and (report := botocore.validate.ParamValidator().validate(params, shape)).has_errors():
        raise AwsError("ValidationError", report.generate_report())


def _from_form(shape: Any, form: Mapping[str, str], prefix: str) -> Any:
    if shape.type_name == "structure":
        return _structure_from_form(shape, form, prefix)
    if shape.type_name == "list":
        return _list_from_form(shape, form, prefix)
    if shape.type_name == "map":
        return _map_from_form(shape, form, prefix)
    if (value := form.get(prefix)) is None:
        return None
    return _scalar(shape.type_name, value)


def _scalar(kind: str, value: str) -> Any:
    match kind:
        case "boolean":
            return value.lower() == "true"
        case "integer" | "long":
            return int(value)
        case "blob":
            return base64.b64decode(value)
        case _:
            return value


def _structure_from_form(shape: Any, form: Mapping[str, str], prefix: str) -> dict[str, Any] | None:
    if prefix and not any(key.startswith(prefix + ".") for key in form):
        return None
    found = {}
    for name, member in shape.members.items():
        wire_name = member.serialization.get("name", name)
        value = _from_form(member, form, f"{prefix}.{wire_name}" if prefix else wire_name)
        if value is not None:
            found[name] = value
    return found


def _list_from_form(shape: Any, form: Mapping[str, str], prefix: str) -> list[Any] | None:
    item = (
        prefix
        if shape.serialization.get("flattened")
        else f"{prefix}.{shape.member.serialization.get('name', 'member')}"
    )
    found = list(_items(lambda at: _from_form(shape.member, form, f"{item}.{at}")))
    return found or ([] if form.get(prefix) == "" else None)


def _map_from_form(shape: Any, form: Mapping[str, str], prefix: str) -> dict[str, Any] | None:
    entry = prefix if shape.serialization.get("flattened") else f"{prefix}.entry"
    key_name, value_name = (
        part.serialization.get("name", word) for part, word in ((shape.key, "key"), (shape.value, "value"))
    )
    keys = list(_items(lambda at: form.get(f"{entry}.{at}.{key_name}")))
    values = (_from_form(shape.value, form, f"{entry}.{at}.{value_name}") for at in range(1, len(keys) + 1))
    return dict(zip(keys, values, strict=True)) or None


def _items(read: Any) -> Iterator[Any]:
    at = 1
    while (value := read(at)) is not None:
        yield value
        at += 1


def json_params(body: bytes) -> Any:
    """Input of an AWS JSON call, which needs no model."""
    try:
        return json.loads(body) if body else {}
    except ValueError as error:
        raise AwsError("SerializationException", "The request body is not JSON") from error

"""Examples for the OpenAPI document, made from its schemas."""

from collections.abc import Mapping
from typing import Any

MOMENT = "2026-12-01T09:30:00Z"
IDENTIFIER = "01a203f1-933e-7384-98d1-0e362595677e"

# Where a name says more than its type.
BY_NAME: Mapping[str, Any] = {
    "account_id": "111111111111",
    "action": "grant.approved",
    "actor": "you",
    "answer": "",
    "asked_by": "owner",
    "created_by": "you",
    "detail": "Must be a time in the future, with an offset.",
    "description": "Bounces into our CRM",
    "document": {"Version": "2012-10-17", "Statement": []},
    "error": None,
    "etag": f'"{IDENTIFIER}"',
    "explanation": ["Account 222222222222 may send with SendEmail as newsletter@example.com."],
    "changes": ["ends 60 days earlier"],
    "event_types": ["email.bounced", "email.complained", "grant.*"],
    "flags": [],
    "id": IDENTIFIER,
    "identity_arn": "arn:aws:ses:eu-west-1:111111111111:identity/example.com",
    "arn": "arn:aws:ses:eu-west-1:111111111111:identity/example.com",
    "name": "Example AG",
    "next_page_token": None,
    "note": "Shorter, please.",
    "pointer": "/terms/expires_at",
    "prefix": "sdb_3uKq0x1a",
    "protected_by": "reads",
    "reason": None,
    "region": "eu-west-1",
    "residual_policies": [],
    "role_arn": "arn:aws:iam::111111111111:role/SesDelegationBroker",
    "roles": ["owner"],
    "scopes": ["read", "decide"],
    "subject_kind": "grant",
    "topic_arn": "arn:aws:sns:eu-west-1:999999999999:ses-delegation-broker-01a203f18c5173069200dd1c72b05f3b",
    "type": "email.bounced",
    "url": "https://hooks.example.com/ses",
}


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any], depth: int = 0) -> Any:
    """A value that fits a JSON schema, made of the examples and defaults in it; null where it becomes too deep."""
    if schema.get("examples"):
        given = schema["examples"]
        return given[0] if isinstance(given, list) else next(iter(given.values()))
    if "$ref" in schema:
        return None if depth > 8 else example_of(schemas[schema["$ref"].rpartition("/")[2]], schemas, depth + 1)
    for several in ("allOf", "oneOf", "anyOf"):
        if schema.get(several):
            if {"type": "string"} in schema[several] and {"type": "null"} in schema[several]:
                return None  # free text that may be missing
            return example_of(_likeliest(schema[several]), schemas, depth + 1)
    if schema.get("default") not in (None, [], ""):
        return schema["default"]
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    return _of_type(schema, schemas, depth)


def _of_type(schema: Mapping[str, Any], schemas: Mapping[str, Any], depth: int) -> Any:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    match kind:
        case "object":
            return {
                name: example_of(each, schemas, depth + 1)
                if each.get("examples") or name not in BY_NAME
                else BY_NAME[name]
                for name, each in schema.get("properties", {}).items()
            }
        case "array":
            return [example_of(schema["items"], schemas, depth + 1)] if schema.get("items") else []
        case "string":
            return {"uuid": IDENTIFIER, "date-time": MOMENT}.get(schema.get("format", ""), "text")
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
    return None


def _likeliest(schemas: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    return next((each for each in schemas if each and each.get("type") != "null"), schemas[0])

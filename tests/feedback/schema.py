"""Holds a value against a JSON Schema, as far as ours go."""

from typing import Any
from uuid import UUID

Schema = dict[str, Any]


def flaws(value: Any, schema: Schema, all_of: dict[str, Schema], at: str = "") -> list[str]:
    """Where a value does not fit a schema: as much of JSON Schema as ours use."""
    if "$ref" in schema:
        return flaws(value, all_of[schema["$ref"].rpartition("/")[2]], all_of, at)
    if "anyOf" in schema:
        tried = [flaws(value, each, all_of, at) for each in schema["anyOf"]]
        return [] if [] in tried else [f"{at}: none of {schema['anyOf']}"]
    kinds = schema.get("type", [])
    if kinds and not any(_is(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        return [f"{at}: {value!r} is no {kinds}"]
    found = [f"{at}: {value!r}"] if "const" in schema and value != schema["const"] else []
    if schema.get("format") == "uuid" and isinstance(value, str):
        UUID(value)
    if isinstance(value, dict):
        known = schema.get("properties", {})
        found += [f"{at}/{name} is missing" for name in schema.get("required", ()) if name not in value]
        more = schema.get("additionalProperties", not known)
        for name, each in value.items():
            of = known.get(name, more if isinstance(more, dict) else None)
            if of is not None:
                found += flaws(each, of, all_of, f"{at}/{name}")
            elif more is not True:
                found.append(f"{at}/{name} is not documented")
    if isinstance(value, list):
        found += [flaw for each in value for flaw in flaws(each, schema.get("items", {}), all_of, f"{at}/-")]
    return found


def _is(value: Any, kind: str) -> bool:
    types: dict[str, tuple[type, ...]] = {
        "string": (str,),
        "integer": (int,),
        "number": (int, float),
        "object": (dict,),
        "array": (list,),
        "boolean": (bool,),
        "null": (type(None),),
    }
    return type(value) in types[kind]

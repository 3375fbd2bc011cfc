"""What a route takes from the query and the headers, by the names that callers write; anything else is refused."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from difflib import get_close_matches
from functools import cache
from urllib.parse import unquote_plus

import msgspec
from litestar.enums import ParamType
from litestar.handlers import BaseRouteHandler
from litestar.handlers.http_handlers import HTTPRouteHandler
from litestar.params import ParameterKwarg
from litestar.typing import FieldDefinition

from broker.errors import BadRequest, Flaw

LONGEST = 40  # characters of a made-up name that are said again
MOST = 5  # made-up names that are said again


class Taken(msgspec.Struct, frozen=True):
    """The parameters of one route. `written`: argument → name as callers write it; `times`: those of the query."""

    written: Mapping[str, str]
    query: frozenset[str]
    times: frozenset[str]
    strict: bool


@cache
def taken(handler: BaseRouteHandler) -> Taken:
    """Read from the signature, once for each route.

    Strict is what the document tells of. Not what needs no key either: SNS, probes and scrapers have addresses that
    somebody else writes, and one that is refused for a parameter too many takes a healthy server out of service.
    """
    found = {
        argument: (definition.name or argument, definition.param_type, field)
        for argument, field in handler.parsed_fn_signature.parameters.items()
        if isinstance(definition := field.kwarg_definition, ParameterKwarg) and not field.is_di_field
    }
    documented = isinstance(handler, HTTPRouteHandler) and handler.resolve_include_in_schema()
    return Taken(
        written={argument: name for argument, (name, _, _) in found.items()},
        query=frozenset(name for name, kind, _ in found.values() if kind is ParamType.QUERY),
        times=frozenset(name for name, _, field in found.values() if _is_time(field)),
        strict=documented and not handler.opt.get("keyless"),
    )


def refuse_unknown(query: bytes, known: frozenset[str]) -> None:
    """`BadRequest` for parameters that the route does not have: what a misspelt filter finds is everything."""
    unknown = [name for name in dict.fromkeys(_names(query)) if name not in known]
    if not unknown:
        return
    flaws = tuple(Flaw(_pointer(name), _sentence(name, known)) for name in unknown[:MOST])
    takes = f"It takes {', '.join(sorted(known))}." if known else "It takes none."
    raise BadRequest(" ".join((*(flaw.detail for flaw in flaws), takes)), flaws=flaws)


def _names(query: bytes) -> Iterator[str]:
    """Also those without a value: the framework's parser drops them."""
    for part in query.split(b"&"):
        if part:
            yield unquote_plus(part.partition(b"=")[0].decode("latin-1"), errors="replace")


def _sentence(name: str, known: frozenset[str]) -> str:
    close = get_close_matches(name[:LONGEST].lower(), sorted(known), 1)
    hint = f"; did you mean {close[0]}?" if close else "."
    return f"This route has no parameter {_shown(name)}{hint}"


def _shown(name: str) -> str:
    cut = name[:LONGEST] + ("…" if len(name) > LONGEST else "")
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in cut) or "without a name"


def _pointer(name: str) -> str:
    return "/" + _shown(name).replace("~", "~0").replace("/", "~1") if name else ""


def _is_time(field: FieldDefinition) -> bool:
    return field.has_inner_subclass_of(datetime) or field.is_subclass_of(datetime)

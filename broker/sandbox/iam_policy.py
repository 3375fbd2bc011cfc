"""Decides the policies of roles, users, sessions, topics and queues with the engine for identity policies."""

import json
from collections.abc import Iterable, Mapping

from broker.policies.conditions import holds
from broker.policies.context import Caller, Request
from broker.policies.document import Document, read_any
from broker.policies.evaluate import Decision, names_action, names_caller, names_resource
from broker.sandbox.call import Principal

Keys = Mapping[str, tuple[str, ...]]
"""Condition keys of a request in lower case, each with its values."""


def decide(documents: Iterable[str], action: str, resource: str, *, caller: Caller, keys: Keys) -> Decision:
    """Explicit Deny wins, then any Allow, else implicit deny. `resource` is `*` where an action has no resource level.

    Raises DocumentError (a ValueError) for a text that is no policy.
    """
    request = Request(caller, action, dict(keys))
    decision = Decision.implicit_deny
    for document in map(read, documents):
        for statement in document.statements:
            if (
                names_action(statement, action)
                and names_resource(statement, resource, request.single if document.has_variables else None)
                and names_caller(statement, caller)
                and all(holds(each, request, variables=document.has_variables) for each in statement.conditions)
            ):
                if not statement.allow:
                    return Decision.explicit_deny
                decision = Decision.allow
    return decision


def read(text: str) -> Document:
    """A policy of any kind: where it has no Principal (users, roles) or no Resource (trust), any fits."""
    document = json.loads(text)
    statements = document.get("Statement", []) if isinstance(document, dict) else None
    for statement in statements if isinstance(statements, list) else [statements]:
        if isinstance(statement, dict):
            for name in ("Principal", "Resource"):
                if name not in statement and f"Not{name}" not in statement:
                    statement[name] = "*"
    return read_any(document)


def caller_of(who: Principal) -> Caller:
    """An account's user or role session as the engine sees it."""
    links = [who.account_id, who.role_arn, who.arn]
    return Caller(who.account_id, who.arn, None, tuple(link for link in links if link))


def service(name: str) -> Caller:
    """An AWS service that acts by itself, such as `ses.amazonaws.com`."""
    return Caller(None, None, name, ())

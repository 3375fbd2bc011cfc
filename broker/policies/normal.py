"""Compares policy documents by what they mean, since AWS does not give them back letter for letter."""

from collections.abc import Mapping
from uuid import UUID

from broker.policies.arns import plain
from broker.policies.compile import grant_of
from broker.policies.document import DocumentError, Statement, read

Form = tuple[object, ...]


def same_meaning(a: str, b: str) -> bool:
    """Whether two documents say the same, whatever their white space, their order and their way of writing one value.

    An account id and its `…:root` ARN are one principal. Sids count, because they tell which grant a statement is for;
    Id does not. A text that is no policy document is never the same as anything, itself included.
    """
    try:
        return _form(a) == _form(b)
    except DocumentError:
        return False


def parts(document: str) -> Mapping[UUID | None, frozenset[Form]]:
    """What a document says of each grant, as forms that are equal where the meaning is.

    Under None is what carries the Sid of no grant, and a text that cannot be read.
    """
    try:
        version, forms = _form(document)
    except DocumentError:
        return {None: frozenset()}
    found: dict[UUID | None, set[Form]] = {}
    for form in forms:
        found.setdefault(grant_of(str(form[0] or "")), set()).add((version, *form))
    return {grant: frozenset(its) for grant, its in found.items()}


def _form(text: str) -> tuple[str, frozenset[Form]]:
    document = read(text)
    return document.version, frozenset(_statement_form(statement) for statement in document.statements)


def _statement_form(statement: Statement) -> Form:
    return (
        statement.sid,
        statement.allow,
        (statement.not_principal, statement.not_action, statement.not_resource),
        frozenset((kind, plain(text)) for kind, text in statement.principals),
        frozenset(action.lower() for action in statement.actions),
        frozenset(statement.resources),
        frozenset(
            (
                condition.over,
                condition.operator,
                condition.if_exists,
                condition.key.lower(),
                frozenset(condition.values),
            )
            for condition in statement.conditions
        ),
    )

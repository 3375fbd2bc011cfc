"""Decides a send from the policies of an identity, as IAM decides it from a resource's policies."""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Self

import msgspec

from broker.policies import reasons
from broker.policies.arns import covers
from broker.policies.conditions import holds
from broker.policies.context import Caller, Request, Send, request_of
from broker.policies.document import Condition, Document, Statement, read_any
from broker.policies.wildcards import Lookup, arn_matches, fillable, matches


class Decision(StrEnum):
    """Explicit Deny wins over Allow, and what nobody allows is denied."""

    allow = "allow"
    explicit_deny = "explicit_deny"
    implicit_deny = "implicit_deny"


class Verdict(msgspec.Struct, frozen=True):
    """The decision and what made it.

    `policy` is the place of the document in the given sequence, `statement` its Sid (or its place in the document
    where it has none). For an implicit deny both name the Allow that came closest, if there is any, and `reason` what
    it lacked.
    """

    decision: Decision
    policy: int | None
    statement: str | None
    reason: str


class _Miss(msgspec.Struct, frozen=True):
    """An Allow that did not apply: `nearness` orders misses, the biggest came closest."""

    nearness: tuple[bool, bool, bool, int]
    policy: int
    statement: Statement
    reason: str


def evaluate(
    policies: Sequence[str | Mapping[str, object] | Document],
    send: Send,
    *,
    identity_arn: str,
    from_case_sensitive: bool = True,
) -> Verdict:
    """Decide one send by all policies of the identity together (IAM User Guide, reference_policies_evaluation-logic).

    This is the identity's side only: across accounts the caller's own IAM policy has to allow the send as well.
    DocumentError where a policy cannot be read, ValueError where the caller makes no sense. `from_case_sensitive=False`
    is for asking what would happen if SES compared From without regard to case.
    """
    request = request_of(send)
    allowed: tuple[int, Statement] | None = None
    closest: _Miss | None = None
    for place, policy in enumerate(policies):
        document = read_any(policy)
        for statement in document.statements:
            asked = _Asked(statement, request, identity_arn, document.has_variables, from_case_sensitive)
            if asked.applies():
                if not statement.allow:
                    return Verdict(Decision.explicit_deny, place, statement.label, reasons.denied(statement))
                allowed = allowed or (place, statement)
            elif statement.allow and allowed is None:
                miss = asked.miss(place)
                closest = miss if closest is None or miss.nearness > closest.nearness else closest
    if allowed is not None:
        return Verdict(Decision.allow, allowed[0], allowed[1].label, reasons.allowed(allowed[1]))
    if closest is not None:
        return Verdict(Decision.implicit_deny, closest.policy, closest.statement.label, closest.reason)
    return Verdict(Decision.implicit_deny, None, None, "No policy of the identity allows anything.")


class _Asked(msgspec.Struct, frozen=True):
    """One statement beside one request."""

    statement: Statement
    request: Request
    identity_arn: str
    variables: bool
    from_case_sensitive: bool

    def applies(self) -> bool:
        return (
            names_action(self.statement, self.request.action)
            and names_caller(self.statement, self.request.caller)
            and self.names_resource()
            and next(self.failed(), None) is None
        )

    def names_resource(self) -> bool:
        lookup: Lookup | None = self.request.single if self.variables else None
        return names_resource(self.statement, self.identity_arn, lookup)

    def failed(self) -> Iterator[Condition]:
        for condition in self.statement.conditions:
            if not holds(
                condition, self.request, variables=self.variables, from_case_sensitive=self.from_case_sensitive
            ):
                yield condition

    def offending(self, condition: Condition) -> tuple[str, ...]:
        """Those values of the request that fail the condition when each is looked at alone; all where none does."""
        key = condition.key.lower()
        values = self.request.keys.get(key, ())
        bad = (value for value in values if condition in self.alone(key, value).failed())
        return tuple(bad) or values

    def alone(self, key: str, value: str) -> Self:
        request = msgspec.structs.replace(self.request, keys={**self.request.keys, key: (value,)})
        return msgspec.structs.replace(self, request=request)

    def miss(self, place: int) -> _Miss:
        statement, request = self.statement, self.request
        resource = self.names_resource()
        caller, action = names_caller(statement, request.caller), names_action(statement, request.action)
        failed = list(self.failed())
        if not resource:
            reason = reasons.other_resource(statement, self.identity_arn)
        elif not caller:
            reason = reasons.other_caller(statement, request.caller)
        elif not action:
            reason = reasons.other_action(statement, request.action)
        else:
            reason = reasons.failed(failed[0], self.offending(failed[0]))
        return _Miss((resource, caller, action, -len(failed)), place, statement, reason)


def names_action(statement: Statement, action: str) -> bool:
    """Whether the statement is about this action; action names have no case, and both wildcards."""
    named = any(matches(pattern.lower(), action.lower(), None) for pattern in statement.actions)
    return named != statement.not_action


def names_resource(statement: Statement, arn: str, lookup: Lookup | None = None) -> bool:
    """Whether the statement is about this ARN; wildcards do not reach over the first five colons."""
    if any(pattern == "*" or arn_matches(pattern, arn, lookup) for pattern in statement.resources):
        return not statement.not_resource
    # A variable that cannot be filled never widens a statement, so NotResource does not apply with one either.
    return statement.not_resource and (lookup is None or all(fillable(text, lookup) for text in statement.resources))


def names_caller(statement: Statement, caller: Caller) -> bool:
    """Whether the statement is about this caller.

    NotPrincipal spares a caller from a Deny only if everything that the caller is stands in the list: for a user the
    account and the user, for a session the account, the role and the session (IAM User Guide,
    reference_policies_elements_notprincipal). From an Allow it shuts out everybody whom the list covers.
    """
    if not statement.not_principal:
        return any(_is(kind, named, caller) for kind, named in statement.principals)
    if statement.allow:
        return not any(_is(kind, named, caller) for kind, named in statement.principals)
    return not _spared(statement, caller)


def _is(kind: str, named: str, caller: Caller) -> bool:
    if kind == "Service":
        return caller.service is not None and caller.service == named
    if kind != "AWS":
        return False
    return named == "*" or any(covers(named, link) for link in caller.chain)


def _spared(statement: Statement, caller: Caller) -> bool:
    if caller.service is not None and ("Service", caller.service) in statement.principals:
        return True
    listed = [named for kind, named in statement.principals if kind == "AWS"]
    if "*" in listed:
        return True
    return bool(caller.chain) and all(_listed(link, listed) for link in caller.chain)


def _listed(link: str, listed: Sequence[str]) -> bool:
    # Only the same principal counts here, an account does not stand for its users; a role may be listed with its path.
    return any((covers(named, link) and covers(link, named)) or _same_role(link, named) for named in listed)


def _same_role(link: str, named: str) -> bool:
    account, role, _ = link.partition(":role/")
    return bool(role) and named.startswith(f"{account}:role/") and named.rpartition("/")[2] == link.rpartition("/")[2]

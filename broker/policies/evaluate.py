"""Decides a send from the policies of an identity, as IAM decides it from a resource's policies."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Self

import msgspec

from broker.policies import reasons
from broker.policies.arns import ANYBODY, covers, plain
from broker.policies.conditions import holds
from broker.policies.context import Caller, Request, Send, request_of
from broker.policies.document import Condition, Document, Statement, read_any
from broker.policies.wildcards import Lookup, matches, resource_matches


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
    asked = [
        (place, _Asked(statement, request, identity_arn, document.has_variables, from_case_sensitive))
        for place, document in enumerate([read_any(policy) for policy in policies])
        for statement in document.statements
    ]
    allowed: tuple[int, _Asked] | None = None
    for place, one in asked:
        # After the first Allow only a Deny can change anything.
        if (allowed is None or not one.statement.allow) and one.applies():
            if not one.statement.allow:
                return _decided(place, one, several=len(policies) > 1)
            allowed = place, one
    return _decided(*allowed, several=len(policies) > 1) if allowed else _closest(asked)


def _decided(place: int, one: "_Asked", *, several: bool) -> Verdict:
    decision = Decision.allow if one.statement.allow else Decision.explicit_deny
    shown = one.seen(one.statement.conditions[: reasons.SHOWN], held=True)
    reason = reasons.decided(one.statement, shown, policy=place if several else None)
    return Verdict(decision, place, one.statement.label, reason)


def _closest(asked: Iterable[tuple[int, "_Asked"]]) -> Verdict:
    misses = [(one.nearness(), place, one) for place, one in asked if one.statement.allow]
    if not misses:
        return Verdict(Decision.implicit_deny, None, None, "No policy of the identity allows anything.")
    nearness, place, one = max(misses, key=lambda miss: miss[0].order)
    return Verdict(Decision.implicit_deny, place, one.statement.label, one.miss(nearness))


class _Nearness(msgspec.Struct, frozen=True):
    """How near a statement that does not apply came to it; conditions count only where all else is right."""

    resource: bool
    caller: bool
    action: bool
    failed: list[Condition]

    @property
    def order(self) -> tuple[bool, bool, bool, int]:
        """The biggest came closest."""
        return self.resource, self.caller, self.action, -len(self.failed)


class _Asked(msgspec.Struct, frozen=True):
    """One statement beside one request."""

    statement: Statement
    request: Request
    identity_arn: str
    variables: bool
    from_case_sensitive: bool

    def applies(self) -> bool:
        return (
            names_caller(self.statement, self.request.caller)
            and names_action(self.statement, self.request.action)
            and self.names_resource()
            and all(map(self.holds, self.statement.conditions))
        )

    def names_resource(self) -> bool:
        return names_resource(self.statement, self.identity_arn, self.request.single if self.variables else None)

    def holds(self, condition: Condition) -> bool:
        return holds(condition, self.request, variables=self.variables, from_case_sensitive=self.from_case_sensitive)

    def seen(self, conditions: Iterable[Condition], *, held: bool) -> list[reasons.Seen]:
        """Each condition with those values of the request that alone come out like all together; all if none does."""
        return [(condition, self._telling(condition, held=held)) for condition in conditions]

    def _telling(self, condition: Condition, *, held: bool) -> tuple[str, ...]:
        key = condition.key.lower()
        values = self.request.keys.get(key, ())
        if len(values) < 2:
            return values
        return tuple(value for value in values if self._alone(key, value).holds(condition) == held) or values

    def _alone(self, key: str, value: str) -> Self:
        request = msgspec.structs.replace(self.request, keys={**self.request.keys, key: (value,)})
        return msgspec.structs.replace(self, request=request)

    def nearness(self) -> _Nearness:
        resource = self.names_resource()
        caller = names_caller(self.statement, self.request.caller)
        action = names_action(self.statement, self.request.action)
        right = resource and caller and action
        failed = [each for each in self.statement.conditions if not self.holds(each)] if right else []
        return _Nearness(resource, caller, action, failed)

    def miss(self, nearness: _Nearness) -> str:
        """What a statement that does not apply lacks."""
        if not nearness.resource:
            return reasons.other_resource(self.statement, self.identity_arn)
        if not nearness.caller:
            return reasons.other_caller(self.statement, self.request.caller)
        if not nearness.action:
            return reasons.other_action(self.statement, self.request.action)
        shown = self.seen(nearness.failed[: reasons.SHOWN], held=False)
        return reasons.failed(shown, more=len(nearness.failed) - len(shown))


def names_action(statement: Statement, action: str) -> bool:
    """Whether the statement is about this action; action names have no case, and both wildcards."""
    asked = action.lower()
    return any(matches(pattern.lower(), asked, None) for pattern in statement.actions) != statement.not_action


def names_resource(statement: Statement, arn: str, lookup: Lookup | None = None) -> bool:
    """Whether the statement is about this ARN.

    A pattern with a variable that the request cannot fill matches no resource, under NotResource as well (IAM User
    Guide, reference_policies_variables, "Policy variables with no value").
    """
    return any(resource_matches(pattern, arn, lookup) for pattern in statement.resources) != statement.not_resource


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
    if named == ANYBODY or named in caller.chain:
        return True
    # Every form but `*` carries the account's id.
    return caller.account is not None and caller.account in named and any(covers(named, link) for link in caller.chain)


def _spared(statement: Statement, caller: Caller) -> bool:
    if caller.service is not None and ("Service", caller.service) in statement.principals:
        return True
    listed = [named for kind, named in statement.principals if kind == "AWS"]
    if "*" in listed:
        return True
    return bool(caller.chain) and all(_listed(link, listed, caller) for link in caller.chain)


def _listed(link: str, listed: Sequence[str], caller: Caller) -> bool:
    # Only the same principal counts here, an account does not stand for its users.
    if any(plain(named) == plain(link) for named in listed):
        return True
    # The role of a session may be listed with its path, which the session's ARN does not tell.
    last = caller.chain[-1]
    return _is_role(link) and link != last and any(_is_role(named) and covers(named, last) for named in listed)


def _is_role(arn: str) -> bool:
    return ":role/" in arn

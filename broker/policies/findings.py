"""What the linter can find in a policy: stable codes, how bad each is, and where it was."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

import msgspec

from broker.policies.arns import IdentityArn
from broker.policies.document import Condition, Document, Statement
from broker.policies.operators import NULL, OPERATORS


class Severity(StrEnum):
    """Errors are what SES refuses; dangers permit or forbid something else than one would think."""

    error = "error"
    danger = "danger"
    warning = "warning"
    note = "note"


class Code(StrEnum):
    """The kinds of findings; a code keeps its meaning for ever."""

    not_json = "not_json"
    malformed = "malformed"
    refused = "refused"
    policy_name = "policy_name"
    too_many_policies = "too_many_policies"
    too_large = "too_large"
    no_statement = "no_statement"
    effect = "effect"
    unknown_element = "unknown_element"
    missing_element = "missing_element"
    duplicate_sid = "duplicate_sid"
    invalid_sid = "invalid_sid"
    invalid_principal = "invalid_principal"
    invalid_action = "invalid_action"
    resource = "resource"
    unknown_operator = "unknown_operator"
    unknown_key = "unknown_key"
    misspelt_key = "misspelt_key"
    no_value = "no_value"

    open_principal = "open_principal"
    not_principal = "not_principal"
    not_action = "not_action"
    management_action = "management_action"
    deny_covers_owner = "deny_covers_owner"
    no_from_limit = "no_from_limit"
    any_value_allow = "any_value_allow"
    all_values_deny = "all_values_deny"
    no_set_operator = "no_set_operator"
    caller_controlled = "caller_controlled"
    bad_value = "bad_value"
    bulk_ignores_limit = "bulk_ignores_limit"
    service_without_source = "service_without_source"

    principal_by_condition = "principal_by_condition"
    deleted_principal = "deleted_principal"
    session_principal = "session_principal"
    unknown_action = "unknown_action"
    send_star = "send_star"
    send_without_raw = "send_without_raw"
    bulk_without_pair = "bulk_without_pair"
    bulk_never_matches = "bulk_never_matches"
    all_values_without_null = "all_values_without_null"
    negated_absent = "negated_absent"
    if_exists = "if_exists"
    exclusion_by_spelling = "exclusion_by_spelling"
    regex_pattern = "regex_pattern"
    exact_match = "exact_match"
    wildcard_not_read = "wildcard_not_read"
    loose_domain = "loose_domain"
    address_case = "address_case"
    from_outside_identity = "from_outside_identity"
    no_end_date = "no_end_date"
    ended = "ended"
    noon_window = "noon_window"
    never_matches = "never_matches"
    denied_anyway = "denied_anyway"
    ipv4_only = "ipv4_only"
    private_ip = "private_ip"
    limits_nothing = "limits_nothing"
    deny_on_address = "deny_on_address"
    variable_not_read = "variable_not_read"
    unknown_version = "unknown_version"

    ends_before_the_day = "ends_before_the_day"
    begins_after_the_day = "begins_after_the_day"
    address_identity = "address_identity"
    vpc_endpoint = "vpc_endpoint"
    tls_to_ses = "tls_to_ses"
    unproven_key = "unproven_key"
    raw_only = "raw_only"
    any_local_part = "any_local_part"
    no_version = "no_version"


_CODES = list(Code)
_FIRST = {
    Code.not_json: Severity.error,
    Code.open_principal: Severity.danger,
    Code.principal_by_condition: Severity.warning,
    Code.ends_before_the_day: Severity.note,
}


def _severities() -> Mapping[Code, Severity]:
    """The codes are listed by severity; `_FIRST` says where each begins."""
    found, now = {}, Severity.error
    for code in _CODES:
        now = _FIRST.get(code, now)
        found[code] = now
    return MappingProxyType(found)


SEVERITIES = _severities()


class Place(msgspec.Struct, frozen=True):
    """Where something was found: the policy's name, the Sid or number of the statement, operator and key."""

    policy: str
    statement: str | None = None
    condition: str | None = None


class Finding(msgspec.Struct, frozen=True):
    """One thing that is refused, dangerous, useless or good to know, and what to do about it."""

    code: Code
    severity: Severity
    detail: str
    fix: str
    policy: str
    statement: str | None
    condition: str | None


def found(code: Code, place: Place, detail: str, fix: str) -> Finding:
    """A finding with the severity of its code."""
    return Finding(code, SEVERITIES[code], detail, fix, place.policy, place.statement, place.condition)


class Subject(msgspec.Struct, frozen=True):
    """One statement that is looked at, and what it hangs on; `name` is that of its policy."""

    name: str
    document: Document
    statement: Statement
    identity: IdentityArn
    now: datetime

    @property
    def place(self) -> Place:
        """The statement as a whole."""
        return Place(self.name, self.statement.label)

    def at(self, condition: Condition) -> Place:
        """One condition of the statement."""
        return Place(self.name, self.statement.label, f"{condition.written[:80]} {condition.key[:80]}")

    def on(self, *keys: str) -> tuple[Condition, ...]:
        """The conditions on these keys, given in lower case, those that ask for presence left out."""
        return tuple(each for each in self.statement.conditions if each.key.lower() in keys and each.operator != NULL)

    def present(self, key: str) -> bool:
        """Whether a `Null … false` makes sure that the key is in the request."""
        return present(self.statement, key)


def present(statement: Statement, key: str) -> bool:
    """Whether the statement applies only to requests that have this key."""
    return any(
        each.operator == NULL and each.key.lower() == key.lower() and set(map(str.lower, each.values)) == {"false"}
        for each in statement.conditions
    )


def is_negated(condition: Condition) -> bool:
    """Whether the operator holds when nothing matches."""
    return condition.operator != NULL and OPERATORS[condition.operator].negated

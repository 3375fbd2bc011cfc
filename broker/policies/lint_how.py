"""Finds conditions whose operator does not mean what it seems to mean."""

import ipaddress
from collections.abc import Iterator

from broker.policies.document import VARIABLES_SINCE, Condition
from broker.policies.findings import Code, Finding, Subject, found, is_negated
from broker.policies.operators import NULL, as_date, as_network, as_number
from broker.policies.wording import listed

# Several values in one request (SES: ses:Recipients; IAM: aws:TagKeys).
MULTI_VALUED = ("ses:recipients",)
# In every request to SES (IAM User Guide, reference_policies_condition-keys).
ALWAYS = ("aws:currenttime", "aws:epochtime", "aws:securetransport", "ses:apiversion")
# The page control-user-access lists fewer keys than the examples of sending-authorization-policy-examples use.
_LISTED = (*ALWAYS, "aws:sourceip", "aws:useragent", "aws:sourcevpc", "aws:sourcevpce", "aws:vpcsourceip")


def how(subject: Subject) -> Iterator[Finding]:
    """Everything about operators and keys of one statement's conditions."""
    for condition in subject.statement.conditions:
        yield from _values(subject, condition)
        if condition.operator != NULL:
            yield from _sets(subject, condition)
            yield from _absent(subject, condition)
            yield from _variables(subject, condition)
        yield from _key(subject, condition)


def _sets(subject: Subject, condition: Condition) -> Iterator[Finding]:
    """Set operators (IAM User Guide, reference_policies_multi-value-conditions)."""
    allow, key = subject.statement.allow, condition.key
    many = key.lower() in MULTI_VALUED
    if many and not condition.over:
        yield found(
            Code.no_set_operator,
            subject.at(condition),
            f"{key} holds several values; without a set operator IAM leaves open how they are compared.",
            f"Use ForAllValues:{condition.written}." if allow else f"Use ForAnyValue:{condition.written}.",
        )
    elif condition.over == "any" and allow and many:
        yield found(
            Code.any_value_allow,
            subject.at(condition),
            "One recipient that fits is enough: any number of others may stand beside it.",
            f'Use ForAllValues, and "Null": {{"{key}": "false"}} beside it.',
        )
    elif condition.over == "all" and not allow:
        yield found(
            Code.all_values_deny,
            subject.at(condition),
            f"The Deny holds only if all values of {key} fit: one other recipient is enough to escape it.",
            "Use ForAnyValue in a Deny.",
        )
    elif condition.over == "all" and not subject.present(key) and not condition.if_exists:
        yield found(
            Code.all_values_without_null,
            subject.at(condition),
            f"ForAllValues is also true for a request without {key}.",
            f'Add "Null": {{"{key}": "false"}}.',
        )


def _absent(subject: Subject, condition: Condition) -> Iterator[Finding]:
    key = condition.key
    if not subject.statement.allow or key.lower() in ALWAYS or subject.present(key):
        return
    if condition.if_exists:
        yield found(
            Code.if_exists,
            subject.at(condition),
            f"IfExists: a request without {key} satisfies the condition.",
            f"Use {condition.written.removesuffix('IfExists')} if {key} has to be there.",
        )
    elif is_negated(condition) and not condition.over:
        yield found(
            Code.negated_absent,
            subject.at(condition),
            f"A request without {key} satisfies a negated operator.",
            f'Add "Null": {{"{key}": "false"}}, or say what is allowed instead of what is not.',
        )


def _values(subject: Subject, condition: Condition) -> Iterator[Finding]:
    bad = [value for value in condition.values if not _readable(condition, value)]
    if bad:
        effect = "always" if is_negated(condition) else "never"
        yield found(
            Code.bad_value,
            subject.at(condition),
            f"{listed([repr(value[:80]) for value in bad])} cannot be read by {condition.written[:60]}, "
            f"and so {effect} satisfies it.",
            "Correct the value: dates as 2026-03-01T00:00:00Z, blocks as 203.0.113.0/24, flags as true or false.",
        )


def _readable(condition: Condition, value: str) -> bool:
    operator = condition.operator
    if "${" in value:
        return True
    if operator in (NULL, "bool"):
        return value.lower() in ("true", "false")
    if operator.endswith("ipaddress"):
        return as_network(value) is not None
    if operator.startswith("date"):
        return as_date(value) is not None
    if operator.startswith("numeric"):
        return as_number(value) is not None
    return True


def _variables(subject: Subject, condition: Condition) -> Iterator[Finding]:
    written = [value[:80] for value in condition.values if "${" in value]
    if written and not subject.document.has_variables:
        yield found(
            Code.variable_not_read,
            subject.at(condition),
            f"{listed(written)} is ordinary text here: variables need Version {VARIABLES_SINCE}.",
            f'Write "Version": "{VARIABLES_SINCE}".',
        )


def _key(subject: Subject, condition: Condition) -> Iterator[Finding]:
    key = condition.key.lower()
    if key.startswith("aws:") and key not in _LISTED:
        yield found(
            Code.unproven_key,
            subject.at(condition),
            f"AWS's pages disagree whether SES knows {condition.key[:80]} (control-user-access does not list it).",
            "Send once with it and once against it before you rely on it.",
        )
    if condition.operator == NULL:
        return
    if key == "aws:useragent":
        yield found(
            Code.caller_controlled,
            subject.at(condition),
            "The caller chooses its user agent: this keeps nobody out.",
            "Limit the principal, the source IP or the addresses instead.",
        )
    elif key == "aws:securetransport" and subject.statement.allow:
        yield found(
            Code.tls_to_ses,
            subject.at(condition),
            "This is about the caller's connection to SES and says nothing about the way on to recipients.",
            "Where recipients must be reached over TLS, the sender's configuration set says so (TlsPolicy).",
        )
    elif key == "aws:sourceip":
        yield from _source_ip(subject, condition)


def _source_ip(subject: Subject, condition: Condition) -> Iterator[Finding]:
    place = subject.at(condition)
    networks = [network for network in map(as_network, condition.values) if network is not None]
    if subject.statement.allow:
        through = "is let in" if is_negated(condition) or condition.if_exists else "is refused"
        yield found(
            Code.vpc_endpoint,
            place,
            f"A call through a VPC endpoint has no aws:SourceIp and {through}.",
            "Use aws:SourceVpce or aws:VpcSourceIp for callers that come that way.",
        )
    if networks and not is_negated(condition) and {network.version for network in networks} == {4}:
        yield found(
            Code.ipv4_only, place, "Only IPv4 blocks are listed: no IPv6 caller fits.", "Add the callers' IPv6 blocks."
        )
    if everything := [str(network) for network in networks if network.prefixlen == 0]:
        yield found(
            Code.limits_nothing,
            place,
            f"{listed(everything)} is everybody.",
            "Name the callers' blocks, or take it out.",
        )
    if private := [str(network) for network in networks if _is_private(network)]:
        yield found(
            Code.private_ip,
            place,
            f"{listed(private)} never is the public address that SES sees.",
            "Name the public address of the callers' gateway, or use aws:VpcSourceIp.",
        )


def _is_private(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    blocks = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "fc00::/7", "fe80::/10")
    return any(
        network.version == block.version
        and int(block.network_address) <= int(network.network_address)
        and int(network.broadcast_address) <= int(block.broadcast_address)
        for block in map(ipaddress.ip_network, blocks)
    )

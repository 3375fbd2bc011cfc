"""Says what SES refuses when a policy is put on an identity, as far as that is known."""

import re
from collections.abc import Iterator

from broker.policies.arns import ANYBODY, parse_principal
from broker.policies.compile import MAX_DOCUMENT_BYTES
from broker.policies.document import DocumentError, Statement, read

# The keys that SES's pages and examples use (policy-anatomy, control-user-access,
# sending-authorization-policy-examples). They are spelled as there: IAM does not care about case, but SES was seen to
# refuse `AWS:SourceAccount` when storing.
KNOWN_KEYS = frozenset(
    {
        "ses:FromAddress",
        "ses:FromDisplayName",
        "ses:FeedbackAddress",
        "ses:Recipients",
        "ses:ApiVersion",
        "aws:CurrentTime",
        "aws:EpochTime",
        "aws:SecureTransport",
        "aws:SourceIp",
        "aws:UserAgent",
        "aws:SourceVpc",
        "aws:SourceVpce",
        "aws:VpcSourceIp",
        "aws:PrincipalOrgID",
        "aws:SourceAccount",
        "aws:SourceArn",
    }
)

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SID = re.compile(r"[A-Za-z0-9]*")
_ACTION = re.compile(r"ses:[A-Za-z*?]+", re.IGNORECASE)
_SERVICE = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*\.amazonaws\.com(\.cn)?")
_UNIQUE_ID = re.compile(r"A(ID|RO)A[A-Z0-9]{12,20}")  # what IAM puts in place of a principal that was deleted


def refusals(document: str, *, identity_arn: str, name: str) -> list[str]:
    """Every reason for which SES would not store this document under this name on this identity; empty if it would.

    Whether principals exist, and how many policies the identity has already, is not known here. The text about names,
    and that about unknown keys, is what SES itself says; the others say the same in our words.
    """
    return [*_of_name(name), *_of_document(document, identity_arn)]


def _of_name(name: str) -> Iterator[str]:
    if not _NAME.fullmatch(name):
        yield (
            "PolicyName is invalid. Policy names must only include alpha-numeric characters, dashes, and underscores."
            if len(name) <= 64
            else "PolicyName is invalid. Policy names have at most 64 characters."
        )


def _of_document(text: str, identity_arn: str) -> Iterator[str]:
    size = len(text.encode(errors="replace"))
    if size > MAX_DOCUMENT_BYTES:
        yield f"The policy has {size} bytes; at most {MAX_DOCUMENT_BYTES} are accepted."
        return
    try:
        statements = read(text).statements
    except DocumentError as error:
        yield f"Invalid policy: {error}"
        return
    sids = [statement.sid for statement in statements if statement.sid]
    if len(set(sids)) != len(sids):
        yield "Statement IDs (SID) in a single policy must be unique."
    for statement in statements:
        yield from _of_statement(statement, identity_arn)


def _of_statement(statement: Statement, identity_arn: str) -> Iterator[str]:
    if not _SID.fullmatch(statement.sid or ""):
        yield f"Statement IDs (SID) must be alpha-numeric: {statement.sid!r}."
    if not statement.principals:
        yield "A statement needs at least one principal."
    for kind, named in statement.principals:
        if not _is_principal(kind, named, identity_arn.split(":")[1]):
            yield f"Invalid principal: {named[:200]!r}."
    if not statement.actions:
        yield "A statement needs at least one action."
    for action in statement.actions:
        if action != "*" and not _ACTION.fullmatch(action):
            yield f"Invalid action: {action[:80]!r}."
    # One resource only, and no pattern: it is the identity that the policy hangs on (policy-anatomy).
    if statement.not_resource or statement.resources != (identity_arn,):
        yield f"The resource of a statement must be {identity_arn}, and no other."
    yield from _of_conditions(statement)


def _of_conditions(statement: Statement) -> Iterator[str]:
    for condition in statement.conditions:
        if condition.key not in KNOWN_KEYS:
            yield f"Unknown or unapplicable condition field '{condition.key[:80]}'"
        if not condition.values:
            yield f"The condition on {condition.key[:80]} has no value."


def _is_principal(kind: str, named: str, partition: str) -> bool:
    if kind == "Service":
        return _SERVICE.fullmatch(named) is not None
    if kind != "AWS":
        return False
    if named == ANYBODY or _UNIQUE_ID.fullmatch(named):
        return True
    try:
        return parse_principal(named).partition in (None, partition)
    except ValueError:
        return False

"""The text of a sending authorization policy: what is refused, and how stored principals are shown.

Texts of refusals are those that users report and emulators compared with AWS; the limits are of the Developer Guide's
page "policy-anatomy".
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from broker.policies.validate import refusals
from broker.sandbox import arns
from broker.sandbox.cloud import Cloud
from broker.sandbox.errors import AwsError
from broker.sandbox.state import Identity

MAX_BYTES = 4096


def checked(cloud: Cloud, identity: Identity, name: str, text: str) -> str:
    """The text as SES keeps it, without insignificant whitespace. Raises AwsError InvalidPolicy and its like."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        sentence = "Policy names must only include alpha-numeric characters, dashes, and underscores."
        raise AwsError("InvalidParameterValue", f"PolicyName is invalid. {sentence}")
    if len(text.encode()) > MAX_BYTES:
        raise AwsError("InvalidPolicy", "Policy size exceeds the maximum allowed.")
    if found := refusals(text, identity_arn=identity.arn, name=name):
        raise AwsError("InvalidPolicy", found[0])
    document = json.loads(text)
    _check_dialect(cloud, document)
    for principal in _principals(document):
        if not _known(cloud, principal):
            raise _invalid_principal(cloud, principal)
    if cloud.dialect.bare_account_as_root:
        _rewrite(
            document, lambda each: f"arn:{arns.partition_of(identity.region)}:iam::{each}:root" if _bare(each) else each
        )
    return _compact(document)


def _check_dialect(cloud: Cloud, document: Any) -> None:
    statements = _list(document["Statement"])
    if cloud.dialect.null_guard_refused and any("Null" in each.get("Condition", {}) for each in statements):
        raise AwsError("InvalidPolicy", "Unknown or unapplicable condition operator 'Null'")
    actions = {action.lower() for each in statements for action in _list(each.get("Action", []))}
    if cloud.dialect.send_bulk_refused and "ses:sendbulkemail" in actions:
        raise AwsError("InvalidPolicy", "Unknown action 'ses:SendBulkEmail'")
    roles = [each for each in _principals(document) if ":role/" in each or ":assumed-role/" in each]
    if cloud.dialect.role_principal_refused and roles:
        raise _invalid_principal(cloud, roles[0])


def _invalid_principal(cloud: Cloud, principal: str) -> AwsError:
    named = f": {principal}" if cloud.dialect.refused_principal_named else ""
    return AwsError("InvalidPolicy", f"Invalid principal in policy{named}")


def _known(cloud: Cloud, principal: str) -> bool:
    """Accounts exist once the control API has opened them; users and roles once IAM has made them."""
    if principal == "*" or principal.startswith(("AIDA", "AROA")):
        return True
    if _bare(principal):
        return cloud.accounts.exists(principal)
    named = arns.parse(principal)
    if named.resource == "root":
        return cloud.accounts.exists(named.account_id)
    return cloud.accounts.unique_id(_holder(principal)) is not None


def _bare(principal: str) -> bool:
    return len(principal) == 12 and principal.isdigit()


def _holder(principal: str) -> str:
    """The user or role that a principal stands or falls with; empty for accounts."""
    named = arns.parse(principal)
    if named.resource.startswith("assumed-role/"):
        role = named.resource.split("/")[1]
        return f"arn:{named.partition}:iam::{named.account_id}:role/{role}"
    return "" if named.resource == "root" else principal


def unique_ids(cloud: Cloud, text: str) -> dict[str, str]:
    named = [arn for arn in _principals(json.loads(text)) if arn.startswith("arn:") and _holder(arn)]
    found = {arn: cloud.accounts.unique_id(_holder(arn)) for arn in named}
    return {arn: unique_id for arn, unique_id in found.items() if unique_id}


def with_ids(cloud: Cloud, text: str, ids: Mapping[str, str]) -> str:
    """The text with the unique ids of those users and roles that were deleted since it was stored."""
    gone = {arn: each for arn, each in ids.items() if cloud.accounts.unique_id(_holder(arn)) != each}
    if not gone:
        return text
    document = json.loads(text)
    _rewrite(document, lambda each: gone.get(each, each))
    return _compact(document)


def _compact(document: Any) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _principals(document: Any) -> list[str]:
    parts = (each.get(key, {}) for each in _list(document["Statement"]) for key in ("Principal", "NotPrincipal"))
    return [each for part in parts if isinstance(part, dict) for each in _list(part.get("AWS", []))]


def _rewrite(document: Any, change: Callable[[str], str]) -> None:
    """Changes every AWS principal in place, keeping strings strings and lists lists."""
    for statement in _list(document["Statement"]):
        for key in ("Principal", "NotPrincipal"):
            part = statement.get(key)
            if isinstance(part, dict) and "AWS" in part:
                named = part["AWS"]
                part["AWS"] = [change(each) for each in named] if isinstance(named, list) else change(named)

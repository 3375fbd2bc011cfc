"""The IAM documents of tenants' roles and of our sessions under them, made from the table of permissions."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from broker.connections.permissions import PREFIX, TABLE, Form, Permission, Role, rights

_SERVICES = {Form.IDENTITY: "ses:*", Form.CONFIGURATION_SET: "ses:*", Form.TOPIC: "sns:*", Form.ROLE: "iam:"}
_RESOURCES = {
    Form.IDENTITY: "identity/*",
    Form.CONFIGURATION_SET: f"configuration-set/{PREFIX}*",
    Form.TOPIC: f"{PREFIX}*",
    Form.ROLE: f"role/{PREFIX}*",
}


def role_policy(role: Role, account_id: str, partition: str) -> dict[str, Any]:
    """The policy of the tenant's role: each action once, limited to the account's resources where that is possible."""
    statements = [
        _statement(group, [_resource(group[0].form, role, account_id, partition)]) for group in _groups(rights(role))
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def trust_policy(broker_account_id: str, partition: str, external_id: str) -> dict[str, Any]:
    """Who may assume the role: our account, and only with this ExternalId (IAM User Guide, confused-deputy)."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:{partition}:iam::{broker_account_id}:root"},
                "Action": "sts:AssumeRole",
                "Condition": {"StringEquals": {"sts:ExternalId": external_id}},
            }
        ],
    }


def session_policy(operations: Sequence[str], resources: Sequence[str]) -> str:
    """JSON that narrows one AssumeRole to these operations, on these ARNs where an operation knows resources.

    Of an operation's rows those count that one of the ARNs fits: no role is passed where none is named. Raises
    ValueError for an operation that is not in the table, or that has none of the ARNs.
    """
    rows = [row for operation in operations for row in _rows(operation, resources)]
    statements = []
    for group in _groups(rows):
        form = group[0].form
        named = ["*"] if form is Form.ANY else [arn for arn in resources if _form_of(arn) is form]
        statements.append(_statement(group, named))
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, separators=(",", ":"))


def _rows(operation: str, resources: Sequence[str]) -> list[Permission]:
    rows = [row for row in TABLE if row.operation == operation]
    if not rows:
        raise ValueError(f"{operation} is not in the table of permissions.")
    forms = {Form.ANY, *(_form_of(arn) for arn in resources)}
    fitting = [row for row in rows if row.form in forms]
    if not fitting:
        raise ValueError(f"No resource is of the form {rows[0].form} among {list(resources)}.")
    return fitting


def _groups(rows: Iterable[Permission]) -> list[list[Permission]]:
    """The rows that make one statement: of one form and under one condition."""
    found: dict[tuple[int, str], list[Permission]] = {}
    for row in rows:
        condition = json.dumps(row.condition, sort_keys=True) if row.condition else ""
        found.setdefault((list(Form).index(row.form), condition), []).append(row)
    return [found[key] for key in sorted(found)]


def _statement(rows: Sequence[Permission], resources: Sequence[str]) -> dict[str, Any]:
    form, condition = rows[0].form, rows[0].condition
    sid = "Account" if form is Form.ANY else "".join(word.title() for word in form.split("-"))
    keys = sorted({key for each in (condition or {}).values() for key in each})
    statement = {
        "Sid": sid + re.sub("[^A-Za-z]", "", "".join(keys).title()),
        "Effect": "Allow",
        "Action": sorted({row.action for row in rows}),
        "Resource": resources[0] if len(resources) == 1 else list(resources),
    }
    return statement | ({"Condition": condition} if condition else {})


def _resource(form: Form, role: Role, account_id: str, partition: str) -> str:
    if form is Form.ANY:
        return "*"
    # An owner's topics are its own and have names of its own. The identities that a delegate deals with are owners',
    # and which ones is known only once there is a grant.
    named = "*" if (form, role) == (Form.TOPIC, Role.OWNER) else _RESOURCES[form]
    account = "*" if (form, role) == (Form.IDENTITY, Role.DELEGATE) else account_id
    return f"arn:{partition}:{_SERVICES[form]}:{account}:{named}"


def _form_of(arn: str) -> Form:
    service, resource = arn.split(":", 5)[2::3] if arn.count(":") >= 5 else ("", "")
    if service == "sns":
        return Form.TOPIC
    kind = resource.partition("/")[0]
    return next((form for form in (Form.IDENTITY, Form.CONFIGURATION_SET, Form.ROLE) if form == kind), Form.ANY)

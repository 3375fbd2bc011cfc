"""A second evaluator, slow and plain, from the pages of the IAM User Guide alone; it shares nothing with the product.

Hypothesis lets the two disagree if they can. It takes what JSON gives and believes that a policy is well-formed. Beside
a rule stands the page that it is from, without its `reference_policies_`.
"""

from datetime import UTC, datetime, timedelta

from tests.policies.examples import Json
from tests.policies.naive_values import condition, date, like, resource, text_of

Object = dict[str, Json]
Keys = dict[str, list[str]]


def decide(policies: list[Object], identity: str, send: Object) -> str:
    """evaluation-logic: deny by default; an Allow overrides that, an explicit Deny in any policy every Allow."""
    effects = set()
    for policy in policies:
        variables = policy.get("Version") == "2012-10-17"  # elements_version: variables are literal text before
        for statement in listed(policy["Statement"]):
            assert isinstance(statement, dict)
            if applies(statement, identity, send, variables=variables):
                effects.add(statement["Effect"])
    if "Deny" in effects:
        return "explicit_deny"
    return "allow" if "Allow" in effects else "implicit_deny"


def applies(statement: Object, identity: str, send: Object, *, variables: bool) -> bool:
    keys, single = keys_of(send), single_valued(send)
    known = {name: values[0] for name, values in keys.items() if name in single} if variables else None
    return (
        of_action(statement, str(send["action"]))
        and of_resource(statement, identity, known)
        and of_caller(statement, send)
        and all(
            condition(operator, listed(wanted), keys.get(key.lower()), known)
            for operator, block in as_object(statement.get("Condition", {})).items()
            for key, wanted in as_object(block).items()
        )
    )


def listed(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [value]


def as_object(value: Json) -> Object:
    assert isinstance(value, dict)
    return value


def keys_of(send: Object) -> Keys:
    """condition-keys; which address keys an action has is from the Service Authorization Reference."""
    arn, time, action = send.get("caller_arn"), send.get("time"), str(send["action"]).lower()
    found: Object = {
        "ses:fromaddress": None if action == "ses:sendbulkemail" else send.get("from"),
        "ses:recipients": None if action in ("ses:sendbulkemail", "ses:sendbounce") else send.get("recipients"),
        "aws:sourceip": send.get("source_ip"),
        "aws:securetransport": send.get("secure_transport"),
        "aws:principalaccount": send.get("caller_account") or (arn.split(":")[4] if isinstance(arn, str) else None),
        "aws:principalservicename": send.get("caller_service"),
    }
    if isinstance(time, str):
        moment = date(time)
        assert moment is not None
        found["aws:currenttime"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        found["aws:epochtime"] = str((moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1))
    if isinstance(arn, str):
        account, resource = arn.split(":")[4], arn.split(":")[5].split("/")
        # condition-keys, aws:PrincipalArn: for a session the ARN of the role that was assumed
        is_session = resource[0] == "assumed-role"
        found["aws:principalarn"] = f"arn:aws:iam::{account}:role/{resource[1]}" if is_session else arn
        found["aws:username"] = resource[-1] if resource[0] == "user" else None
        kinds = {"user": "User", "assumed-role": "AssumedRole", "role": "AssumedRole", "root": "Account"}
        found["aws:principaltype"] = kinds.get(resource[0], "FederatedUser")
    for key, value in as_object(send.get("context") or {}).items():
        found[key.lower()] = value
    return {key: [text_of(each) for each in listed(value)] for key, value in found.items() if value is not None}


def single_valued(send: Object) -> set[str]:
    context = as_object(send.get("context") or {})
    lists = {key.lower() for key, value in context.items() if isinstance(value, list)}
    return set(keys_of(send)) - lists - {"ses:recipients"}


def of_action(statement: Object, action: str) -> bool:
    """elements_action: no case, wildcards; elements_notaction: all but those."""
    negated = "NotAction" in statement
    named = listed(statement["NotAction" if negated else "Action"])
    return any(like(str(each).lower(), action.lower(), None) for each in named) != negated


def of_resource(statement: Object, identity: str, known: dict[str, str] | None) -> bool:
    negated = "NotResource" in statement
    named = listed(statement["NotResource" if negated else "Resource"])
    return any(resource(str(each), identity, known) for each in named) != negated


def identities(send: Object) -> list[str]:
    """Everything that the caller is: its account, for a session its role, itself."""
    arn, account = send.get("caller_arn"), send.get("caller_account")
    if not isinstance(arn, str):
        return [str(account)] if account else []
    owner, parts = arn.split(":")[4], arn.split(":")[5].split("/")
    if parts[0] == "assumed-role":
        return [owner, f"role {owner} {parts[1]}", arn]
    return [owner] if parts[0] == "root" else [owner, arn]


def spellings(named: str) -> list[str]:
    """elements_principal: `…:root` is the account; a session tells its role by its name, which is unique in it."""
    parts = named.split(":")
    if len(parts) == 6 and parts[5] == "root":
        return [parts[4]]
    if len(parts) == 6 and parts[5].startswith("role/"):
        return [named, f"role {parts[4]} {parts[5].split('/')[-1]}"]
    return [named]


def of_caller(statement: Object, send: Object) -> bool:
    negated = "NotPrincipal" in statement
    principal = statement["NotPrincipal" if negated else "Principal"]
    block = {"AWS": principal} if principal == "*" else as_object(principal)
    people = [text for each in listed(block.get("AWS", [])) for text in spellings(str(each))]
    services = [str(each) for each in listed(block.get("Service", []))]
    who, service = identities(send), send.get("caller_service")
    named = "*" in people or any(each in people for each in who) or service in services
    if not negated:
        return named
    if statement["Effect"] == "Allow":
        return not named
    # elements_notprincipal: the account, the role and the session must all be listed, or the Deny strikes
    spared = "*" in people or service in services or (bool(who) and all(each in people for each in who))
    return not spared

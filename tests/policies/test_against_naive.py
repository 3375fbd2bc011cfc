"""The evaluator and the naive one, which know nothing of each other, decide random sends by random policies alike."""

import json

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.policies.context import Send
from broker.policies.evaluate import evaluate
from tests.policies import naive
from tests.policies.examples import DELEGATE, IDENTITY, ROLE, SESSION, STRANGER, USER, Json

SERVICE = "cognito-idp.amazonaws.com"
ROOT = f"arn:aws:iam::{DELEGATE}:root"
FEDERATED = f"arn:aws:sts::{DELEGATE}:federated-user/ann"
SHORT_ROLE = f"arn:aws:iam::{DELEGATE}:role/sender"

STRINGS = [
    "a",
    "A",
    "ab",
    "a*",
    "*",
    "?",
    "*a*",
    "b*b",
    "a?b",
    "*?b*",
    "axb",
    "*a?b*b",
    "",
    "ann",
    "${aws:username}",
    "ANN",
]
STRINGS += [
    "${my:none}",
    "${my:none, 'ab'}",
    "${*}",
    "x${*}*",
    "${my:k}",
    "${my:many}",
    "${AWS:PrincipalAccount}",
    "a${?}b",
]
NUMBERS = ["1", "1.0", "10", "9.5", "-1", "1e1", "ten", "", "0"]
DATES = [
    "2026-03-01T12:00:00Z",
    "2026-03-01T12:00Z",
    "2026-03-01T13:00:00+01:00",
    "2026-03-01",
    "2026",
    "1772366400",
    "x",
]
BLOCKS = ["203.0.113.0/24", "203.0.113.7", "0.0.0.0/0", "::/0", "2001:db8::/32", "x", "203.0.113.9/30"]
ADDRESSES = ["203.0.113.7", "203.0.113.8", "2001:db8::1", "::ffff:203.0.113.7", "::1", "x"]
ARNS = [IDENTITY, USER, ROLE, SHORT_ROLE, "arn:aws:ses:*", "arn:aws:*:*:*:*", "*", "arn:*:ses:eu-west-1:111111111111:*"]
ARNS += ["arn:aws:ses:eu-*:identity/*", "arn:aws:ses:*-1:*:identity/ex*.com", "arn:aws:s?s:*:1*1:identity/${my:none}"]
ARNS += [
    "arn:aws:ses:eu-west-1:111111111111:identity/${my:k}",
    "arn:aws:iam::${aws:PrincipalAccount}:role/*",
    "a*:identity/*",
]
ARNS += ["arn:aws:ses:*:${my:k, '111111111111'}:identity/*", "arn:a*s:ses:eu-west-1:111111111111:identity/example.com"]
BOOLS: list[Json] = ["true", "false", "TRUE", True, False, "yes"]
BINARIES = ["QQ==", "Qg==", "QR==", "!"]

FAMILIES: list[tuple[list[str], list[str], list[Json]]] = [
    (
        [
            f"String{name}"
            for name in ("Equals", "NotEquals", "EqualsIgnoreCase", "NotEqualsIgnoreCase", "Like", "NotLike")
        ],
        ["my:k", "MY:Many", "ses:FromAddress", "ses:Recipients", "aws:username", "aws:PrincipalType", "my:absent"],
        [*STRINGS],
    ),
    (
        [
            f"Numeric{name}"
            for name in ("Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals")
        ],
        ["my:n", "my:many", "aws:EpochTime"],
        [*NUMBERS, "1772366400", 10, 9.5],
    ),
    (
        [
            f"Date{name}"
            for name in ("Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals")
        ],
        ["aws:CurrentTime", "aws:EpochTime", "my:d"],
        [*DATES],
    ),
    (["Bool"], ["aws:SecureTransport", "my:b"], BOOLS),
    (["BinaryEquals"], ["my:y"], [*BINARIES]),
    (["IpAddress", "NotIpAddress"], ["aws:SourceIp", "my:ip"], [*BLOCKS]),
    (["ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike"], ["aws:PrincipalArn", "my:arn"], [*ARNS]),
]


def one_or_more(values: list[Json]) -> st.SearchStrategy[Json]:
    return st.sampled_from(values) | st.lists(st.sampled_from(values), max_size=3)


@st.composite
def conditions(draw: st.DrawFn) -> Json:
    block: dict[str, Json] = {}
    for _ in range(draw(st.integers(0, 2))):
        operators, keys, values = draw(st.sampled_from(FAMILIES))
        operator = draw(st.sampled_from(operators))
        prefix = draw(st.sampled_from(["", "", "ForAllValues:", "ForAnyValue:"]))
        suffix = draw(st.sampled_from(["", "", "IfExists"]))
        block[f"{prefix}{operator}{suffix}"] = {draw(st.sampled_from(keys)): draw(one_or_more(values))}
    if draw(st.integers(0, 3)) == 0:
        key = draw(st.sampled_from(["my:k", "my:many", "aws:username", "ses:Recipients"]))
        block["Null"] = {key: draw(one_or_more(["true", "false", True, False]))}
    return block


PEOPLE: list[Json] = [
    DELEGATE,
    ROOT,
    USER,
    ROLE,
    SHORT_ROLE,
    SESSION,
    FEDERATED,
    STRANGER,
    "*",
    f"arn:aws:iam::{DELEGATE}:user/*",
]
_WHOLE: list[Json] = ["*", {"AWS": "*"}, {"AWS": DELEGATE}]
PRINCIPALS: st.SearchStrategy[Json] = st.sampled_from(_WHOLE) | st.fixed_dictionaries(
    {}, optional={"AWS": one_or_more(PEOPLE), "Service": one_or_more([SERVICE, "ses.amazonaws.com"])}
)
ACTIONS: list[Json] = ["ses:SendEmail", "ses:Send*", "SES:sendemail", "*", "ses:SendBulkEmail", "ses:?end*l"]
RESOURCES: list[Json] = [IDENTITY, IDENTITY, IDENTITY, *ARNS]


@st.composite
def statements(draw: st.DrawFn) -> Json:
    def negated(name: str) -> str:
        return f"Not{name}" if draw(st.integers(0, 4)) == 0 else name

    statement: dict[str, Json] = {
        "Effect": draw(st.sampled_from(["Allow", "Allow", "Deny"])),
        negated("Principal"): draw(PRINCIPALS),
        negated("Action"): draw(one_or_more(ACTIONS)),
        negated("Resource"): draw(one_or_more(RESOURCES)),
    }
    if draw(st.booleans()):
        statement["Condition"] = draw(conditions())
    return statement


DOCUMENTS = st.builds(
    lambda version, listed: {**version, "Statement": listed},
    st.sampled_from([{"Version": "2012-10-17"}, {"Version": "2012-10-17"}, {"Version": "2008-10-17"}, {}]),
    st.lists(statements(), min_size=1, max_size=3),
)

ANY: dict[str, list[Json]] = {
    "action": ["ses:SendEmail", "ses:SendEmail", "SES:SENDEMAIL", "ses:SendBulkEmail", "ses:SendBounce"],
    "caller_arn": [None, USER, SESSION, ROOT, ROLE, FEDERATED, f"arn:aws:iam::{STRANGER}:user/ann"],
    "caller_service": [None, None, SERVICE],
    "from": [None, "a", "ab", "axb", "ann"],
    "recipients": [None, [], ["a"], ["ab", "b"]],
    "time": [None, "2026-03-01T12:00:00Z", "2026-03-01T12:00:01Z", "2025-12-31T23:00:00-02:00"],
    "source_ip": [None, *ADDRESSES],
    "secure_transport": [None, True, False],
}
CONTEXT: dict[str, list[Json]] = {
    "my:k": ["a", "ab", "axbxb", "A", "ann", "*", "x*y", "111111111111", "example.com", ""],
    "My:Many": [[], ["a"], ["a", "ab"], ["1", "10"], ["ten"]],
    "my:n": [*NUMBERS, 10, 9.5],
    "my:d": [*DATES],
    "my:b": [*BOOLS],
    "my:y": [*BINARIES],
    "my:ip": [*ADDRESSES],
    "my:arn": [IDENTITY, USER, "arn:aws:ses:eu-west-1:111111111111:identity/a:b", "x"],
}
SENDS = st.builds(
    lambda fields, context: {**fields, "context": context},
    st.fixed_dictionaries({name: st.sampled_from(values) for name, values in ANY.items()}),
    st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in CONTEXT.items()}),
)


@settings(max_examples=300)
@given(st.lists(DOCUMENTS, max_size=3), SENDS)
@example([{"Statement": [{"Effect": "Deny", "NotPrincipal": "*", "Action": "*", "Resource": "*"}]}], {"action": "a:b"})
def test_both_evaluators_decide_alike(policies: list[dict[str, Json]], send: dict[str, Json]) -> None:
    verdict = evaluate([json.dumps(policy) for policy in policies], msgspec.convert(send, Send), identity_arn=IDENTITY)

    assert naive.decide(policies, IDENTITY, send) == verdict.decision


@settings(max_examples=300)
@given(conditions(), SENDS)
def test_both_evaluators_agree_on_conditions_alone(condition: Json, send: dict[str, Json]) -> None:
    document: dict[str, Json] = {
        "Version": "2012-10-17",
        "Statement": {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*", "Condition": condition},
    }

    verdict = evaluate([json.dumps(document)], msgspec.convert(send, Send), identity_arn=IDENTITY)

    assert naive.decide([document], IDENTITY, send) == verdict.decision

"""Two documents are compared as wholes: principal by principal and action by action."""

import pytest

from broker.policies.cells import cells, is_within
from broker.policies.document import read
from tests.policies.examples import DELEGATE, STRANGER, USER, Json, conditional, policy
from tests.policies.test_adopt import several

UNTIL: dict[str, Json] = {"DateLessThan": {"aws:CurrentTime": "2026-03-31T12:00:00Z"}}
FROM: dict[str, Json] = {"StringEquals": {"ses:FromAddress": "a@example.com"}}
TO: dict[str, Json] = {"ForAllValues:StringLike": {"ses:Recipients": "*@example.org"}}


def within(inner: str, outer: str) -> bool:
    return is_within(cells(read(inner)), cells(read(outer)))


@pytest.mark.parametrize(
    ("inner", "outer"),
    [
        (policy(), policy(Sid="other", Principal={"AWS": f"arn:aws:iam::{DELEGATE}:root"}, Action="SES:sendemail")),
        (
            policy(Action=["ses:SendEmail", "ses:SendRawEmail"]),
            several({"Action": "ses:SendRawEmail"}, {"Action": "ses:SendEmail"}),
        ),
        (conditional(FROM), conditional({"ForAnyValue:StringLike": {"SES:FromAddress": "a@example.com"}})),
        (conditional(FROM), conditional({**FROM, "Null": {"ses:FromAddress": "false"}})),
        (conditional({**TO, "Null": {"ses:Recipients": "false"}}), conditional(TO)),
        (conditional(UNTIL), policy()),
        (conditional(UNTIL), conditional({"DateLessThanEquals": {"aws:CurrentTime": "2026-03-31T12:00:00Z"}})),
        (
            conditional({"DateGreaterThanEquals": {"aws:CurrentTime": "2026-03-01T12:00:01Z"}}),
            conditional({"DateGreaterThan": {"aws:CurrentTime": "2026-03-01T12:00:00Z"}}),
        ),
        (policy(), policy(Action=["ses:SendEmail"], Principal={"AWS": [DELEGATE, DELEGATE]})),
        (
            conditional({"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}),
            conditional({"IpAddress": {"aws:SourceIp": "203.0.113.7/24"}}),
        ),
    ],
)
def test_the_same_or_the_same_for_a_shorter_time_is_within(inner: str, outer: str) -> None:
    assert within(inner, outer)


@pytest.mark.parametrize(
    ("inner", "outer"),
    [
        (policy(), policy(Principal={"AWS": STRANGER})),
        (policy(), policy(Principal={"AWS": USER})),
        (policy(Principal={"AWS": [DELEGATE, STRANGER]}), policy()),
        (policy(), policy(Principal={"AWS": [DELEGATE, STRANGER]})),
        (policy(Action=["ses:SendEmail", "ses:SendRawEmail"]), policy()),
        (policy(), conditional(FROM)),
        (conditional(FROM), policy()),
        (conditional(FROM), conditional({"StringEquals": {"ses:FromAddress": ["a@example.com", "b@example.com"]}})),
        (conditional(FROM), conditional({"StringEqualsIgnoreCase": {"ses:FromAddress": "a@example.com"}})),
        (conditional(FROM), conditional({"StringEqualsIfExists": {"ses:FromAddress": "a@example.com"}})),
        (conditional(FROM), conditional({"ForAllValues:StringEquals": {"ses:FromAddress": "a@example.com"}})),
        (conditional(TO), conditional({**TO, "Null": {"ses:Recipients": "false"}})),
        (policy(), conditional(UNTIL)),
        (conditional({"DateLessThanEquals": {"aws:CurrentTime": "2026-03-31T12:00:00Z"}}), conditional(UNTIL)),
        (conditional({"DateLessThan": {"aws:CurrentTime": "2026-04-01"}}), conditional(UNTIL)),
        (policy(Action="ses:SendBulkEmail"), policy(Action="ses:SendBulkEmail", Condition=FROM)),
        (policy(), several({}, {"Condition": {"Bool": {"aws:SecureTransport": "true"}}})),
    ],
)
def test_what_permits_more_or_other_sends_is_not(inner: str, outer: str) -> None:
    assert not within(inner, outer)

"""The one right to send that a delegate may give us: to the mailbox simulator."""

import json

from broker.connections.permissions import SIMULATOR, TABLE, Role
from broker.connections.role_documents import role_policy, session_policy

ACCOUNT = "222222222222"
IDENTITY = "arn:aws:ses:eu-west-1:111111111111:identity/example.com"


def test_a_delegate_lets_us_send_to_the_simulator_and_to_nobody_else() -> None:
    """Also where the key is missing or empty, of which ForAllValues says yes (IAM User Guide, multivalued keys)."""
    of_role = role_policy(Role.DELEGATE, ACCOUNT, "aws")["Statement"]
    of_session = json.loads(session_policy(["SendEmail"], [IDENTITY]))["Statement"]
    sends = [each for each in of_role + of_session if "ses:SendEmail" in each["Action"]]

    assert 3 == len(sends)
    assert [{"ses:Recipients": list(SIMULATOR)}] * 3 == [s["Condition"]["ForAllValues:StringEquals"] for s in sends]
    assert [{"ses:Recipients": "false"}] * 3 == [each["Condition"]["Null"] for each in sends]
    assert [["ses:SendEmail"]] * 3 == [each["Action"] for each in sends]
    assert {"simulator.amazonses.com"} == {address.partition("@")[2] for address in SIMULATOR}


def test_a_role_may_be_without_it() -> None:
    assert all(row.optional for row in TABLE if row.operation == "SendEmail")


def test_the_policy_of_the_role_fits_what_iam_takes() -> None:
    """10,240 characters without white space for all inline policies of a role (IAM User Guide, quotas)."""
    assert len(json.dumps(role_policy(Role.DELEGATE, ACCOUNT, "aws"), separators=(",", ":"))) < 10_240

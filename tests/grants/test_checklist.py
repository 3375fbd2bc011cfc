"""What the checklist says for what is known: one row for each thing that may be wrong."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from broker.grants.sending.asked import Sending
from broker.grants.sending.checklist import Known, checklist
from broker.grants.sending.items import Item, Status
from broker.identities.facts import Attributes
from broker.policies.arns import parse_identity_arn
from broker.policies.calls import CALLS, Call
from broker.policies.terms import Action
from tests.policies.examples import ADDRESS_IDENTITY, DELEGATE, IDENTITY, OWNER, terms

GOOD = Attributes(dkim="SUCCESS", dkim_signing=True, production_access=True, sending_enabled=True)
SEND = Sending(
    call=Call.v2_send_email_simple,
    from_="Example News <newsletter@example.com>",
    return_path="bounces@example.com",
    region="eu-west-1",
    configuration_set="news",
    arns=("FromEmailAddressIdentityArn", "FeedbackForwardingEmailAddressIdentityArn"),
)
KNOWN = Known(
    parse_identity_arn(IDENTITY), account_id=DELEGATE, verified=True, attributes=GOOD, sender=GOOD, terms=terms()
)


def items(send: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Item]:
    found = checklist(msgspec.structs.replace(SEND, **send), msgspec.structs.replace(KNOWN, **known))
    assert len({item.code for item in found}) == len(found)
    return {item.code: item for item in found}


def test_only_what_nobody_here_can_see_is_unknown_when_all_is_well() -> None:
    """The delegate's own IAM policy and configuration set are its own business."""
    found = items({}, {})

    unknown = {code for code, item in found.items() if item.status is Status.unknown}
    assert {"delegate_iam", "configuration_set"} == unknown
    assert not [item for item in found.values() if item.status is Status.problem]


ADDRESS = {"identity": parse_identity_arn(ADDRESS_IDENTITY)}
ROWS: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({"region": "us-east-1"}, {}, "region", "problem"),
    ({"region": None}, {}, "region", "unknown"),
    ({}, {"verified": False}, "identity_verified", "problem"),
    ({}, {"verified": None}, "identity_verified", "unknown"),
    ({}, {"attributes": msgspec.structs.replace(GOOD, listed=False)}, "identity_verified", "problem"),
    ({"from_": "ceo@elsewhere.example"}, {}, "from_alignment", "problem"),
    ({"from_": "News <a@mail.example.com>"}, {}, "from_alignment", "ok"),
    ({"from_": "a@notexample.com"}, {}, "from_alignment", "problem"),
    ({"from_": "ann@example.com"}, ADDRESS, "from_alignment", "problem"),
    ({"from_": "Ann@example.com"}, ADDRESS, "from_alignment", "ok"),
    ({"from_": "Ann <Ann@example.com>"}, ADDRESS, "from_display_name", "unknown"),
    ({"return_path": "b@elsewhere.example"}, {}, "return_path_alignment", "problem"),
    (
        {"return_path": "b@elsewhere.example", "return_path_arn": ADDRESS_IDENTITY},
        {},
        "return_path_alignment",
        "unknown",
    ),
    ({"arns": None}, {}, "arns", "unknown"),
    ({"arns": ()}, {}, "arns", "problem"),
    ({"arns": ("FromEmailAddressIdentityArn",), "return_path": None}, {}, "arns", "ok"),
    ({"call": Call.v1_send_raw_email, "arns": ("SourceArn", "ReturnPathArn")}, {}, "arns", "problem"),
    ({"call": Call.smtp, "arns": CALLS[Call.smtp].arns}, {}, "arns", "ok"),
    ({"call": Call.v2_send_email_template}, {}, "action", "problem"),
    ({"call": Call.v2_send_bulk_email}, {"terms": terms(actions=(Action.send_bulk,))}, "action", "ok"),
    ({}, {"attributes": msgspec.structs.replace(GOOD, production_access=False)}, "owner_sandbox", "problem"),
    ({}, {"sender": msgspec.structs.replace(GOOD, production_access=False)}, "delegate_sandbox", "problem"),
    ({}, {"sender": None}, "delegate_sandbox", "unknown"),
    ({}, {"sender": msgspec.structs.replace(GOOD, sending_enabled=False)}, "delegate_sending", "problem"),
    ({"configuration_set": None}, {}, "default_configuration_set", "ok"),
    (
        {"configuration_set": None},
        {"attributes": msgspec.structs.replace(GOOD, default_configuration_set="owners")},
        "default_configuration_set",
        "unknown",
    ),
    (
        {},
        {"attributes": msgspec.structs.replace(GOOD, overlapping=("newsletter@example.com",))},
        "child_identity",
        "unknown",
    ),
]


@pytest.mark.parametrize(("send", "known", "code", "status"), ROWS)
def test_each_trouble_has_its_item_and_its_fix(
    send: dict[str, Any], known: dict[str, Any], code: str, status: str
) -> None:
    item = items(send, known)[code]

    assert status == item.status.value, item.sentence
    assert item.fix or status == "ok"


def test_a_parent_or_a_sibling_is_no_child_of_the_address() -> None:
    """Only what is more specific than the identity, and covers From, has settings of its own for the mail."""
    attributes = msgspec.structs.replace(GOOD, overlapping=("other@example.com", "sub.example.com"))

    assert "child_identity" not in items({}, {"attributes": attributes})


def test_the_delegate_is_not_told_names_of_the_owners() -> None:
    attributes = msgspec.structs.replace(
        GOOD, default_configuration_set="owners-set", overlapping=("newsletter@example.com",)
    )

    found = items({"configuration_set": None}, {"attributes": attributes, "secret": True})

    said = f"{found['default_configuration_set']} {found['child_identity']}"
    assert "owners-set" not in said
    assert "another identity of the owner" in said


def test_the_owners_own_account_needs_no_second_side() -> None:
    """Within one account either side's permission is enough (IAM User Guide, evaluation logic)."""
    found = items({}, {"account_id": OWNER})

    assert not {"delegate_iam", "delegate_sandbox", "arns", "configuration_set"} & set(found)

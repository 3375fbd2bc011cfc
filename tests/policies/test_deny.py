"""A Deny shuts out whom access was taken from, nobody else, and never says more than SES takes."""

import json
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.policies.compile import MAX_DOCUMENT_BYTES
from broker.policies.context import Send
from broker.policies.deny import (
    SENDING,
    ProtectedBy,
    TakenBack,
    decide,
    documents,
    protects,
    shut_out,
    still_named,
    touched,
)
from broker.policies.document import read
from broker.policies.evaluate import Decision, evaluate
from broker.policies.plan import DENY, policy_name
from broker.policies.validate import refusals
from tests.policies.examples import (
    DELEGATE,
    GRANT,
    IDENTITY,
    NOW,
    OWNER,
    ROLE,
    SEND,
    SESSION,
    STRANGER,
    USER,
    Json,
    compiled,
    policy,
    terms,
)

OTHER_USER = f"arn:aws:iam::{DELEGATE}:user/bob"
NAME = policy_name(DENY, 1)


def denied(
    *principals: str, living: tuple[str, ...] = (), theirs: str | None = None, ours: str | None = None
) -> tuple[str | None, str | None]:
    """The document for one grant of these principals, and why not all of it is denied."""
    observed = {name: text for name, text in (("theirs", theirs), (policy_name(1, 1), ours)) if text is not None}
    found = decide([TakenBack(GRANT, principals)], living=living, observed=observed, identity_arn=IDENTITY, now=NOW)
    protection = found.protections[GRANT]
    assert (protection.by is ProtectedBy.deny) == (protection.reason is None)
    return found.document, protection.reason


def test_one_statement_denies_every_way_of_sending_to_all_of_them() -> None:
    text, reason = denied(ROLE, USER, STRANGER)

    assert reason is None
    assert {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "TakenBack",
                "Effect": "Deny",
                "Principal": {"AWS": sorted([ROLE, USER, STRANGER])},
                "Action": [
                    "ses:SendEmail",
                    "ses:SendRawEmail",
                    "ses:SendTemplatedEmail",
                    "ses:SendBulkTemplatedEmail",
                    "ses:SendBulkEmail",
                ],
                "Resource": IDENTITY,
            }
        ],
    } == json.loads(text or "")


def test_one_principal_stands_without_a_list() -> None:
    """The shorter of two spellings of the same (IAM User Guide, reference_policies_elements_principal)."""
    assert {"AWS": USER} == json.loads(denied(USER)[0] or "")["Statement"][0]["Principal"]


@pytest.mark.parametrize("action", SENDING)
@pytest.mark.parametrize("caller", [USER, SESSION, f"arn:aws:iam::{DELEGATE}:root"])
def test_an_allow_that_comes_back_does_not_let_anybody_in(action: str, caller: str) -> None:
    """An explicit deny wins over any allow (IAM User Guide, reference_policies_evaluation-logic)."""
    text, _ = denied(DELEGATE)
    back = policy(Action=action)
    send = Send(action=action, caller_arn=caller, caller_account=DELEGATE, from_address=SEND.from_address, time=NOW)

    assert Decision.allow is evaluate([back], send, identity_arn=IDENTITY).decision
    assert Decision.explicit_deny is evaluate([back, text or ""], send, identity_arn=IDENTITY).decision


@pytest.mark.parametrize(
    ("principal", "living"),
    [
        (DELEGATE, DELEGATE),
        (DELEGATE, f"arn:aws:iam::{DELEGATE}:root"),
        (DELEGATE, USER),  # an account covers its users and roles
        (DELEGATE, ROLE),
        (USER, DELEGATE),  # who is let in as an account is not shut out as one of its users
        (ROLE, ROLE),
        (ROLE, SESSION),  # a role covers its sessions
    ],
)
def test_nobody_is_denied_who_has_a_living_grant(principal: str, living: str) -> None:
    text, reason = denied(principal, living=(living,))

    assert (None, f"Another grant lets {living} send.") == (text, reason)


@pytest.mark.parametrize(("principal", "living"), [(USER, OTHER_USER), (USER, ROLE), (STRANGER, DELEGATE)])
def test_who_is_beside_a_living_grant_is_denied(principal: str, living: str) -> None:
    text, reason = denied(principal, living=(living,))

    assert reason is None
    assert principal in (text or "")


@pytest.mark.parametrize("principal", [OWNER, f"arn:aws:iam::{OWNER}:root", f"arn:aws:iam::{OWNER}:user/shop"])
def test_the_owners_own_account_is_never_denied(principal: str) -> None:
    text, reason = denied(principal)

    assert text is None
    assert "owner's own account" in (reason or "")


@pytest.mark.parametrize(
    "principal",
    [{"AWS": DELEGATE}, {"AWS": f"arn:aws:iam::{DELEGATE}:root"}, {"AWS": USER}, "*", {"AWS": [STRANGER, ROLE]}],
)
def test_nobody_is_denied_whom_a_policy_of_somebody_else_lets_in(principal: Json) -> None:
    """What the owner has allowed by hand is not ours to take away."""
    text, reason = denied(DELEGATE, theirs=policy(Principal=principal))

    assert text is None
    assert "The policy theirs, which is not ours" in (reason or "")


@pytest.mark.parametrize(
    "theirs",
    [
        policy(Principal={"AWS": STRANGER}),
        policy(Action="ses:GetEmailIdentity"),
        policy(Effect="Deny"),
        policy(Effect="Deny", Principal="*"),
        policy(Condition={"DateLessThan": {"aws:CurrentTime": "2026-02-28T00:00:00Z"}}),
        policy(Principal={"Service": "cognito-idp.amazonaws.com"}),
    ],
)
def test_a_policy_that_gives_the_principal_no_sending_is_no_obstacle(theirs: str) -> None:
    assert denied(DELEGATE, theirs=theirs)[0] is not None


def test_nobody_is_denied_whom_everybody_but_others_lets_in() -> None:
    """Allow with NotPrincipal: who is not named may send (IAM User Guide, reference_policies_elements_notprincipal)."""
    assert denied(DELEGATE, theirs=policy(Principal=None, NotPrincipal={"AWS": OWNER}))[0] is None


def test_a_policy_of_somebody_else_spares_nobody_but_whom_it_lets_in() -> None:
    text, reason = denied(DELEGATE, STRANGER, theirs=policy(Principal={"AWS": USER}))

    assert (STRANGER in (text or ""), DELEGATE in (text or "")) == (True, False)
    assert f"may let {DELEGATE} send" in (reason or "")


def test_a_policy_that_cannot_be_read_counts_as_one_that_lets_in() -> None:
    assert denied(DELEGATE, theirs="?")[0] is None


def test_an_allow_of_ours_is_no_obstacle() -> None:
    assert denied(DELEGATE, ours=compiled(terms()))[0] is not None


def test_who_may_be_denied_is_denied_though_another_principal_of_the_grant_is_not() -> None:
    """But the receipt does not say that a Deny protects the grant."""
    text, reason = denied(DELEGATE, STRANGER, living=(USER,))

    assert STRANGER in (text or "")
    assert DELEGATE not in (text or "")
    assert reason is not None


def test_whom_an_account_covers_needs_no_place_of_its_own() -> None:
    assert denied(DELEGATE, USER, f"arn:aws:iam::{DELEGATE}:root")[0] == denied(DELEGATE)[0]


def test_one_document_takes_many_grants_and_the_first_come_first() -> None:
    """SES takes 4 KB for one policy; who does not fit is protected by reads."""
    grants = [TakenBack(UUID(int=number), (f"{number:012d}",)) for number in range(400)]

    found = decide(grants, living=(), observed={}, identity_arn=IDENTITY, now=NOW)

    by = [found.protections[grant.grant_id].by for grant in grants]
    fitting = by.count(ProtectedBy.deny)
    assert by == [ProtectedBy.deny] * fitting + [ProtectedBy.reads] * (400 - fitting)
    assert fitting > 200
    assert MAX_DOCUMENT_BYTES - 15 < len(found.document or "") <= MAX_DOCUMENT_BYTES
    assert {"No room is left in the Deny document."} == {
        each.reason for each in found.protections.values() if each.by is ProtectedBy.reads
    }


def filling(length: int) -> tuple[str, ...]:
    """Principals of whom one Deny is of exactly this many bytes."""
    spare = length - len(documents([STRANGER, USER], identity_arn=IDENTITY)[0])
    accounts, rest = divmod(spare, len('"000000000000",'))
    return (STRANGER, *(f"{number:012d}" for number in range(accounts)), USER + "x" * rest)


def test_a_document_takes_the_last_byte_that_ses_takes_and_none_more() -> None:
    full, over = filling(MAX_DOCUMENT_BYTES), filling(MAX_DOCUMENT_BYTES + 1)

    (text,) = documents(full, identity_arn=IDENTITY)
    assert (MAX_DOCUMENT_BYTES, (text, None)) == (len(text), denied(*full))
    assert 2 == len(documents(over, identity_arn=IDENTITY))
    assert (None, "No room is left in the Deny document.") == denied(*over)


@given(st.sets(st.integers(1, 50), max_size=30))
def test_documents_are_filled_one_after_the_other(users: set[int]) -> None:
    """None begins before the one in front of it is full: SES takes 20 policies for one identity."""
    everybody = sorted(f"arn:aws:iam::{STRANGER}:user/{'p' * 450}/{'x' * number}" for number in users)

    texts = documents(everybody, identity_arn=IDENTITY)

    named = [sorted(shut_out({NAME: text}, IDENTITY)) for text in texts]
    assert everybody == [who for each in named for who in each]
    assert all(len(text) <= MAX_DOCUMENT_BYTES for text in texts)
    for text, (begins, *_) in zip(texts, named[1:], strict=False):
        assert len(text) + len(f',"{begins}"') > MAX_DOCUMENT_BYTES


def test_a_smaller_grant_still_fits_after_one_that_does_not() -> None:
    large = tuple(f"arn:aws:iam::{DELEGATE}:user/{'x' * 50}{number:04d}" for number in range(60))

    found = decide(
        [TakenBack(GRANT, large), TakenBack(UUID(int=2), (STRANGER,))],
        living=(),
        observed={},
        identity_arn=IDENTITY,
        now=NOW,
    )

    assert [ProtectedBy.reads, ProtectedBy.deny] == [each.by for each in found.protections.values()]


def test_the_document_is_the_same_whatever_the_order() -> None:
    assert denied(DELEGATE, STRANGER) == denied(STRANGER, DELEGATE)


def test_many_are_as_few_documents_as_ses_takes() -> None:
    """SES takes 4 KB for one policy (Developer Guide, policy-anatomy)."""
    many = [f"{number:012d}" for number in range(300)]

    texts = documents([*many, f"arn:aws:iam::{many[7]}:user/ann"], identity_arn=IDENTITY)

    first, last = texts
    assert many == [each for text in texts for each in json.loads(text)["Statement"][0]["Principal"]["AWS"]]
    assert MAX_DOCUMENT_BYTES - 15 < len(first) <= MAX_DOCUMENT_BYTES
    assert all([] == refusals(text, identity_arn=IDENTITY, name=NAME) for text in (first, last))
    assert () == documents([], identity_arn=IDENTITY)


def test_documents_say_the_same_as_the_one_that_is_decided_on() -> None:
    assert (denied(DELEGATE, STRANGER)[0],) == documents([STRANGER, DELEGATE], identity_arn=IDENTITY)
    assert (denied(USER)[0],) == documents([USER], identity_arn=IDENTITY)


def test_without_anything_taken_back_there_is_no_deny() -> None:
    assert None is decide([], living=[DELEGATE], observed={}, identity_arn=IDENTITY, now=NOW).document


@pytest.mark.parametrize("principal", [DELEGATE, USER, ROLE])
def test_a_deny_of_an_account_protects_from_its_users(principal: str) -> None:
    text, _ = denied(DELEGATE)

    assert protects({NAME: text or ""}, [principal], IDENTITY)


@pytest.mark.parametrize(
    "text",
    [
        policy(),
        policy(Effect="Deny"),  # one action of five
        policy(Effect="Deny", Action=list(SENDING), Principal={"AWS": USER}),
        policy(Effect="Deny", Action=list(SENDING), Resource=IDENTITY.replace("example.com", "example.org")),
        policy(Effect="Deny", Action=list(SENDING), Condition={"Bool": {"aws:SecureTransport": "false"}}),
        policy(Effect="Deny", Action=list(SENDING), Principal=None, NotPrincipal={"AWS": DELEGATE}),
        policy(Effect="Deny", Action=None, NotAction=list(SENDING)),
        policy(Effect="Deny", Action=list(SENDING), Resource=None, NotResource=IDENTITY),
        policy(Effect="Deny", Action=list(SENDING), Principal={"Service": DELEGATE}),
        policy(Action=list(SENDING)),
        "?",
    ],
)
def test_what_somebody_made_of_a_deny_does_not_protect(text: str) -> None:
    assert not protects({NAME: text}, [DELEGATE], IDENTITY)


def test_only_a_deny_of_ours_counts() -> None:
    text, _ = denied(DELEGATE)

    assert not protects({"theirs": text or ""}, [DELEGATE], IDENTITY)
    assert not protects({}, [DELEGATE], IDENTITY)


def test_a_deny_stands_only_under_the_name_of_one() -> None:
    """Under the name of a grant's document it is not looked for, and goes with that document."""
    held = {policy_name(1, 1): denied(DELEGATE)[0] or ""}

    assert not protects(held, [DELEGATE], IDENTITY)
    assert not touched(held, [DELEGATE])


def test_denies_protect_together_whatever_else_has_their_name() -> None:
    first, second, broken = (policy_name(DENY, number) for number in (2, 3, 1))
    held = {broken: "?", first: denied(ROLE)[0] or "", second: denied(STRANGER)[0] or ""}

    assert {ROLE, STRANGER} == shut_out(held, IDENTITY)
    assert protects(held, [ROLE, STRANGER], IDENTITY)
    assert touched(held, [ROLE])
    assert not protects(held, [ROLE, USER], IDENTITY)


@pytest.mark.parametrize("actions", [[*SENDING, "ses:GetEmailIdentity"], [action.upper() for action in SENDING]])
def test_a_deny_of_more_protects_and_names_compare_without_case(actions: list[Json]) -> None:
    """Action names are not case sensitive (IAM User Guide, reference_policies_elements_action)."""
    text = policy(Effect="Deny", Action=actions, Principal={"AWS": f"arn:aws:iam::{DELEGATE}:root"})

    assert {DELEGATE} == shut_out({NAME: text}, IDENTITY)


def test_an_allow_or_a_service_under_the_name_of_a_deny_touches_nobody() -> None:
    assert not touched({NAME: policy()}, [DELEGATE])
    assert not touched({NAME: policy(Effect="Deny", Principal={"Service": DELEGATE})}, [DELEGATE])


@pytest.mark.parametrize(("principal", "hit"), [(DELEGATE, True), (USER, True), (STRANGER, False)])
def test_a_deny_touches_whom_it_covers_and_who_covers_it(principal: str, hit: bool) -> None:
    account, user = denied(DELEGATE)[0], denied(USER)[0]

    assert hit == touched({NAME: account or ""}, [principal]) == touched({NAME: user or ""}, [principal])
    assert not touched({"theirs": account or ""}, [principal])


def test_a_name_goes_on_only_with_the_same_content() -> None:
    assert still_named(NAME, "a", "a")
    assert not still_named(NAME, "a", "b")
    assert not still_named(None, None, "a")
    assert not still_named(None, "a", "a")
    assert not still_named(NAME, "a", None)
    assert not still_named(NAME, None, None)


def test_the_sid_is_no_grants() -> None:
    (statement,) = read(denied(DELEGATE)[0] or "").statements

    assert (False, "TakenBack", ()) == (statement.allow, statement.sid, statement.conditions)

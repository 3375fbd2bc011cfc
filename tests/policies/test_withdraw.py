"""What goes from an identity when some grants end: whole documents, or statements of shared ones, and who is denied."""

import json
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.policies.compile import MAX_DOCUMENT_BYTES, document, statements
from broker.policies.document import read
from broker.policies.evaluate import Decision, evaluate
from broker.policies.plan import DENY, policy_name
from broker.policies.validate import refusals
from broker.policies.withdraw import deniable, deny_documents, withdrawal
from tests.policies.examples import DELEGATE, GRANT, IDENTITY, OWNER, ROLE, SEND, SESSION, STRANGER, USER, policy, terms

OTHER = UUID("01890a5d-ac96-774b-bcce-b302099a8058")


def shared(*grants: UUID, principal: str = DELEGATE) -> str:
    """One document for several grants, as where places have run out."""
    return document(
        [
            statement
            for grant in grants
            for statement in statements(terms(principals=(principal,)), grant_id=grant, identity_arn=IDENTITY)
        ]
    )


def test_a_document_of_its_own_goes_and_foreign_ones_and_denies_stay() -> None:
    observed = {
        policy_name(1, 1): shared(GRANT),
        policy_name(2, 2): shared(OTHER),
        policy_name(DENY, 3): shared(GRANT),
        "foreign": shared(GRANT),
    }

    going = withdrawal(observed, {GRANT})

    assert ((policy_name(1, 1),), {}, ()) == (going.delete, going.reduce, going.unreadable)


def test_a_shared_document_loses_the_statements_of_those_who_go_and_no_other() -> None:
    going = withdrawal({policy_name(1, 1): shared(OTHER, GRANT)}, {GRANT})

    assert ((), {policy_name(1, 1): shared(OTHER)}) == (going.delete, going.reduce)


def test_a_shared_document_whose_grants_all_go_is_one_delete() -> None:
    going = withdrawal({policy_name(1, 1): shared(OTHER, GRANT)}, {GRANT, OTHER})

    assert ((policy_name(1, 1),), {}) == (going.delete, going.reduce)


def test_what_cannot_be_read_is_named_and_left() -> None:
    going = withdrawal({policy_name(1, 1): "{"}, {GRANT})

    assert ((), {}, (policy_name(1, 1),)) == (going.delete, going.reduce, going.unreadable)


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 9)), min_size=1, unique_by=lambda each: each[1]), st.data())
def test_nothing_of_those_who_go_is_left_and_all_of_the_others(
    held: list[tuple[int, int]], data: st.DataObject
) -> None:
    grants = {number: uuid5(GRANT, str(number)) for _, number in held}
    ended = data.draw(st.sets(st.sampled_from(sorted(grants.values()))))
    observed = {
        policy_name(slot, 1): shared(*(grants[number] for at, number in held if at == slot)) for slot, _ in held
    }

    going = withdrawal(observed, ended)
    left = {name: going.reduce.get(name, text) for name, text in observed.items() if name not in going.delete}

    sids = sorted(statement.sid or "" for text in left.values() for statement in read(text).statements)
    assert sorted(grant.hex for grant in grants.values() if grant not in ended) == sids


@pytest.mark.parametrize(
    ("principals", "living", "foreign", "expected"),
    [
        ((DELEGATE,), (), None, (DELEGATE,)),
        ((DELEGATE, STRANGER), (STRANGER,), None, (DELEGATE,)),
        ((USER,), (DELEGATE,), None, ()),  # the account that goes on covers its user
        ((DELEGATE,), (USER,), None, ()),
        ((ROLE,), (SESSION,), None, ()),
        ((USER,), (ROLE,), None, (USER,)),
        ((OWNER,), (), None, ()),
        ((DELEGATE, STRANGER), (), policy(Principal={"AWS": USER}), (STRANGER,)),
        ((DELEGATE,), (), policy(Principal="*"), ()),
        ((DELEGATE,), (), policy(Principal=None, NotPrincipal={"AWS": OWNER}), ()),
        ((DELEGATE,), (), policy(Effect="Deny", Principal="*"), (DELEGATE,)),
        ((DELEGATE,), (), "{", ()),
    ],
)
def test_a_deny_names_nobody_whom_it_would_shut_out_by_the_way(
    principals: tuple[str, ...], living: tuple[str, ...], foreign: str | None, expected: tuple[str, ...]
) -> None:
    observed = {"foreign": foreign} if foreign else {}

    assert expected == deniable(principals, living=living, observed=observed, owner_account=OWNER)


def test_the_deny_wins_over_the_allow_for_every_action() -> None:
    (deny,) = deny_documents([DELEGATE], identity_arn=IDENTITY)

    assert Decision.allow is evaluate([shared(GRANT)], SEND, identity_arn=IDENTITY).decision
    assert Decision.explicit_deny is evaluate([shared(GRANT), deny], SEND, identity_arn=IDENTITY).decision


def test_a_deny_of_many_is_as_few_documents_as_ses_takes() -> None:
    many = [f"arn:aws:iam::{number:012d}:root" for number in range(300)]

    documents = deny_documents(many, identity_arn=IDENTITY)

    named = [each for text in documents for each in json.loads(text)["Statement"][0]["Principal"]["AWS"]]
    assert many == named
    assert all(len(text) <= MAX_DOCUMENT_BYTES for text in documents)
    assert all([] == refusals(text, identity_arn=IDENTITY, name="deny") for text in documents)
    assert [] == list(deny_documents([], identity_arn=IDENTITY))

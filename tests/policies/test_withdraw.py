"""What goes from an identity when some grants end: whole documents, or statements of shared ones."""

from uuid import UUID, uuid5

from hypothesis import given
from hypothesis import strategies as st

from broker.policies.compile import document, statements
from broker.policies.document import read
from broker.policies.plan import DENY, policy_name
from broker.policies.withdraw import withdrawal
from tests.policies.examples import DELEGATE, GRANT, IDENTITY, terms

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

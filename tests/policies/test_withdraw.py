"""What goes from an identity when some grants end: whole documents, or statements of shared ones."""

import json
from uuid import UUID, uuid5

from hypothesis import given
from hypothesis import strategies as st

from broker.policies.compile import document, statements
from broker.policies.document import read
from broker.policies.plan import DENY, policy_name
from broker.policies.withdraw import withdrawal
from tests.policies.examples import DELEGATE, GRANT, IDENTITY, compiled, policy, terms

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
    observed = {policy_name(1, 1): "{", policy_name(2, 1): shared(GRANT), policy_name(3, 1): "{"}

    going = withdrawal(observed, {GRANT})

    assert ((policy_name(2, 1),), {}) == (going.delete, going.reduce)
    assert (policy_name(1, 1), policy_name(3, 1)) == going.unreadable


def test_what_is_left_alone_hides_nothing_behind_it() -> None:
    """Names are gone through in order."""
    foreign, name = {"a": shared(GRANT)}, policy_name(1, 1)

    assert (name,) == withdrawal({**foreign, name: shared(GRANT)}, {GRANT}).delete


def test_a_document_of_one_statement_without_a_list_goes_as_well() -> None:
    """`Statement` may be one object (IAM User Guide, reference_policies_elements_statement)."""
    raw = json.loads(compiled(terms()))
    (raw["Statement"],) = raw["Statement"]
    observed = {policy_name(1, 1): json.dumps(raw)}

    assert (policy_name(1, 1),) == withdrawal(observed, {GRANT}).delete
    assert ((), {}) == ((going := withdrawal(observed, {OTHER})).delete, going.reduce)


def test_a_statement_that_says_no_grant_stays() -> None:
    """A Sid is optional (IAM User Guide, reference_policies_elements_sid)."""
    without, ours = json.loads(policy()), json.loads(compiled(terms()))
    text = json.dumps({**without, "Id": "by hand", "Statement": without["Statement"] + ours["Statement"]})
    name = policy_name(1, 1)

    going = withdrawal({name: text}, {GRANT})

    left = json.dumps({**without, "Id": "by hand"}, separators=(",", ":"))
    assert ((), {name: left}) == (going.delete, going.reduce)
    assert ((), {}) == ((going := withdrawal({name: policy()}, {GRANT})).delete, going.reduce)


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

"""One principal that SES does not know keeps nobody else from being behind a Deny."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.policies.deny import UNSEEN, ProtectedBy, Protection, TakenBack, decide, documents, protects, shut_out
from broker.policies.narrow import left_out, narrows, refused, with_refusal
from broker.policies.plan import DENY, policy_name
from tests.policies.examples import DELEGATE, GRANT, IDENTITY, NOW, ROLE, STRANGER, USER

OTHER = UUID(int=2)
UNNAMED = "Invalid principal in policy"
SUSPECT = "SES refuses a Deny with some principal, perhaps one of this grant, which is looked for: "
WAITS = "SES refuses a Deny with some principal of another grant, which is looked for first: "
A, B, C, D = (f"{number:012d}" for number in range(1, 5))
CALLS = 60  # many more than any search below may take

Words = Callable[[str], str]


def names_it(principal: str) -> str:
    return f'Invalid principal in policy: "AWS":"{principal}"'


def names_nobody(_principal: str) -> str:
    return UNNAMED


class Ses:
    """An identity whose SES knows all principals but some, and the reasons of the grants as runs leave them."""

    def __init__(self, taken: list[TakenBack], unknown: set[str], words: Words) -> None:
        self.taken, self.unknown, self.words = taken, unknown, words
        self.held: dict[str, str] = {}
        self.shown: dict[str, str] = {}
        self.tried: dict[str, str] = {}
        self.protections: Mapping[UUID, Protection] = {}
        self.refusals = 0

    def run(self, *, lost: bool = False, stale: bool = False) -> None:
        """One run as a sync does it; `lost`: SES does not answer, `stale`: the read shows what was before."""
        reasons = {grant: found.reason for grant, found in self.protections.items()}
        out = left_out(self.taken, reasons=reasons, tried=self.tried, observed=self.shown, identity_arn=IDENTITY)
        denial = decide(self.taken, living=(), observed={}, identity_arn=IDENTITY, now=NOW, refused=out)
        before, text, said = dict(self.held), denial.document, None
        if text is not None and text not in self.tried.values():
            self.tried = {policy_name(DENY, len(self.held) + self.refusals + 1): text}
        if text is None:
            self.held, self.tried = {}, {}
        elif not lost:
            bad = sorted(shut_out(self.tried, IDENTITY) & self.unknown)
            said = self.words(bad[0]) if bad else None
            self.refusals += bool(bad)
            self.held |= {} if bad else self.tried
        self.shown = before if stale else dict(self.held)
        current = {name: text for name, text in self.shown.items() if name in self.tried}
        self.protections = {
            grant.grant_id: self._told(denial.protections[grant.grant_id], grant, said, current) for grant in self.taken
        }

    def _told(self, found: Protection, grant: TakenBack, said: str | None, current: Mapping[str, str]) -> Protection:
        named = shut_out(self.tried, IDENTITY)
        if found.by is ProtectedBy.deny and protects(current, grant.principals, IDENTITY):
            return found
        if said is not None and named & set(grant.principals):
            return with_refusal(found, said)
        return Protection(ProtectedBy.reads, UNSEEN) if found.by is ProtectedBy.deny else found


accounts = st.integers(1, 12).map(lambda number: f"{number:012d}")
grants = st.lists(st.frozensets(accounts, min_size=1, max_size=3), min_size=1, max_size=10)


@pytest.mark.parametrize("words", [names_it, names_nobody])
@given(grants=grants, unknown=st.sets(accounts, max_size=3), troubles=st.lists(st.sampled_from(["", "lost", "stale"])))
def test_in_the_end_all_whom_ses_knows_are_behind_the_deny(
    words: Words, grants: list[frozenset[str]], unknown: set[str], troubles: list[str]
) -> None:
    """Whatever is lost or shown late on the way, and nobody is blamed whom SES knows."""
    taken = [TakenBack(UUID(int=number), tuple(sorted(each))) for number, each in enumerate(grants)]
    ses = Ses(taken, unknown, words)

    for trouble in [*troubles, *[""] * CALLS]:
        ses.run(lost=trouble == "lost", stale=trouble == "stale")

    everybody = {principal for grant in taken for principal in grant.principals}
    assert everybody - unknown == shut_out(ses.tried, IDENTITY)
    for grant in taken:
        found, bad = ses.protections[grant.grant_id], set(grant.principals) & unknown
        assert (ProtectedBy.reads if bad else ProtectedBy.deny) is found.by
        assert all(f"SES refuses a Deny of {each}: {words(each)}" in (found.reason or "") for each in bad)
        assert bad or found.reason is None
        assert not narrows(found.reason)


def runs(ses: Ses) -> Iterator[None]:
    """Until nothing changes any more."""
    before = None
    while before != ses.protections:
        before = ses.protections
        ses.run()
        yield


def test_what_ses_names_is_left_out_at_once() -> None:
    taken = [TakenBack(UUID(int=number), (f"{number:012d}",)) for number in range(1, 101)]
    ses = Ses(taken, {f"{7:012d}"}, names_it)

    ses.run()
    ses.run()

    by = {grant.int: found.by for grant, found in ses.protections.items()}
    assert [7] == [number for number, found in by.items() if found is ProtectedBy.reads]


def test_without_a_name_one_of_a_hundred_is_found_in_as_many_refusals_as_it_can_be_halved() -> None:
    taken = [TakenBack(UUID(int=number), (f"{number:012d}",)) for number in range(1, 101)]
    ses = Ses(taken, {f"{70:012d}"}, names_nobody)

    behind = [sum(each.by is ProtectedBy.deny for each in ses.protections.values()) for _ in runs(ses)]

    assert 99 == behind[-1]
    assert ses.refusals <= 8  # all of them, and 50, 25, 13, 7, 4, 2, 1 at the most


def next_one(said: Mapping[str, str], *, tried: Sequence[str] = (), held: Sequence[str] = ()) -> Mapping[str, str]:
    """Whom the next Deny leaves out, where each principal has a grant of its own (`said`: principal → reason)."""
    (old, *_), (new, *_) = ([*documents(each, identity_arn=IDENTITY), ""] for each in (held, tried))
    return left_out(
        [TakenBack(UUID(int=number), (each,)) for number, each in enumerate(said)],
        reasons={UUID(int=number): reason for number, reason in enumerate(said.values())},
        tried={policy_name(DENY, 2): new},
        observed={policy_name(DENY, 1): old, "theirs": new},
        identity_arn=IDENTITY,
    )


def blamed(principal: str) -> str:
    return f"SES refuses a Deny of {principal}: {UNNAMED}"


REFUSED, LOOKED_FOR, LATER = refused(UNNAMED), SUSPECT + UNNAMED, WAITS + UNNAMED


def test_a_refused_deny_is_halved() -> None:
    assert {C: LOOKED_FOR, D: LOOKED_FOR} == next_one(dict.fromkeys([A, B, C, D], REFUSED), tried=[A, B, C, D])
    assert {C: LOOKED_FOR} == next_one(dict.fromkeys([A, B, C], REFUSED), tried=[A, B, C])
    assert {B: LOOKED_FOR} == next_one(dict.fromkeys([A, B], REFUSED), tried=[A, B])


def test_while_a_half_of_a_half_is_tried_the_other_half_waits() -> None:
    said = {A: REFUSED, B: REFUSED, C: LOOKED_FOR, D: LOOKED_FOR}

    assert {B: LOOKED_FOR, C: LATER, D: LATER} == next_one(said, tried=[A, B])


def test_the_last_one_is_to_blame_and_all_the_others_are_denied() -> None:
    assert {A: blamed(A)} == next_one({A: REFUSED}, tried=[A])
    assert {C: blamed(C)} == next_one({C: REFUSED, D: LOOKED_FOR}, tried=[A, B, C], held=[A, B])
    assert {B: blamed(B)} == next_one({A: "", B: REFUSED, C: LATER}, tried=[A, B], held=[A])


def test_after_a_half_that_ses_took_the_other_half_is_halved() -> None:
    said = {C: LOOKED_FOR, D: LOOKED_FOR}

    assert {D: LOOKED_FOR} == next_one({A: "", B: "", **said}, tried=[A, B], held=[A, B])


def test_a_half_that_is_not_seen_yet_is_tried_again() -> None:
    said = {A: UNSEEN, B: UNSEEN, C: LOOKED_FOR, D: LOOKED_FOR}

    assert {C: LOOKED_FOR, D: LOOKED_FOR} == next_one(said, tried=[A, B])
    assert {C: LOOKED_FOR, D: LOOKED_FOR} == next_one(said, tried=[A, B], held=[A])


def test_nobody_waits_for_a_search_that_has_ended() -> None:
    assert {} == next_one({A: LATER, B: LATER})
    assert {A: blamed(A)} == next_one({A: blamed(A), B: LATER, C: LATER})
    assert {} == next_one({A: LOOKED_FOR, B: LATER}, tried=[A], held=[A])


def test_who_was_blamed_before_is_no_suspect_again() -> None:
    """Also where one grant says both: what is known of one of its principals, and that another is looked for."""
    both = f"{blamed(A)} {REFUSED}"

    assert {A: blamed(A), C: LOOKED_FOR} == next_one({A: both, B: REFUSED, C: REFUSED}, tried=[A, B, C])
    assert {A: blamed(A), B: blamed(B)} == next_one({A: both, B: REFUSED}, tried=[A, B])
    assert {A: blamed(A), C: LOOKED_FOR} == next_one({A: f"{blamed(A)} {LOOKED_FOR}", B: LOOKED_FOR, C: LOOKED_FOR})


def test_a_user_whose_account_is_denied_does_not_wait() -> None:
    said = {DELEGATE: REFUSED, STRANGER: REFUSED, USER: REFUSED}

    assert {STRANGER: LOOKED_FOR} == next_one(said, tried=[DELEGATE, STRANGER])


def test_what_is_known_of_a_grant_stays_before_what_ses_says_now() -> None:
    known = Protection(ProtectedBy.reads, f"{UNSEEN} {blamed(A)}")

    assert Protection(ProtectedBy.reads, f"{blamed(A)} {REFUSED}") == with_refusal(known, UNNAMED)
    assert [True, True, True, False] == [narrows(each) for each in (REFUSED, LOOKED_FOR, LATER, blamed(A))]
    assert narrows(f"{blamed(A)} {LATER}")


@pytest.mark.parametrize(
    "words",
    [
        f"Invalid principal in policy: {USER}",
        f"Invalid principal in policy: {USER}.",
        f'InvalidPolicy: invalid principal "AWS":"{USER}"',
        f"The principal [{USER}] is invalid",
    ],
)
def test_a_principal_is_read_from_the_words_of_ses(words: str) -> None:
    """A user's ARN holds its account's id, which is not meant by it."""
    taken = [TakenBack(GRANT, (USER,)), TakenBack(OTHER, (DELEGATE, ROLE))]
    reasons = {GRANT: refused(words), OTHER: refused(words)}

    found = left_out(taken, reasons=reasons, tried={}, observed={}, identity_arn=IDENTITY)

    assert {USER: f"SES refuses a Deny of {USER}: {words}"} == found


def test_marks_around_a_principal_are_taken_off_and_letters_are_not() -> None:
    user = f"arn:aws:iam::{DELEGATE}:user/X"

    assert [user] == list(next_one({user: refused(f"Invalid principal in policy: ,{user}.")}))


def test_an_account_is_meant_by_either_spelling() -> None:
    words = f"Invalid principal in policy: arn:aws:iam::{DELEGATE}:root"

    found = left_out(
        [TakenBack(GRANT, (DELEGATE,))], reasons={GRANT: refused(words)}, tried={}, observed={}, identity_arn=IDENTITY
    )

    assert [DELEGATE] == list(found)


@pytest.mark.parametrize(
    "reason",
    [
        None,
        UNSEEN,
        refused("User is not authorized to perform: ses:CreateEmailIdentityPolicy"),
        refused(f"Number of policies for {DELEGATE} exceeds max allowed 20."),
        f"Another grant lets {DELEGATE} send.",
    ],
)
def test_what_is_not_about_a_principal_leaves_nobody_out(reason: str | None) -> None:
    taken = [TakenBack(GRANT, (DELEGATE,)), TakenBack(OTHER, (STRANGER,))]

    assert {} == left_out(taken, reasons={GRANT: reason}, tried={}, observed={}, identity_arn=IDENTITY)
    assert not narrows(reason)


def test_a_refusal_of_another_kind_does_not_hide_why_a_grant_is_not_denied() -> None:
    lives = Protection(ProtectedBy.reads, f"Another grant lets {DELEGATE} send.")

    assert lives == with_refusal(lives, "Rate exceeded")
    assert refused("Rate exceeded") == with_refusal(Protection(ProtectedBy.deny), "Rate exceeded").reason
    assert refused(UNNAMED) == with_refusal(lives, UNNAMED).reason


def test_all_that_is_known_of_a_grants_principals_is_said() -> None:
    taken = [TakenBack(GRANT, (STRANGER, USER))]
    out = {STRANGER: "SES refuses a Deny of x: principal", USER: "SES refuses a Deny of y: principal"}

    found = decide(taken, living=(), observed={}, identity_arn=IDENTITY, now=NOW, refused=out)

    assert (None, f"{out[STRANGER]} {out[USER]}") == (found.document, found.protections[GRANT].reason)

"""The breaker as a rule: what rates are taken of, when it warns, when it suspends, and that nobody can loosen it."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.feedback.breaker import Counts, State, Window, judge, mail_of, sends_of
from broker.policies.terms import Limits

DEFAULT = Limits()
SEVERITY = [State.UNMEASURED, State.OK, State.WARNED, State.TRIPPED]


def state(vouched: Counts, told: Counts = Counts(), *, before: State = State.OK, **limits: Any) -> State:  # noqa: B008
    """What the breaker says; Counts are frozen."""
    return judge(Window(vouched, told), Limits(**limits), before=before).state


def severity(window: Window, limits: Limits) -> int:
    return SEVERITY.index(judge(window, limits).state)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (Counts(sent=1000, bounced=19), State.OK),
        (Counts(sent=1000, bounced=20), State.WARNED),
        (Counts(sent=1000, bounced=49), State.WARNED),
        (Counts(sent=1000, bounced=50), State.TRIPPED),
        (Counts(sent=500, bounced=25), State.TRIPPED),
        (Counts(sent=499, bounced=499), State.OK),
        (Counts(delivered=475, bounced=25), State.TRIPPED),
        (Counts(delivered=474, bounced=25), State.OK),  # 499 in all
        (Counts(delivered=980, bounced=20), State.WARNED),
        (Counts(sent=6000, complained=2), State.OK),
        (Counts(sent=6000, complained=3), State.WARNED),
        (Counts(sent=3000, complained=3), State.TRIPPED),
        (Counts(sent=500, complained=2), State.OK),  # 0.4 %, of two that complained
        (Counts(bounced=5000), State.UNMEASURED),
        (Counts(complained=50), State.UNMEASURED),
        (Counts(), State.UNMEASURED),
    ],
)
def test_the_defaults(counts: Counts, expected: State) -> None:
    """Two and five per cent of bounces, a half and one per mille of complaints, from 500 sends on."""
    assert expected is state(counts)


@pytest.mark.parametrize(
    ("counts", "limits", "expected"),
    [
        (Counts(sent=1000, bounced=100), {"bounce_rate": 0.2}, State.WARNED),
        (Counts(sent=1000, bounced=79), {"bounce_rate": 0.2}, State.OK),
        (Counts(sent=1000, bounced=10), {"bounce_rate": 0.01}, State.TRIPPED),
        (Counts(sent=1000, bounced=4), {"bounce_rate": 0.01}, State.WARNED),
        (Counts(sent=1000, complained=5), {"complaint_rate": 0.005}, State.TRIPPED),
        (Counts(sent=1000, complained=3), {"complaint_rate": 0.005}, State.WARNED),
        (Counts(sent=800), {"sends_per_day": 1000}, State.WARNED),
        (Counts(sent=1000), {"sends_per_day": 1000}, State.TRIPPED),
        (Counts(delivered=990, bounced=10), {"sends_per_day": 1000}, State.TRIPPED),
        (Counts(sent=10, bounced=1), {"minimum_sends": 10}, State.TRIPPED),
        (Counts(sent=9, bounced=9), {"minimum_sends": 10}, State.OK),
    ],
)
def test_the_terms_say_otherwise(counts: Counts, limits: dict[str, Any], expected: State) -> None:
    """What suspends is theirs; what warns is always the same share of it."""
    assert expected is state(counts, **limits)


def test_a_breaker_that_tripped_stays_so() -> None:
    assert State.TRIPPED is state(Counts(sent=1000), before=State.TRIPPED)


@pytest.mark.parametrize(("bounced", "expected"), [(20, State.WARNED), (16, State.WARNED), (15, State.OK)])
def test_a_warning_lasts_until_the_figure_is_well_below(bounced: int, expected: State) -> None:
    """Else a figure that moves around the limit would warn again and again."""
    assert expected is state(Counts(sent=1000, bounced=bounced), before=State.WARNED)
    assert (State.WARNED if bounced >= 20 else State.OK) is state(Counts(sent=1000, bounced=bounced))


def test_the_reason_names_the_figures_that_are_over() -> None:
    verdict = judge(Window(Counts(sent=1000, bounced=50, complained=0)), DEFAULT)

    (why,) = verdict.why
    assert ("bounces", 50, 1000, 0.05, 0.02, 0.05) == (
        why.name, why.count, why.of, why.rate, why.warn_at, why.suspend_at
    )  # fmt: skip


def test_sends_that_only_a_tenants_own_topic_tells_of_never_dilute() -> None:
    """A delegate could publish a million of them."""
    forged = Counts(sent=1_000_000, delivered=1_000_000)

    assert (1000, 950) == mail_of(Window(Counts(delivered=950, bounced=50), forged))
    assert State.TRIPPED is state(Counts(delivered=950, bounced=50), forged)


def test_bounces_that_only_a_tenants_own_topic_tells_of_count() -> None:
    """Its topic may have been the faster one; of two that say the same, the first is stored."""
    assert State.TRIPPED is state(Counts(delivered=950), Counts(sent=1_000_000, bounced=50))


def test_where_nothing_else_is_known_a_tenants_own_topic_is_measured() -> None:
    """Else a route of the delegate's own would be a way around the breaker."""
    assert State.TRIPPED is state(Counts(), Counts(sent=1000, bounced=50))
    assert State.OK is state(Counts(), Counts(sent=1000, bounced=10))


number = st.integers(min_value=0, max_value=3000)
counts = st.builds(Counts, sent=number, delivered=number, bounced=number, complained=number)
limits = st.builds(
    Limits,
    bounce_rate=st.none() | st.floats(min_value=0.001, max_value=1),
    complaint_rate=st.none() | st.floats(min_value=0.001, max_value=1),
    sends_per_day=st.none() | st.integers(min_value=1, max_value=5000),
    minimum_sends=st.none() | st.integers(min_value=1, max_value=1000),
)


@given(vouched=counts, told=counts, terms=limits)
def test_nothing_that_a_tenants_own_topic_says_makes_it_milder(vouched: Counts, told: Counts, terms: Limits) -> None:
    assert severity(Window(vouched), terms) <= severity(Window(vouched, told), terms)


@given(
    vouched=counts,
    told=counts,
    terms=limits,
    more=number,
    by_tenant=st.booleans(),
    what=st.sampled_from(["bounced", "complained"]),
)
def test_more_bounces_or_complaints_never_make_it_milder(
    *, vouched: Counts, told: Counts, terms: Limits, more: int, by_tenant: bool, what: str
) -> None:
    """Also not by making complaints rarer among all mail."""
    changed = msgspec.structs.replace(
        told if by_tenant else vouched, **{what: getattr(told if by_tenant else vouched, what) + more}
    )
    after = Window(vouched, changed) if by_tenant else Window(changed, told)

    assert severity(Window(vouched, told), terms) <= severity(after, terms)


@given(vouched=counts, told=counts, terms=limits)
def test_there_are_never_more_bounces_than_sends_without_word_of_sends(
    vouched: Counts, told: Counts, terms: Limits
) -> None:
    """Rates of delivered mail are fractions."""
    window = Window(msgspec.structs.replace(vouched, sent=0), msgspec.structs.replace(told, sent=0))
    figures = {each.name: each for each in judge(window, terms).figures}

    assert "bounces" not in figures or 0 <= figures["bounces"].rate <= 1
    assert sends_of(window) >= window.vouched.bounced + window.told.bounced

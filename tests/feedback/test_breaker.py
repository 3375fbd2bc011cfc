"""The breaker as a rule: what rates are taken of, when it warns, when it suspends, and that nobody can loosen it."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.feedback.breaker import (
    NO_MAIL,
    NOTHING_TO_MEASURE_BY,
    Counts,
    Deliveries,
    State,
    Window,
    judge,
    sends_of,
    why_unmeasured,
)
from broker.policies.terms import Limits

DEFAULT = Limits()
SEVERITY = [State.UNMEASURED, State.OK, State.WARNED, State.TRIPPED]


def state(vouched: Counts, heard: Counts = Counts(), *, before: State = State.OK, **limits: Any) -> State:  # noqa: B008
    """What the breaker says; Counts are frozen."""
    return judge(Window(vouched, heard), Limits(**limits), before=before).state


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
        (Counts(bounced=5000), State.TRIPPED),  # nothing else was told of
        (Counts(bounced=500), State.TRIPPED),
        (Counts(bounced=499), State.OK),
        (Counts(bounced=499, complained=50), State.OK),
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

    verdict = judge(Window(Counts(delivered=950, bounced=50), forged), DEFAULT)
    assert (State.TRIPPED, [("bounces", 50, 1000)]) == (
        verdict.state, [(each.name, each.count, each.of) for each in verdict.why]
    )  # fmt: skip


def test_what_is_told_by_both_is_measured_once() -> None:
    """Two routes that tell of the same mail: the rate is the true one."""
    everything = Counts(delivered=970, bounced=30)

    (bounces,) = [each for each in judge(Window(everything, everything), DEFAULT).figures if each.name == "bounces"]
    assert (30, 1000, 0.03) == (bounces.count, bounces.of, bounces.rate)


def test_a_topic_of_the_brokers_that_tells_of_a_part_does_not_distort_the_whole() -> None:
    """It was set up an hour ago, or broke then: 24 hours of bounces are not set against one hour of mail."""
    assert State.WARNED is state(Counts(delivered=582, bounced=18), Counts(delivered=19_400, bounced=600))
    assert State.WARNED is state(Counts(), Counts(delivered=19_400, bounced=600))


def test_sends_that_are_told_of_a_part_of_the_mail_do_not_distort_the_whole() -> None:
    """Half of the mail names the configuration set that tells of sends; the identity's topics tell of all of it."""
    assert State.WARNED is state(Counts(delivered=970, bounced=30), Counts(sent=500, delivered=970, bounced=30))


def test_bounces_that_the_brokers_topic_tells_of_are_heard_where_it_tells_of_no_mail() -> None:
    """Deliveries come by a tenant's topic only, which called those bounces soft."""
    assert State.TRIPPED is state(Counts(bounced=50), Counts(delivered=950))


def test_bounces_are_not_taken_of_themselves_where_the_mail_is_told_of_but_not_heard() -> None:
    """The terms leave deliveries out of what the parties hear."""
    assert State.OK is state(Counts(delivered=100_000, bounced=600), Counts(bounced=600))
    assert State.TRIPPED is state(Counts(), Counts(bounced=600))


def test_what_only_a_tenants_own_topic_tells_of_makes_it_stricter() -> None:
    assert State.OK is state(Counts(delivered=990, bounced=10))
    assert State.TRIPPED is state(Counts(delivered=990, bounced=10), Counts(delivered=990, bounced=110))


def test_where_nothing_else_is_known_a_tenants_own_topic_is_measured() -> None:
    """Else a route of the delegate's own would be a way around the breaker."""
    assert State.TRIPPED is state(Counts(), Counts(sent=1000, bounced=50))
    assert State.OK is state(Counts(), Counts(sent=1000, bounced=10))


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (Window(Counts(bounced=600), deliveries=Deliveries.UNHEARD), State.UNMEASURED),
        (Window(Counts(bounced=600), Counts(bounced=600), Deliveries.UNHEARD), State.UNMEASURED),
        (Window(Counts(bounced=600), Counts(bounced=600), Deliveries.OWNERS), State.TRIPPED),
        (Window(Counts(bounced=600), Counts(bounced=600, delivered=100_000), Deliveries.OWNERS), State.OK),
        (Window(Counts(bounced=600), Counts(bounced=600, delivered=5_400), Deliveries.OWNERS), State.TRIPPED),
        (Window(Counts(bounced=600), Counts(bounced=600, sent=100_000), Deliveries.UNHEARD), State.OK),
        (Window(Counts(bounced=600, delivered=5_400), Counts(), Deliveries.UNHEARD), State.TRIPPED),
        (Window(Counts(bounced=600), Counts(sent=10), Deliveries.BROKERS), State.TRIPPED),
    ],
)
def test_bounces_are_only_taken_of_mail_that_somebody_could_have_told_of(window: Window, expected: State) -> None:
    """The delivery setting may hold a topic that the broker cannot hear, or one of the owner's that it hears."""
    assert expected is judge(window, DEFAULT).state


def test_why_nothing_is_measured_is_said() -> None:
    unheard = Window(Counts(bounced=3), deliveries=Deliveries.UNHEARD)

    assert NOTHING_TO_MEASURE_BY == why_unmeasured(unheard)
    assert NO_MAIL == why_unmeasured(Window())
    assert why_unmeasured(Window(deliveries=Deliveries.UNHEARD)).startswith(NO_MAIL + " The identity's delivery")


number = st.integers(min_value=0, max_value=3000)
deliveries = st.sampled_from(Deliveries)
counts = st.builds(Counts, sent=number, delivered=number, bounced=number, complained=number)
limits = st.builds(
    Limits,
    bounce_rate=st.none() | st.floats(min_value=0.001, max_value=1),
    complaint_rate=st.none() | st.floats(min_value=0.001, max_value=1),
    sends_per_day=st.none() | st.integers(min_value=1, max_value=5000),
    minimum_sends=st.none() | st.integers(min_value=1, max_value=1000),
)


@given(vouched=counts, heard=counts, terms=limits, told=st.sampled_from([Deliveries.BROKERS, Deliveries.UNHEARD]))
def test_nothing_that_a_tenants_own_topic_says_makes_it_milder(
    vouched: Counts, heard: Counts, terms: Limits, told: Deliveries
) -> None:
    """Where the deliveries are the owner's own topic's to tell, it is also the owner's to tell them."""
    before, after = Window(vouched, deliveries=told), Window(vouched, heard, told)

    assert severity(before, terms) <= severity(after, terms)


@given(
    vouched=counts,
    heard=counts,
    terms=limits,
    more=number,
    by_tenant=st.booleans(),
    told=deliveries,
    what=st.sampled_from(["bounced", "complained"]),
)
def test_more_bounces_or_complaints_never_make_it_milder(
    *, vouched: Counts, heard: Counts, terms: Limits, more: int, by_tenant: bool, what: str, told: Deliveries
) -> None:
    """Also not by making complaints rarer among all mail."""
    changed = msgspec.structs.replace(
        heard if by_tenant else vouched, **{what: getattr(heard if by_tenant else vouched, what) + more}
    )
    after = Window(vouched, changed, told) if by_tenant else Window(changed, heard, told)

    assert severity(Window(vouched, heard, told), terms) <= severity(after, terms)


@given(vouched=counts, heard=counts, terms=limits)
def test_there_are_never_more_bounces_than_sends_without_word_of_sends(
    vouched: Counts, heard: Counts, terms: Limits
) -> None:
    """Rates of delivered mail are fractions."""
    window = Window(msgspec.structs.replace(vouched, sent=0), msgspec.structs.replace(heard, sent=0))
    figures = {each.name: each for each in judge(window, terms).figures}

    assert "bounces" not in figures or 0 <= figures["bounces"].rate <= 1
    assert sends_of(window) >= max(window.vouched.bounced, window.heard.bounced)

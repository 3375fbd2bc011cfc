"""What the benchmarks of fairness, revocation and the naive system read from a run; how fast it is, no test asserts.

The last three run each benchmark once, as small as it can be.
"""

import json
import subprocess
import sys
from array import array
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType

import msgspec
import pytest

from bench import own_time
from bench.fair import against
from bench.fair_layout import Ear, Heard, flood, halves, heard
from bench.fair_run import Phase
from bench.flow import Flow, passed, per_thousand
from bench.generator import Sent, Summary
from bench.machine import Machine
from bench.match import Percentiles
from bench.naive_app import wants
from bench.naive_models import EndpointRow
from bench.revoke_path import DENY, REMOVAL, Call, Way, in_sequence, over_aws_ms, way_of
from bench.revoke_run import flow_of
from bench.sink import Receipts
from broker.feedback.events import NewEvent
from broker.feedback.keys import Key
from broker.feedback.told import Bounced
from broker.ids import new_id
from tests.deploy.test_bench import KEYS, LATENCIES

AT = datetime(2026, 1, 5, 12, tzinfo=UTC)
OWNER, OTHER = "111111111111", "333333333333"
READ = "GetEmailIdentityPolicies"


def call(operation: str, begin: float, end: float, *, account: str = OWNER, about: str = "", status: int = 200) -> Call:
    """A line of the local AWS's log, in milliseconds after the commit."""
    at, ended_at = (AT + timedelta(milliseconds=ms) for ms in (begin, end))
    return Call(at, ended_at, account, operation, about, status)


def sent(*due: float) -> Sent:
    """Messages that were due at these seconds."""
    return Sent(array("d", due), array("d", due), array("q", [1] * len(due)))


def receipts(*rows: tuple[int, float]) -> Receipts:
    """Arrivals: the number of the message and the second."""
    return Receipts(
        array("q", [number for number, _ in rows]), array("q", [0] * len(rows)), array("d", [at for _, at in rows])
    )


def phase(p99: float, *, missing: int = 0) -> Phase:
    """A measured load with this tail."""
    return Phase(
        heard=Heard(ms=Percentiles(1.0, 2.0, p99), events=10, missing=missing, again=0),
        flow=Flow(
            events_per_s=20.0,
            deliveries_per_s=10.0,
            ack_ms=Percentiles(1.0, 2.0, 3.0),
            receive_ms=Percentiles(1.0, 2.0, p99),
            sql_round_trips_per_1000=None,
        ),
        worker_mb=100.0,
        calibration_us=3.0,
        machine=Machine(cores=2, processor="", python="", postgres=""),
    )


def way(denied: int, gone: int, *, calls: int) -> Way:
    """A way that was denied and gone so many milliseconds after its commit."""
    return Way(AT, AT + timedelta(milliseconds=denied), AT + timedelta(milliseconds=gone), calls=calls)


def test_a_revoke_lasts_from_its_commit_to_its_deny_and_to_the_last_removal() -> None:
    log = [call(READ, 5, 35), call(DENY, 40, 65), call(REMOVAL, 40, 70), call(READ, 75, 105)]

    found = way_of(OWNER, AT, log)

    assert way(65, 70, calls=2) == found
    assert found is not None
    assert (65.0, 70.0) == (found.deny_ms, found.ms)


def test_a_revoke_whose_policy_is_still_there_has_no_way_yet() -> None:
    assert way_of(OWNER, AT, [call(READ, 5, 35), call(REMOVAL, 40, 70, status=429)]) is None
    assert way_of(OWNER, AT, [call(DENY, 40, 70), call(REMOVAL, 40, 70, account=OTHER)]) is None


def test_a_revoke_without_a_deny_has_no_way_yet() -> None:
    assert way_of(OWNER, AT, [call(REMOVAL, 40, 70), call(DENY, 40, 70, status=429)]) is None


def test_what_happened_before_the_commit_is_not_on_the_way() -> None:
    log = [call(DENY, -60, -30), call(REMOVAL, -60, -30), call(DENY, 40, 68), call(REMOVAL, 40, 70)]

    assert way(68, 70, calls=1) == way_of(OWNER, AT, log)


def test_sessions_opened_for_the_owners_role_are_on_the_way() -> None:
    role, stranger = (f"arn:aws:iam::{account}:role/SesDelegationBroker" for account in (OWNER, OTHER))
    log = [
        call("AssumeRole", 1, 31, account="999999999999", about=role),
        call("AssumeRole", 32, 34, account="999999999999", about=stranger),
        call(DENY, 40, 70),
        call(REMOVAL, 40, 70),
    ]

    found = way_of(OWNER, AT, log)

    assert found is not None
    assert 2 == found.calls


def test_calls_side_by_side_are_waited_for_once() -> None:
    assert 2 == in_sequence([call(READ, 0, 30), call(REMOVAL, 10, 40), call(READ, 40, 70)])


def test_a_refused_call_is_on_the_way_and_is_told() -> None:
    log = [call(READ, 0, 30, status=429), call(READ, 200, 230), call(REMOVAL, 240, 270), call(DENY, 240, 270)]

    found = way_of(OWNER, AT, log)

    assert found is not None
    assert (3, 1) == (found.calls, found.refused)


def test_over_aws_is_what_the_calls_themselves_did_not_take() -> None:
    assert [15.0] == over_aws_ms([way(75, 90, calls=2)], call_ms=30)


def test_of_every_tenant_half_of_the_endpoints_may_turn_bad() -> None:
    layout = halves(100)

    assert {(tenant, bad): 10 for tenant in range(5) for bad in (True, False)} == Counter(
        (ear.tenant, ear.bad) for ear in layout
    )
    assert list(range(100)) == [group for ear in layout for group in ear.groups]


def test_the_tenant_that_floods_has_a_hundred_times_as_much_as_each_other() -> None:
    layout = flood(others=5, times=100)

    assert [1, 1, 1, 1, 1, 100] == [
        sum(len(ear.groups) for ear in layout if ear.tenant == tenant) for tenant in range(6)
    ]
    assert 20 == sum(ear.tenant == 5 for ear in layout)
    assert list(range(105)) == sorted(group for ear in layout for group in ear.groups)


def test_delays_are_those_of_the_endpoints_that_count() -> None:
    layout = [Ear(0, (0,)), Ear(0, (1,), bad=True)]

    found = heard(layout, {0}, sent(10, 10, 11), receipts((0, 10.02), (1, 19), (2, 11.03)), groups=2, warm_s=0)

    assert Heard(ms=Percentiles(20.0, 30.0, 30.0), events=2, missing=0, again=0) == found


def test_what_never_came_is_missing_and_what_came_twice_is_counted() -> None:
    layout = [Ear(0, (0,))]

    found = heard(layout, {0}, sent(10, 11), receipts((0, 10.01), (0, 10.5)), groups=1, warm_s=0)

    assert (2, 1, 1, 10.0) == (found.events, found.missing, found.again, found.ms.p99)


def test_events_of_the_warm_up_do_not_count() -> None:
    found = heard([Ear(0, (0,))], {0}, sent(10, 13), receipts((0, 19), (1, 13.01)), groups=1, warm_s=2)

    assert (1, 10.0) == (found.events, found.ms.p99)


def test_trouble_is_told_as_a_ratio_of_the_tails() -> None:
    found = against(phase(75, missing=3), phase(50))

    assert (1.5, 3, 75, 50) == (found.ratio_p99, found.lost, found.healthy_ms.p99, found.baseline_ms.p99)
    assert (20, 10, 75) == (found.events_per_s, found.deliveries_per_s, found.receive_ms and found.receive_ms.p99)


def test_rates_are_of_what_was_acknowledged_after_the_warm_up_and_of_all_that_came() -> None:
    summary = Summary(first=0, started=10.0, ended=14.0, cpu_s=0.0, refused={})
    messages = Sent(array("d", [10, 12, 13, 13]), array("d", [10.5, 12.1, 13.3, 0]), array("q", [1] * 4))

    found = passed(summary, messages, receipts((0, 11), (1, 12.5), (1, 13.5), (2, 15), (77, 20)), warm_up_s=2)

    assert (1.0, 100.0, 300.0) == (found.events_per_s, found.ack_ms.p50, found.ack_ms.p99)
    assert (3, 0.6) == (found.deliveries, found.deliveries_per_s)


def test_round_trips_that_nobody_told_are_not_made_up() -> None:
    assert [20.0, None, None] == [per_thousand(10, 500), per_thousand(None, 500), per_thousand(10, 0)]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, True),
        ({"event_types": ["email.bounced"]}, True),
        ({"event_types": ["email.*"]}, True),
        ({"event_types": ["email.opened"]}, False),
        ({"identity_arns": ["arn:1"]}, True),
        ({"identity_arns": ["arn:2"]}, False),
        ({"grant_ids": []}, False),
    ],
)
def test_the_naive_system_obeys_the_filters_of_an_endpoint(filters: dict[str, list[str]], *, expected: bool) -> None:
    assert expected is wants(EndpointRow(**filters), bounce())


def bounce() -> NewEvent:
    """A bounce of identity arn:1."""
    return NewEvent(
        id=new_id(),
        key=Key(AT.date(), b""),
        at=AT,
        type="email.bounced",
        owner_id=new_id(),
        delegate_id=new_id(),
        grant_id=new_id(),
        source="broker_topic",
        owner_view="full",
        delegate_view="full",
        recipient_hash=None,
        data=Bounced(
            event_id=new_id(),
            grant_id=None,
            source="broker_topic",
            recipient_hash=None,
            identity="arn:1",
            message_id="m",
            sending_account=None,
            sent_at=AT,
            occurred_at=AT,
            kind="bounce",
            recipients=1,
            tags={},
        ),
        payload=None,
    )


def test_own_time_is_told_by_share_over_all_processes_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "worker-1.json").write_text(json.dumps({"a.py:f": 6, "b.py:g": 1}))
    (tmp_path / "worker-2.json").write_text(json.dumps({"b.py:g": 1}))
    (tmp_path / "api-3.json").write_text(json.dumps({"c.py:h": 9}))

    assert [("a.py:f", 75.0), ("b.py:g", 25.0)] == own_time.load(tmp_path, "worker")
    assert [] == own_time.load(tmp_path, "nobody")


def test_a_function_is_named_by_its_module_and_name() -> None:
    frame: FrameType = sys._getframe()  # noqa: SLF001 — what a signal handler is given

    assert "deploy/test_bench_more.py:test_a_function_is_named_by_its_module_and_name" == own_time.name_of(frame)


def run(out: Path, name: str, *words: str) -> dict[str, object]:
    """The object that a benchmark prints; it must have ended well, and have written the same where it says."""
    done = subprocess.run(  # noqa: S603 — our own words
        [sys.executable, "-m", "broker.cli", "bench", name, *words, "--json", "--out", str(out)],
        capture_output=True,
        check=False,
        text=True,
        timeout=280,
    )

    assert 0 == done.returncode, done.stderr
    found: dict[str, object] = msgspec.json.decode(done.stdout)
    assert found == json.loads((out / f"{name}.json").read_text())
    assert f"written: {out / name}.json" in done.stderr
    check_keys(found)
    return found


def check_keys(found: Mapping[str, object]) -> None:
    """The keys of every benchmark; latencies with their three percentiles, or null where nothing was measured."""
    assert set(found) >= KEYS
    for name in LATENCIES:
        assert found[name] is None or {"p50", "p95", "p99"} == set(msgspec.convert(found[name], dict[str, float]))


def test_the_naive_system_delivers_all_that_it_took(tmp_path: Path) -> None:
    found = run(tmp_path, "naive", "--seconds", "1", "--closed", "2", "--naive-workers", "1", "--alone", "--profile")

    assert (0, 0, 0, 0) == tuple(found[name] for name in ("lost", "duplicated", "misdelivered", "left_pending"))
    assert found["acknowledged"] == found["deliveries"] == found["attempts"] != 0
    assert {"api", "worker"} == set(msgspec.convert(found["profile"], dict[str, own_time.Own]))
    assert (tmp_path / "naive.svg").is_file()


def test_growth_is_measured_and_judged(tmp_path: Path) -> None:
    found = run(tmp_path, "growth", "--seconds", "1", "--rate", "20", "--events", "500", "--pending", "100")

    assert (0, 0) == (found["lost"], found["duplicated"])
    assert found["within_1_2"] in {True, False}
    assert {"events", "deliveries"} <= set(msgspec.convert(found["growth"], dict[str, float]))
    assert (tmp_path / "growth.svg").is_file()


def test_healthy_endpoints_get_everything_while_the_others_fail_and_one_tenant_floods(tmp_path: Path) -> None:
    words = ("--seconds", "1", "--rate", "20", "--endpoints", "4", "--kind", "500", "--flood-rate", "0.5")
    found = run(tmp_path, "fair", *words)

    kinds = msgspec.convert(found["kinds"], dict[str, dict[str, object]])
    flooded = msgspec.convert(found["flood"], dict[str, object])
    assert (0, 0) == (found["lost"], found["duplicated"])
    assert ["500"] == list(kinds)
    assert {"healthy_ms", "baseline_ms", "ratio_p99"} <= set(found)
    for each in (found, kinds["500"], flooded):
        check_keys({"machine": None, **each})
        assert None not in {each[name] for name in ("events_per_s", "deliveries_per_s", "sql_round_trips_per_1000")}
    assert "nobody is bad" in (tmp_path / "fair.svg").read_text()


def test_revokes_leave_no_policy_in_ses(tmp_path: Path) -> None:
    found = run(tmp_path, "revoke", "--revokes", "2", "--load", "20")

    idle = msgspec.convert(found["idle"], dict[str, object])
    loaded = msgspec.convert(found["loaded"], dict[str, object])
    assert (0, 2, 2) == (found["left"], idle["revokes"], loaded["revokes"])
    assert {"deny_present_ms", "revoke_ms", "aws_calls_ms", "over_aws_ms"} <= set(idle)
    assert (0, 0, None) == (found["lost"], found["duplicated"], found["sql_round_trips_per_1000"])
    assert None not in {found["events_per_s"], found["deliveries_per_s"]}
    assert found["ack_ms"] is not None
    assert found["receive_ms"] is not None


def test_revokes_without_a_load_tell_nothing_of_one() -> None:
    assert {None} == set(msgspec.structs.asdict(flow_of(None)).values())

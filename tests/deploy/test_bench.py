"""The benchmark counts rightly; how fast anything is, no test asserts."""

import json
import os
import subprocess
import sys
from array import array
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from bench import asking, faults, machine, match, messages, payloads, plot, report, sink
from bench.deliver import grown, standard, stays_within
from bench.generator import Sent, Summary
from bench.run import Result, Scenario
from bench.world import plan_world
from broker.cli import main
from broker.feedback.envelope import Envelope, signed_text
from broker.feedback.payloads import Feedback, parse
from broker.local.options import data_directory

AT = datetime(2026, 1, 5, 12, tzinfo=UTC)
LATENCIES = {"ack_ms", "receive_ms"}
KEYS = {
    "events_per_s",
    "deliveries_per_s",
    *LATENCIES,
    "sql_round_trips_per_1000",
    "lost",
    "duplicated",
    "calibration_us",
    "machine",
}
"""Those of every benchmark."""


def summary(*, started: float = 100.0, ended: float = 110.0, first: int = 0) -> Summary:
    return Summary(first=first, started=started, ended=ended, cpu_s=0.0, refused={})


def sent(*rows: tuple[float, float]) -> Sent:
    """Messages by (due, acknowledged); each was sent once."""
    return Sent(array("d", [due for due, _ in rows]), array("d", [at for _, at in rows]), array("q", [1] * len(rows)))


def received(*rows: tuple[int, int, float]) -> sink.Receipts:
    """Arrivals by (message, endpoint, time)."""
    columns = list(zip(*rows, strict=True)) if rows else [(), (), ()]
    return sink.Receipts(array("q", columns[0]), array("q", columns[1]), array("d", columns[2]))


def result(**changes: object) -> Result:
    """Some figures."""
    figures: dict[str, object] = {
        "scenario": "closed 1, fan-out 1, 1 endpoint",
        "mode": "closed",
        "rate": None,
        "machine": {"cores": 2, "processor": "some", "python": "3", "postgres": "18"},
        "ack_ms": {"p50": 1.0, "p95": 2.0, "p99": 3.0},
        "receive_ms": {"p50": 4.0, "p95": 5.0, "p99": 6.0},
        "faults": {},
        "refused": {},
        "sql_round_trips_per_1000": None,
        "cpu_us_per_event": {"postgres": 50.0},
    }
    numbers = {field.name: 1 for field in msgspec.structs.fields(Result) if field.name not in figures}
    return msgspec.convert(figures | numbers | changes, Result)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 50.0), (0.501, 51.0), (0.95, 95.0), (0.99, 99.0), (1.0, 100.0)]
)
def test_a_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    values = [float(value) for value in range(1, 101)]

    assert expected == match.percentile(values, share)


def test_of_nothing_a_percentile_is_zero() -> None:
    assert match.Percentiles(0.0, 0.0, 0.0) == match.percentiles([])


def test_of_one_value_every_percentile_is_that_in_milliseconds() -> None:
    assert match.Percentiles(12.3, 12.3, 12.3) == match.percentiles([0.0123])


def test_what_arrives_once_everywhere_is_neither_lost_nor_duplicated() -> None:
    messages_sent = sent((100.0, 100.1), (101.0, 101.2))
    arrivals = received((0, 0, 100.3), (0, 1, 100.4), (1, 2, 101.3), (1, 3, 101.5))

    found = match.account(summary(), messages_sent, arrivals, groups=2, fan_out=2)

    assert (0, 0, 0) == (found.lost, found.duplicated, found.misdelivered)
    assert (2, 4) == (found.acknowledged, found.deliveries)
    assert 0.2 == found.events_per_s
    assert 2.7 == found.deliveries_per_s  # four in the second and a half until the last arrival


def test_what_was_acknowledged_and_does_not_arrive_everywhere_is_lost() -> None:
    found = match.account(summary(), sent((100.0, 100.1)), received((0, 1, 100.3)), groups=1, fan_out=3)

    assert 2 == found.lost


def test_what_was_not_acknowledged_cannot_be_lost() -> None:
    found = match.account(summary(), sent((100.0, 0.0)), received(), groups=1, fan_out=1)

    assert (0, 1) == (found.lost, found.unacknowledged)


def test_what_arrives_again_is_duplicated_and_counts_once() -> None:
    arrivals = received((0, 0, 100.2), (0, 0, 100.9), (0, 0, 101.0))

    found = match.account(summary(), sent((100.0, 100.1)), arrivals, groups=1, fan_out=1)

    assert (2, 1, 0) == (found.duplicated, found.deliveries, found.lost)
    assert 200.0 == found.receive_ms.p99


def test_what_arrives_at_somebody_elses_endpoint_is_misdelivered_and_lost() -> None:
    found = match.account(summary(), sent((100.0, 100.1)), received((0, 1, 100.2)), groups=2, fan_out=1)

    assert (1, 1) == (found.misdelivered, found.lost)


def test_an_arrival_of_nothing_that_was_sent_is_misdelivered() -> None:
    arrivals = received((7, 0, 100.2), (sink.UNKNOWN, 0, 100.2))

    found = match.account(summary(), sent((100.0, 100.1)), arrivals, groups=1, fan_out=1)

    assert 2 == found.misdelivered


def test_the_warm_up_counts_for_losses_and_not_for_latencies() -> None:
    arrivals = received((0, 0, 105.0), (1, 0, 102.5))

    found = match.account(summary(), sent((100.0, 104.0), (102.0, 102.1)), arrivals, groups=1, fan_out=1, warm_up_s=1.0)

    assert (0, 2) == (found.lost, found.deliveries)
    assert 500.0 == found.receive_ms.p99
    assert 100.0 == found.ack_ms.p99


def test_receipts_survive_their_file(tmp_path: Path) -> None:
    before = received((1, 2, 3.5), (sink.UNKNOWN, 4, 5.5))

    sink.save(tmp_path / "receipts", before)

    assert before == sink.load(tmp_path / "receipts")


def test_a_message_is_what_sns_would_send_and_its_number_is_found_in_it() -> None:
    """The address of the certificate is filled in later, which the signature survives."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    request = messages.request(0x2A, 5, AT, key).replace(messages.CERTIFICATE_PORT, b"54321")
    envelope = msgspec.json.decode(request.partition(b"\r\n\r\n")[2], type=Envelope)

    parsed = parse(envelope.message)

    assert isinstance(parsed, Feedback)
    assert 1 == len(parsed.occurrences)
    assert f"{payloads.SES_PREFIX.decode()}0000002a" in parsed.mail.message_id
    assert payloads.topic_arn(2) == envelope.topic_arn
    signature = msgspec.convert(envelope.signature, bytes, strict=False)
    key.public_key().verify(signature, signed_text(envelope), padding.PKCS1v15(), hashes.SHA256())


def test_messages_of_a_day_are_signed_once(tmp_path: Path) -> None:
    said: list[str] = []
    stock = messages.Stock(tmp_path, 3)

    stock.ensure(10, said.append)
    first = messages.load(stock.path, 10, api_port=40001, certificate_port=40002)
    messages.Stock(tmp_path, 3).ensure(10, said.append)

    assert 1 == len(said)
    assert first == messages.load(stock.path, 10, api_port=40001, certificate_port=40002)
    assert 10 == len(set(first))
    assert all(b"Host: 127.0.0.1:40001\r\n" in each and b"http://127.0.0.1:40002/" in each for each in first)


def test_what_a_program_tells_last_is_found_in_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text('{"round_trips": 1}\n{"round_trips": 7}\nnot JSON\n{"event": "stopped"}\n[]\n')

    assert 7 == asking.last_logged(log, "round_trips")
    assert asking.last_logged(log, "other") is None


@pytest.mark.parametrize(("fan_out", "endpoints", "groups"), [(1, 1, 1), (3, 3, 1), (10, 1, 1), (1, 40, 40), (2, 9, 4)])
def test_a_world_has_the_groups_that_its_endpoints_need(fan_out: int, endpoints: int, groups: int) -> None:
    world = plan_world(fan_out=fan_out, endpoints=endpoints)

    assert groups == len(world.groups)
    assert groups * fan_out == len(set(world.endpoint_ids)) == len(world.secrets)


def test_of_several_endpoints_some_are_the_owners() -> None:
    group = plan_world(fan_out=3, endpoints=3).groups[0]

    assert [group.delegate, group.delegate, group.owner] == [tenant for tenant, _ in group.endpoints]


def test_the_object_has_the_keys_of_every_benchmark_and_all_scenarios() -> None:
    main_one, other = result(events_per_s=5.0), result(events_per_s=7.0)

    found = report.as_object([main_one, other], main_one)

    assert set(found) >= KEYS | {"cpu_us_per_event"}
    assert 5.0 == found["events_per_s"]
    assert {"p50": 1.0, "p95": 2.0, "p99": 3.0} == found["ack_ms"]
    assert [5.0, 7.0] == [each["events_per_s"] for each in msgspec.convert(found["scenarios"], list[dict[str, object]])]


def test_a_plot_shows_every_scenario() -> None:
    drawn = plot.draw([result(scenario="closed 64, <first>"), result(scenario="open 500/s, second")])

    assert drawn.startswith("<svg")
    assert "closed 64" in drawn
    assert "&lt;first&gt;" in drawn
    assert "second" in drawn


def test_growth_is_a_ratio_above_one_where_a_full_table_is_slower() -> None:
    empty, full = result(events_per_s=120.0), result(events_per_s=100.0)

    assert 1.2 == grown(empty, full)["events"]


@pytest.mark.parametrize(
    ("events", "deliveries", "within"),
    [(100, 100, True), (83.4, 83.4, True), (150, 150, True), (83.3, 100, False), (100, 83.3, False), (0, 0, False)],
)
def test_growth_is_judged_by_events_and_deliveries(events: float, deliveries: float, *, within: bool) -> None:
    """No more than 1.2 times worse, either of them."""
    empty = result(events_per_s=100.0, deliveries_per_s=100.0)

    assert within is stays_within(empty, result(events_per_s=events, deliveries_per_s=deliveries))


def test_without_a_rate_in_empty_tables_growth_is_not_within_anything() -> None:
    nothing = result(events_per_s=0.0, deliveries_per_s=0.0)

    assert not stays_within(nothing, nothing)


def test_figures_are_kept_in_the_data_directory_under_the_time() -> None:
    kept = report.results_directory()

    assert data_directory() / "bench" / "results" == kept.parent
    assert abs(datetime.now(UTC) - datetime.strptime(kept.name + "+0000", "%Y-%m-%dT%H-%M-%SZ%z")) < timedelta(hours=1)


def test_the_standard_set_measures_what_the_bar_is_about() -> None:
    shapes = {(each.rate, each.fan_out, each.endpoints) for each in standard(10, 1)}

    assert {(0.0, 1, 1), (0.0, 3, 3), (0.0, 10, 10), (0.0, 1, 2000)} <= shapes
    assert {(500.0, 1, 1), (2000.0, 1, 1), (5000.0, 1, 1)} <= shapes
    assert len(shapes) == len({each.name for each in standard(10, 1)})


def test_all_faults_are_those_that_there_are() -> None:
    assert faults.NAMES == faults.named(["kill-api", "all"])
    assert ("kill-api",) == faults.named(["kill-api", "kill-api"])


def test_processor_time_is_that_of_a_process_with_its_children() -> None:
    before = machine.cpu_s([os.getpid()])

    subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True, timeout=60)

    assert before < machine.cpu_s([os.getpid()])
    assert 0 == machine.cpu_s([])


def test_a_scenario_asks_for_as_many_messages_as_it_may_need() -> None:
    assert 3301 == Scenario(rate=300, seconds=10, warm_up_s=1).count


@pytest.mark.parametrize(("words", "expected"), [(["--help"], "growth"), (["deliver", "--help"], "--fan-out")])
def test_the_command_has_help(words: list[str], expected: str) -> None:
    done = subprocess.run(  # noqa: S603 — our own words
        [sys.executable, "-m", "broker.cli", "bench", *words], capture_output=True, check=True, text=True, timeout=60
    )

    assert "Usage: broker bench" in done.stdout
    assert expected in done.stdout


def test_the_command_is_listed() -> None:
    listed = CliRunner().invoke(main, ["--help"]).output

    assert "bench" in listed


def test_a_small_run_loses_nothing_and_sends_nothing_twice(tmp_path: Path) -> None:
    """The whole of it for three seconds: the servers, the broker, the generator, the sink and the accounts."""
    words = ["deliver", "--json", "--seconds", "2", "--rate", "20", "--fan-out", "3", "--endpoints", "6"]

    done = subprocess.run(  # noqa: S603 — our own words
        [sys.executable, "-m", "broker.cli", "bench", *words, "--out", str(tmp_path)],
        capture_output=True,
        check=False,
        text=True,
        timeout=280,
    )

    assert 0 == done.returncode, done.stderr
    found = json.loads(done.stdout)
    assert set(found) >= KEYS
    assert (0, 0, 0) == (found["lost"], found["duplicated"], found["misdelivered"])
    assert (60, 180, 180) == (found["acknowledged"], found["deliveries"], found["attempts"])
    assert (0, 0) == (found["left_pending"], found["dead"])
    assert "open 20/s" in (tmp_path / "deliver.svg").read_text()
    assert found == json.loads((tmp_path / "deliver.json").read_text())

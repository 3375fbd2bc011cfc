"""`broker bench revoke`: from the commit of a revoke to its Deny, and to the moment at which SES holds no Allow.

Every AWS call takes 30 ms and SES answers one call per second, account, Region and operation, as the real one does;
each revoke is in an account of its own, so that only the broker's own delays are measured. The clock begins with the
commit, by Postgres's own record of it (PostgreSQL, track_commit_timestamp), and ends when the local AWS has carried out
the CreateEmailIdentityPolicy of the Deny, from which on nobody can send any more, and the last
DeleteEmailIdentityPolicy. A call takes those 30 ms from when the local AWS has it, checks of its signature included;
what it is late beyond them counts against the broker. `over_aws_ms` is the time to the Deny without the AWS calls on
the way (30 ms for each that had to wait for the one before).
"""

from pathlib import Path

import click
import msgspec

from bench import report
from bench.match import Percentiles
from bench.messages import Stock
from bench.revoke_run import GROUPS, Options, Result, measure
from broker.local.directories import run_directory
from broker.local.options import data_directory


@click.command()
@click.option("--revokes", type=click.IntRange(1, 500), default=50, show_default=True, help="Revokes in each half.")
@click.option("--every", "every_s", type=click.FloatRange(0.01), default=0.2, show_default=True,
              help="Seconds between two revokes.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(min=1), default=None,
              help="How long each half takes; instead of --revokes.")  # fmt: skip
@click.option("--load", type=click.IntRange(0, 20_000), default=2_000, show_default=True,
              help="Events a second beside the second half; 0 leaves that half out.")  # fmt: skip
@click.option("--call-ms", type=click.FloatRange(0), default=30.0, show_default=True, help="What an AWS call takes.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@report.out_option
def revoke(
    *, revokes: int, every_s: float, seconds: float | None, load: int, call_ms: float, as_json: bool, out: Path
) -> None:
    """Revoke grants, idle and under load: how long until SES holds a Deny, and no Allow any more.

    \b
    deny_present_ms  from the commit of the revoke until SES holds the Deny
    aws_calls_ms     of that, the AWS calls that had to be waited for one after the other, at --call-ms each
    over_aws_ms      the rest: what the broker adds, and what the local AWS itself works on each call
    revoke_ms        from the commit of the revoke to the end of the last removal in SES
    commit_ms        what the transaction took before that clock began
    answer_ms        what the owner waited for the API's answer

    Events, deliveries, their times, lost and duplicated ones are those of the load; null without one. SQL round trips
    are null: programs count them over their whole life, in which they do more than deliver.
    """
    number = revokes if seconds is None else max(1, int(seconds / every_s))
    options = Options(revokes=number, every_s=every_s, load=load, call_ms=call_ms)
    data_dir = data_directory() / "bench"
    with run_directory(data_dir) as directory:
        found = measure(options, directory, Stock(data_dir, GROUPS), report.say)
    report.say(told(found))
    report.keep("revoke", msgspec.json.encode(found), None, as_json=as_json, out=out)
    if found.left or found.lost or found.duplicated:
        raise SystemExit(1)


def told(found: Result) -> str:
    """The figures as lines."""
    halves = {"idle": found.idle, f"with {found.load_events_per_s:,.0f} events/s": found.loaded}
    lines = [f"{'':38}{'p50':>10}{'p95':>10}{'p99':>10}  ms"]
    for half, times in halves.items():
        for name in (
            ("deny_present_ms", "revoke_ms", "aws_calls_ms", "over_aws_ms", "commit_ms", "answer_ms") if times else ()
        ):
            three: Percentiles = getattr(times, name)
            lines.append(f"{half + ' ' + name[:-3]:38}{three.p50:10.1f}{three.p95:10.1f}{three.p99:10.1f}")
    return "\n".join([*lines, f"policies left in SES: {found.left}; calibration {found.calibration_us} µs"])

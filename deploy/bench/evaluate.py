"""`broker bench evaluate`: how many sends a second one core decides by a policy of three statements.

The policy is given as text, as SES keeps it, and read once: what is measured is a decision with its reason. Sends that
are allowed, denied by the policy and denied because nothing allows them take turns. `lines_per_s` is the same through
`broker policy evaluate`, JSON and all. Both are per second of this process's own processor time, since a shared machine
may run others in between.
"""

import itertools
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import click
import msgspec

from bench import report
from bench.machine import calibration_us
from broker.local.policy_lines import answer
from broker.policies.compile import document, statements
from broker.policies.context import Send
from broker.policies.evaluate import Decision
from broker.policies.evaluate import evaluate as decide
from broker.policies.terms import Action, Terms

BAR = 20_000  # evaluations per second and core
_BATCH = 300
_T = TypeVar("_T")
_IDENTITY = "arn:aws:ses:eu-west-1:111122223333:identity/example.com"
_AT = datetime(2026, 1, 5, 12, tzinfo=UTC)


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Decisions per second of one core's time, all kinds in turn and each alone; microseconds of the calibration."""

    at: str
    python: str
    evaluations_per_s: float
    by_decision: Mapping[str, float]
    lines_per_s: float
    calibration_us: float


@click.command()
@click.option("--seconds", type=click.FloatRange(min=0.1), default=5.0, show_default=True, help="How long, in all.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout, everything else on stderr.")
@report.out_option
def evaluate(*, seconds: float, as_json: bool, out: Path) -> None:
    """Count the sends that one core decides in a second, by a policy of three statements."""
    found = measure(seconds)
    report.say(f"{found.evaluations_per_s:,.0f} evaluations per second and core (bar: {BAR:,})")
    for decision, rate in found.by_decision.items():
        report.say(f"    {decision}: {rate:,.0f}")
    report.say(f"{found.lines_per_s:,.0f} lines per second and core through `broker policy evaluate`")
    report.say(f"calibration: {found.calibration_us:.1f} µs to decode one bounce")
    report.keep("evaluate", msgspec.json.encode(found), None, as_json=as_json, out=out)


def measure(seconds: float) -> Figures:
    """Measure for about so many seconds of processor time."""
    text, cases = policy(), sends()
    lines = [_line(text, send) for send in cases.values()]
    share = seconds / 5
    return Figures(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        python=platform.python_version(),
        evaluations_per_s=_rate(lambda send: decide([text], send, identity_arn=_IDENTITY), [*cases.values()], share),
        by_decision={
            decision: _rate(lambda send: decide([text], send, identity_arn=_IDENTITY), [send], share)
            for decision, send in cases.items()
        },
        lines_per_s=_rate(answer, lines, share),
        calibration_us=calibration_us(),
    )


def policy() -> str:
    """Two grants with every kind of limit, and the owner's own Deny."""
    limits = Terms(
        principals=("222233334444",),
        actions=(Action.send, Action.send_raw),
        from_addresses=("newsletter@example.com", "*@mail.example.com"),
        feedback_addresses=("bounces@mail.example.com",),
        recipients=("*@example.org", "*@example.net"),
        source_ips=("203.0.113.0/24", "2001:db8::/32"),
        require_tls_to_ses=True,
        expires_at=_AT + timedelta(days=90),
    )
    other = msgspec.structs.replace(limits, principals=("arn:aws:iam::333344445555:role/mail/sender",))
    deny = {
        "Sid": "NoCeo",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "ses:Send*",
        "Resource": _IDENTITY,
        "Condition": {"StringLike": {"ses:FromAddress": "ceo@*"}},
    }
    grants = [
        statement
        for number, terms in enumerate((other, limits))
        for statement in statements(terms, grant_id=UUID(int=number), identity_arn=_IDENTITY)
    ]
    return document([*grants, deny])


def sends() -> dict[Decision, Send]:
    """One send of each outcome."""
    allowed = Send(
        action="ses:SendEmail",
        caller_arn="arn:aws:sts::222233334444:assumed-role/mailer/i-0abc",
        from_address="newsletter@example.com",
        feedback_address="bounces@mail.example.com",
        recipients=["ann@example.org", "bob@example.net"],
        time=_AT,
        source_ip="203.0.113.7",
        secure_transport=True,
    )
    return {
        Decision.allow: allowed,
        Decision.explicit_deny: msgspec.structs.replace(allowed, from_address="ceo@example.com"),
        Decision.implicit_deny: msgspec.structs.replace(allowed, recipients=["ann@example.org", "eve@example.com"]),
    }


def _line(text: str, send: Send) -> bytes:
    return msgspec.json.encode({"id": 1, "policies": [json.loads(text)], "identity_arn": _IDENTITY, "send": send})


def _rate(act: Callable[[_T], object], over: Sequence[_T], seconds: float) -> float:
    for one in over:
        act(one)
    done, began = 0, time.process_time()
    while (spent := time.process_time() - began) < seconds:
        for one in itertools.islice(itertools.cycle(over), _BATCH):
            act(one)
        done += _BATCH
    return round(done / spent, 1)

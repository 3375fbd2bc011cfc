"""What `broker simulate` and `broker explain-error` say. Neither needs a broker."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from broker import clock
from broker.errors import Invalid
from broker.grants.sending.asked import Asked, Simulation
from broker.grants.sending.simulate import simulate_pasted
from broker.local.child import StartError
from broker.policies.advice import Advice, explain_error
from broker.policies.causes import About
from broker.policies.document import read


def simulated(files: tuple[Path, ...], identity: str, send: Mapping[str, Any], *, as_json: bool) -> tuple[bool, str]:
    """Whether the policies in these files allow the send, and what to print; StartError for what cannot be asked."""
    given = {("from" if name == "sender" else name): value for name, value in send.items() if value}
    asked = {"policies": [_read(path) for path in files], "identity_arn": identity, "send": given}
    try:
        found = simulate_pasted(msgspec.convert(asked, Asked), now=clock.now())
    except (msgspec.ValidationError, Invalid) as error:
        raise StartError(str(error)) from error
    return found.allowed, msgspec.json.encode(found).decode() if as_json else _shown(found, files)


def explained(text: str, identity: str | None, *, as_json: bool) -> str:
    """What is behind an error text of SES; StartError where `identity` is no ARN of one."""
    try:
        about = About.of(identity_arn=identity)
    except ValueError as error:
        raise StartError(str(error)) from error
    found = explain_error(text, about)
    return msgspec.json.encode(found).decode() if as_json else _told(found)


def _read(path: Path) -> Any:
    try:
        text = path.read_text()
        read(text)  # sees what decoded JSON does not show any more: a key that stands twice
        return json.loads(text)
    except (OSError, ValueError) as error:
        raise StartError(f"{path} is no policy document: {error}") from error


def _shown(found: Simulation, files: tuple[Path, ...]) -> str:
    decided = found.decision
    place = f" ({files[int(decided.policy)]}, statement {decided.statement})" if decided.policy is not None else ""
    lines = [
        f"{'Allowed, as far as is known here' if found.allowed else 'Refused'}.",
        f"{decided.decision.value} for {decided.action}{place}: {decided.reason}",
        "",
    ]
    for item in found.checklist:
        lines.append(f"{item.status.value:8} {item.code}: {item.sentence}")
        lines += [f"         {item.fix}"] if item.fix else []
    return "\n".join(lines)


def _told(found: Advice) -> str:
    lines = [found.summary]
    for number, cause in enumerate(found.causes, 1):
        lines += ["", f"{number}. {cause.sentence}", f"   Fix: {cause.fix}", f"   Check: {cause.check}"]
    return "\n".join(lines)

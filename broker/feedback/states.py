"""What state a route shows, and when that is worth telling: rules over what a check found and what was heard. Pure."""

from datetime import datetime, timedelta

import msgspec

from broker.feedback.views import RouteState

WORKING = frozenset({RouteState.configured, RouteState.live, RouteState.quiet})


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a route that is set up `since`: the last event through it, and the last through another one.

    `elsewhere` is when another route of the same grant was heard, which proves that the delegate sends.
    """

    since: datetime
    last: datetime | None
    elsewhere: datetime | None


def shown(found: RouteState, heard: Heard, *, now: datetime, quiet_after: timedelta) -> tuple[RouteState, str | None]:
    """The state of a route that was found set up, with the reason where it is `quiet`; any other stays as found.

    Silence alone says nothing of a route that was heard before: its delegate may have stopped to send. So it is quiet
    only when another route of the grant was heard in the meantime; one that was never heard is quiet after a while.
    """
    if found is not RouteState.configured:
        return found, None
    if heard.last is None:
        is_quiet = now - heard.since >= quiet_after
        return (RouteState.quiet, _never(heard.since)) if is_quiet else (RouteState.configured, None)
    sends = heard.elsewhere is not None and heard.elsewhere > heard.last
    if sends and now - heard.last >= quiet_after:
        return RouteState.quiet, _no_longer(heard.last)
    return RouteState.live, None


def _never(since: datetime) -> str:
    return (
        f"Nothing of the delegate's mail was heard since it was set up on {since:%Y-%m-%d}: nothing was sent as this "
        "identity, or SES tells of it elsewhere."
    )


def _no_longer(last: datetime) -> str:
    return (
        f"Nothing was heard here since {last:%Y-%m-%d}, although another route of this grant tells that the delegate "
        "sends."
    )


def degrades(before: RouteState, after: RouteState, *, was_set: bool) -> bool:
    """Whether feedback that came through may no longer do so: told once, since `broken` stays `broken` until mended."""
    if after is RouteState.broken:
        return before in WORKING or (before is RouteState.pending and was_set)
    return after is RouteState.pending and before in WORKING

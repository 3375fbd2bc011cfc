"""`broker trigger`: makes the local AWS publish what SES would, and follows it to the feed and the webhooks."""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime

import msgspec

from broker.local.asking import Asking, Away
from broker.local.aws import LocalAws
from broker.local.child import StartError
from broker.local.scenarios import STORIES, USUAL_BURST, Round, Scene, expected, repeats
from broker.local.trigger_place import (
    Grant,
    account_of,
    check_terms,
    choose_grant,
    local_aws,
    needs_stand_in,
    sender_of,
    wait_for_route,
)
from broker.local.trigger_watch import Delivery, Event, Wanted, Watch, deliveries_of

CONFIGURATION_SET = "synthetic"
SUBJECT = "Synthetic news"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What to trigger, where, and how long to wait for it. `count` None: once, or the story's own number."""

    api_url: str
    key: str
    aws_url: str
    stories: Sequence[str]
    grant: str | None = None
    recipients: Sequence[str] = ()
    count: int | None = None
    patience_s: float = 15.0


class Came(msgspec.Struct, frozen=True, kw_only=True):
    """An event that came. `deliveries` None: these were not looked up."""

    id: str
    type: str
    message_id: str
    recipient: str | None
    recipient_hash: str | None
    deliveries: Sequence[Delivery] | None


class Count(msgspec.Struct, frozen=True):
    """So many events of a mail and type."""

    message_id: str
    type: str
    count: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How it went; `ok` when all that was to come came, and nothing twice. `ms`: from the first publish to the last."""

    ok: bool
    grant_id: str
    stories: Sequence[str]
    notes: Sequence[str]
    events: Sequence[Came]
    missing: Sequence[Count]
    surplus: Sequence[Count]
    ms: int


def run(options: Options) -> Report:
    """Tells the stories one after the other and waits for their events.

    Raises:
        StartError: it cannot begin; the sentence says why.
    """
    with closing(Asking(options.api_url, options.key)) as api:
        try:
            return _run(api, options)
        except Away as error:
            raise StartError(f"{error} Is it running, and is --api right?") from error


def _run(api: Asking, options: Options) -> Report:
    aws = local_aws(options.aws_url)
    grant = choose_grant(api, options.grant)
    told = [rounds for name in options.stories for rounds in _compose(name, options)]
    every = [scenes for rounds in told for scenes in rounds]
    check_terms(grant, every)
    wait_for_route(api, grant, until=time.monotonic() + options.patience_s)
    watch, began = Watch(api), time.perf_counter()
    wanted: Wanted = Counter()
    for rounds in told:
        wanted += Teller(aws, grant, watch, patience_s=options.patience_s).tell(rounds)
    ms = round((time.perf_counter() - began) * 1000)
    if any(repeats(rounds) for rounds in told):
        watch.settle()
    return _report(api, watch, wanted, grant=grant, options=options, notes=_notes(every), ms=ms)


def _compose(name: str, options: Options) -> list[Sequence[Round]]:
    story = STORIES[name]
    if story.counts_itself:
        return [story.compose(options.recipients, options.count or USUAL_BURST)]
    return [story.compose(options.recipients, 1) for _ in range(options.count or 1)]


class Teller:
    """Tells one story: each round is published and awaited before the next."""

    def __init__(self, aws: LocalAws, grant: Grant, watch: Watch, *, patience_s: float) -> None:
        """``patience_s`` is for each round."""
        self._aws = aws
        self._grant = grant
        self._watch = watch
        self._patience_s = patience_s
        self._mails: dict[int, str] = {}
        self._now = datetime.now(UTC)

    def tell(self, rounds: Sequence[Round]) -> Wanted:
        """What is to come of it."""
        wanted: Wanted = Counter()
        for number, scenes in enumerate(rounds, 1):
            for scene in scenes:
                self._publish(scene)
            wanted = Counter({(self._mails[mail], kind): n for (mail, kind), n in expected(rounds[:number]).items()})
            self._watch.wait(wanted, until=time.monotonic() + self._patience_s)
        return wanted

    def _publish(self, scene: Scene) -> None:
        """All scenes of a mail have the same times of sending, which are a part of what makes them one mail."""
        _, _, _, region, account_id, resource = self._grant.identity_arn.split(":", 5)
        sent_at, at = scene.times(self._now, earliest=self._grant.activated_at or self._now)
        more = {"message_id": self._mails[scene.mail]} if scene.mail in self._mails else {}
        published = self._aws.publish(
            account_id=account_id,
            region=region,
            identity=resource.removeprefix("identity/"),
            sending_account_id=account_of(self._grant),
            source=sender_of(self._grant),
            subject=SUBJECT,
            recipients=list(scene.recipients),
            kind=scene.kind.value,
            cause=scene.cause,
            sent_at=sent_at.isoformat(),
            at=at.isoformat(),
            configuration_set=CONFIGURATION_SET if scene.stands_in else None,
            copies=scene.copies,
            stands_in=scene.stands_in,
            **more,
        )
        self._mails[scene.mail] = str(published["message_id"])
        if not published["topics"]:
            raise StartError(
                f"The local AWS told nobody of this {scene.kind.value}: {resource} has no topic for it, "
                "or its topics hear nothing of delegated mail (dialect)."
            )


def _notes(rounds: Sequence[Round]) -> list[str]:
    kinds = ", ".join(needs_stand_in(rounds))
    if not kinds:
        return []
    note = (
        f"SES publishes {kinds} in this shape only through a configuration set. Here it came through the topic of the "
        "identity, in place of a configuration_set route."
    )
    return [note]


def _report(
    api: Asking, watch: Watch, wanted: Wanted, *, grant: Grant, options: Options, notes: list[str], ms: int
) -> Report:
    events = watch.of(wanted)
    deliveries = deliveries_of(api, events)
    missing, surplus = watch.missing(wanted), watch.surplus(wanted)
    return Report(
        ok=not missing and not surplus,
        grant_id=grant.id,
        stories=options.stories,
        notes=notes,
        events=[_came(event, deliveries.get(event.id)) for event in events],
        missing=_counts(missing),
        surplus=_counts(surplus),
        ms=ms,
    )


def _came(event: Event, deliveries: Sequence[Delivery] | None) -> Came:
    return Came(
        id=event.id,
        type=event.type,
        message_id=event.data.message_id or "",
        recipient=event.data.recipient,
        recipient_hash=event.data.recipient_hash,
        deliveries=deliveries,
    )


def _counts(of: Wanted) -> list[Count]:
    return [Count(message_id, kind, count) for (message_id, kind), count in of.items()]

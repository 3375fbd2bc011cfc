"""`broker listen`: a tenant's events from the feed, signed as webhooks are, posted to the developer's own machine."""

import time
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from enum import Enum
from pathlib import Path

import msgspec

from broker import clock
from broker.local.asking import Asking, Away
from broker.local.child import StartError
from broker.local.forwarded import About, Forwarded, Screen, Told
from broker.local.keepalive import NoAnswer, NotThere, Server
from broker.local.listen_state import Bookmark, Progress, key_of
from broker.webhooks.signing import headers

STRETCH = "50"  # events of one page: what is kept by id while it is under way
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.125, 1.0
TIMEOUT_S = 15.0  # what the broker gives a webhook
NEXT_TRY_S = 0.5


class Start(Enum):
    """Where to begin: where the last run ended (without one: now), now, or at the first event of all."""

    BOOKMARK = "cursor"
    NOW = "now"
    FIRST = "first"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What to forward and from where on; `types` are names or families such as `email.*`, none of them for all."""

    target: str
    types: Sequence[str] = ()
    start: Start | datetime = Start.BOOKMARK
    secret: str
    directory: Path


class _Stretch(msgspec.Struct, frozen=True):
    items: list[Told]
    cursor: str | None
    more: bool


class _Tenant(msgspec.Struct, frozen=True):
    id: str
    name: str


class Listener:
    """Forwards events until it is interrupted."""

    def __init__(self, api: Asking, options: Options, screen: Screen) -> None:
        """Ask the API who we are.

        Raises:
            StartError: the API is not there, does not take the key, or the target is no URL.
        """
        self.accepted = self.refused = 0
        self._target = Server(options.target, timeout_s=TIMEOUT_S)
        self._key = key_of(options.secret)
        self._api = api
        self._options = options
        self._screen = screen
        try:
            self.tenant = api.get("/v1/tenant", _Tenant)
            self._bookmark = Bookmark(
                options.directory, api=api.url, tenant=self.tenant.id, target=self._target.url + self._target.path
            )
            self.resumed = self._begin()
        except Away as error:
            raise StartError(f"{error} Is it running, and is --api right?") from error

    def run(self) -> None:
        """Forwards for ever."""
        pause = SHORTEST_PAUSE_S
        while True:
            if self.forward_some():
                pause = SHORTEST_PAUSE_S
                continue
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def close(self) -> None:
        """Close the connection to the target."""
        self._target.close()

    def forward_some(self) -> int:
        """Forwards the next stretch of the feed; how many events that was, wanted or not."""
        progress = self._bookmark.progress
        stretch = self._next_stretch(progress)
        done = set(progress.done)
        for told in stretch.items:
            if str(told.id) not in done and self._is_wanted(told):
                self._forward(told)
        self._bookmark.turn(stretch.cursor)
        return len(stretch.items)

    def _begin(self) -> bool:
        """Puts the bookmark where the options want it; tells whether that is where the last run ended."""
        match self._options.start:
            case Start.BOOKMARK if self._bookmark.known:
                return True
            case Start.FIRST:
                self._bookmark.begin(None)
            case datetime() as since:
                self._bookmark.begin(None, since=since)
            case _:
                self._bookmark.begin(self._api.get("/v1/events", _Stretch, after="now").cursor)
        return False

    def _next_stretch(self, progress: Progress) -> _Stretch:
        """An API that is away for a while, as when it is restarted, is waited for."""
        given = {"page_size": STRETCH}
        if progress.cursor is not None:
            given["after"] = progress.cursor
        if progress.since is not None:
            given["since"] = progress.since.isoformat()
        said = False
        while True:
            try:
                return self._api.get("/v1/events", _Stretch, **given)
            except Away as error:
                if not said:
                    self._screen.say(f"{error} Waiting for it.")
                said = True
                time.sleep(error.after_s)

    def _is_wanted(self, told: Told) -> bool:
        wanted = self._options.types
        return not wanted or told.type in wanted or f"{told.type.partition('.')[0]}.*" in wanted

    def _forward(self, told: Told) -> None:
        """Whatever is answered, it is not sent again; before anything listens there, it is not sent at all."""
        body = told.body()
        said = False
        while True:
            began = time.perf_counter()
            try:
                found: int | str = self._post(told, body)
            except NoAnswer as silence:
                found = str(silence)
            except NotThere as refusal:
                if not said:
                    self._screen.say(f"Nothing listens at {self._target.url} ({refusal}); waiting for it.")
                said = True
                time.sleep(NEXT_TRY_S)
                continue
            self._note(told, found, ms=round((time.perf_counter() - began) * 1000))
            return

    def _post(self, told: Told, body: bytes) -> int:
        """Signed at the moment of this try."""
        signed = headers(told.id, body, at=clock.now(), keys=[self._key])
        given = {"content-type": "application/json", "user-agent": "ses-delegation-broker", **signed}
        return self._target.ask("POST", self._target.path, given, body).status

    def _note(self, told: Told, found: int | str, *, ms: int) -> None:
        self._bookmark.handled(str(told.id))
        done = Forwarded(
            id=str(told.id),
            type=told.type,
            about=msgspec.json.decode(told.data, type=About),
            status=found if isinstance(found, int) else None,
            ms=ms,
            error=found if isinstance(found, str) else None,
        )
        if done.accepted:
            self.accepted += 1
        else:
            self.refused += 1
        self._screen.show(done)


def run(api_url: str, key: str, options: Options, screen: Screen) -> None:
    """Forwards until Ctrl-C, and says how many there were."""
    with closing(Asking(api_url, key)) as api, closing(Listener(api, options, screen)) as listener:
        screen.say(_welcome(listener, options))
        try:
            listener.run()
        except KeyboardInterrupt:
            screen.say(_farewell(listener))


def _welcome(listener: Listener, options: Options) -> str:
    wanted = f"The events {', '.join(options.types)}" if options.types else "All events"
    where = "going on where the last run ended (--since now to begin now)" if listener.resumed else _beginning(options)
    return (
        f"{wanted} of {listener.tenant.name} go to {options.target}, {where}.\n"
        f"They are signed with {options.secret} (as webhooks are; the same in every run).\nCtrl-C ends it."
    )


def _beginning(options: Options) -> str:
    if isinstance(options.start, datetime):
        return f"those since {options.start.isoformat(timespec='seconds')} first"
    return "beginning with the first one" if options.start is Start.FIRST else "beginning now"


def _farewell(listener: Listener) -> str:
    count = listener.accepted + listener.refused
    events = "1 event was" if count == 1 else f"{count} events were"
    refused = f", {listener.refused} of them not accepted" if listener.refused else ""
    return f"Stopped: {events} forwarded{refused}. The next run goes on from here."

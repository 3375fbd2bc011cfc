"""The story that `broker demo` plays: who is in it, and its six steps."""

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from broker.local import story_agree, story_bounce, story_connect, story_end, story_send
from broker.local.telling import Teller, Untrue
from broker.local.world import World

STEPS = (
    ("The parties register and connect their AWS accounts", story_connect.play),
    ("They negotiate", story_agree.negotiate),
    ("Workers apply the policies in the owner's account and read them back", story_agree.activate),
    ("The first delegate sends, with its own credentials", story_send.play),
    ("A bounce finds its way to both parties", story_bounce.play),
    ("The owner amends one grant and revokes the other", story_end.play),
)


# What a customer's libraries raise when the other side is not there, or its answer is not what was agreed.
_SURPRISES = (BotoCoreError, ClientError, httpx.HTTPError, OSError, LookupError, TypeError, ValueError)


def play(world: World, teller: Teller) -> None:
    """Plays every step.

    Raises:
        Untrue: a claim turned out false, or could not be checked; the steps so far are in ``teller``.
    """
    for name, act in STEPS:
        with teller.step(name):
            try:
                act(world, teller)
            except _SURPRISES as error:
                raise Untrue(f"{type(error).__name__}: {error}") from error

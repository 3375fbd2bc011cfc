"""The story that `broker demo` plays: who is in it, and its six steps."""

import msgspec

from broker.local import story_agree, story_bounce, story_connect, story_end, story_send
from broker.local.stack import Stack
from broker.local.telling import Teller
from broker.local.world import World

STEPS = (
    ("The parties register and connect their AWS accounts", story_connect.play),
    ("They negotiate", story_agree.negotiate),
    ("Workers apply the policies in the owner's account and read them back", story_agree.activate),
    ("The first delegate sends, with its own credentials", story_send.play),
    ("A bounce finds its way to both parties", story_bounce.play),
    ("The owner amends one grant and revokes the other", story_end.play),
)


def play(stack: Stack, teller: Teller) -> World:
    """Plays every step.

    Raises:
        Untrue: a claim turned out false; the steps so far are in ``teller``.
    """
    world = World(stack)
    for name, act in STEPS:
        with teller.step(name):
            act(world, teller)
    return world

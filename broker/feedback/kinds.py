"""The one table of who may make, remove and see which kind of route, and what can be chosen when making it."""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from broker.feedback.foreign_terms import ForeignTopicSettings
from broker.feedback.identity_topic import IdentityTopicSettings
from broker.feedback.legacy_terms import LegacySettings
from broker.feedback.set_rules import SetSettings
from broker.feedback.views import RouteKind
from broker.policies.terms import Side

BOTH: frozenset[Side] = frozenset({"owner", "delegate"})
OWNER: frozenset[Side] = frozenset({"owner"})
DELEGATE: frozenset[Side] = frozenset({"delegate"})


class KindRule(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for one kind of route.

    `makers` and `removers` may do so; looking again and repairing is for both. `inside`: whose account it is set up in,
    which party alone sees what was there before and what was found. `choosers` see what was asked for. `settings`: what
    can be chosen, None where this installation does not make such routes. `heard`: its feedback comes to us, so that it
    can be live or quiet.
    """

    makers: frozenset[Side]
    removers: frozenset[Side]
    inside: Side
    choosers: frozenset[Side]
    settings: type[msgspec.Struct] | None = None
    heard: bool = True


KINDS: Mapping[RouteKind, KindRule] = MappingProxyType(
    {
        RouteKind.identity_topic: KindRule(
            makers=OWNER, removers=OWNER, inside="owner", choosers=OWNER, settings=IdentityTopicSettings
        ),
        RouteKind.configuration_set: KindRule(
            makers=DELEGATE, removers=DELEGATE, inside="delegate", choosers=DELEGATE, settings=SetSettings
        ),
        # Asked for by the delegate; whether it is set is the owner's decision, which a route waits for.
        RouteKind.foreign_topic: KindRule(
            makers=DELEGATE,
            removers=BOTH,
            inside="owner",
            choosers=BOTH,
            settings=ForeignTopicSettings,
            heard=False,
        ),
        # Found with the delegate's role, though it is a setting of the owner's identity.
        RouteKind.legacy: KindRule(
            makers=DELEGATE,
            removers=DELEGATE,
            inside="delegate",
            choosers=DELEGATE,
            settings=LegacySettings,
            heard=False,
        ),
    }
)

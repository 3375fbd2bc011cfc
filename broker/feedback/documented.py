"""Every event that a webhook can carry, as JSON Schema made of the Structs that the code fills in.

Email events are `told`'s; those of grants, connections and endpoints are put together where they happen, and listed
here. A test holds real events, and the names at every place that makes one, against this table.
"""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from broker.feedback.events import AFTER_END, EVENT_TYPES
from broker.feedback.told import STRUCTS, SentAfterEnd, Told
from broker.webhooks.digests.views import Digest

_TIME = Meta(examples=["2026-12-01T09:30:00Z"])
_PROTECTED_BY = Meta(description="`deny`: by a Deny; `reads`: by reading it again", examples=["deny"])
_ID = Meta(examples=["019aabcd-1234-7abc-8def-0123456789ab"])


class GrantTold(msgspec.Struct, frozen=True, kw_only=True):
    """What every event of a grant's life tells, to both parties alike."""

    event_id: Annotated[UUID, _ID]
    grant_id: Annotated[UUID, _ID]
    identity: Annotated[str, Meta(examples=["arn:aws:ses:eu-west-1:111111111111:identity/example.com"])]
    owner_id: Annotated[UUID, _ID]
    delegate_id: Annotated[UUID, _ID]


class OfferTold(GrantTold, frozen=True, kw_only=True):
    """A move in a negotiation."""

    number: Annotated[int, Meta(description="Of the offer, from 1", examples=[2])] | msgspec.UnsetType = msgspec.UNSET
    note: Annotated[str | None, Meta(examples=["Shorter, please."])] | msgspec.UnsetType = msgspec.UNSET


class FailureTold(GrantTold, frozen=True, kw_only=True):
    """SES refused the policy."""

    error: Annotated[str, Meta(description="SES's own text", examples=["Invalid principal in policy"])]


class StuckTold(FailureTold, frozen=True, kw_only=True):
    """A removal that does not succeed; it is tried for ever, and the owner can do it by hand."""

    commands: (
        Annotated[
            list[str],
            Meta(
                description="Remove it by hand; in the owner's copy only",
                examples=[["aws sesv2 delete-email-identity-policy …"]],
            ),
        ]
        | msgspec.UnsetType
    ) = msgspec.UNSET


class FigureTold(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of the breaker: `rate` is a fraction of `of`; both are null for the number of sends."""

    name: Annotated[str, Meta(description="`bounces`, `complaints` or `sends`", examples=["bounces"])]
    count: Annotated[int, Meta(examples=[52])]
    of: Annotated[int | None, Meta(description="How much mail it is taken of", examples=[1000])]
    rate: Annotated[float | None, Meta(examples=[0.052])]
    warn_at: Annotated[float, Meta(examples=[0.02])]
    suspend_at: Annotated[float, Meta(examples=[0.05])]
    window_hours: Annotated[int, Meta(examples=[24])]


class WarningTold(GrantTold, frozen=True, kw_only=True):
    """A grant's mail nears its limits."""

    figures: Annotated[list[FigureTold], Meta(description="Those that are over what warns")]


class SuspensionTold(GrantTold, frozen=True, kw_only=True):
    """A grant is suspended, and SES was seen not to hold its policy any more."""

    suspended_by: Annotated[str, Meta(description="`owner`, who gives a note, or `breaker`", examples=["breaker"])]
    note: Annotated[str | None, Meta(examples=["Please clean your list."])] | msgspec.UnsetType = msgspec.UNSET
    figures: Annotated[list[FigureTold], Meta(description="Those that tripped the breaker")] | msgspec.UnsetType = (
        msgspec.UNSET
    )
    removed_at: Annotated[datetime, _TIME]
    verified_at: Annotated[datetime, _TIME]
    protected_by: Annotated[str, _PROTECTED_BY]
    residual_policies: Annotated[
        list[str], Meta(description="Policies that are not ours and still let it send", examples=[[]])
    ]


class ResumptionTold(GrantTold, frozen=True, kw_only=True):
    """The owner gives access back; the breaker counts from here on."""

    note: Annotated[str | None, Meta(examples=["The list is clean now."])]


class EndTold(GrantTold, frozen=True, kw_only=True):
    """An end, asked for or seen to be complete."""

    note: Annotated[str | None, Meta(examples=["Thank you."])] | msgspec.UnsetType = msgspec.UNSET
    verified: (
        Annotated[bool, Meta(description="false: the owner says so, nobody has read SES", examples=[False])]
        | msgspec.UnsetType
    ) = msgspec.UNSET
    removed_at: Annotated[datetime | None, _TIME] | msgspec.UnsetType = msgspec.UNSET
    verified_at: Annotated[datetime | None, _TIME] | msgspec.UnsetType = msgspec.UNSET
    protected_by: Annotated[str | None, _PROTECTED_BY] | msgspec.UnsetType = msgspec.UNSET
    residual_policies: (
        Annotated[list[str], Meta(description="Policies that are not ours and still let it send", examples=[[]])]
        | msgspec.UnsetType
    ) = msgspec.UNSET


class SealTold(GrantTold, frozen=True, kw_only=True):
    """No request from before the end can bring the access back, and SES was read once more without it."""

    protected_by: Annotated[str, Meta(description="What protected it until then", examples=["deny"])]
    sealed_at: Annotated[datetime, _TIME]


class ConnectionTold(msgspec.Struct, frozen=True, kw_only=True):
    """A connection whose state has changed."""

    event_id: Annotated[UUID, _ID]
    connection_id: Annotated[UUID, _ID]
    account_id: Annotated[str, Meta(examples=["111111111111"])]
    state: Annotated[str, Meta(examples=["degraded"])]
    reason: Annotated[str | None, Meta(examples=["The role cannot be assumed any more."])]


class EndpointTold(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint that was disabled, or is tested."""

    event_id: Annotated[UUID, _ID]
    endpoint_id: Annotated[UUID, _ID]
    url: Annotated[str, Meta(examples=["https://hooks.example.com/ses"])]
    reason: Annotated[str, Meta(examples=["It answered 410."])] | msgspec.UnsetType = msgspec.UNSET


_OFFERS = ("proposed", "countered", "approved", "declined", "withdrawn", "lapsed", "amended")
_ENDS = ("revocation_requested", "revoked", "relinquished", "expired")
_PLAIN = ("activated", "expires_soon", "drifted")

TYPES: Mapping[str, type[msgspec.Struct]] = MappingProxyType(
    {
        **{EVENT_TYPES[kind]: struct for kind, struct in STRUCTS.items()},
        **{f"grant.{name}": OfferTold for name in _OFFERS},
        "grant.limit_warned": WarningTold,
        "grant.suspended": SuspensionTold,
        "grant.resumed": ResumptionTold,
        **{f"grant.{name}": EndTold for name in _ENDS},
        **{f"grant.{name}": GrantTold for name in _PLAIN},
        "grant.activation_failed": FailureTold,
        "grant.revocation_stuck": StuckTold,
        "grant.sealed": SealTold,
        AFTER_END: SentAfterEnd,
        "connection.verified": ConnectionTold,
        "connection.degraded": ConnectionTold,
        "connection.lost": ConnectionTold,
        "endpoint.disabled": EndpointTold,
        "endpoint.test": EndpointTold,
        "endpoint.digest": Digest,
    }
)
"""By type of event, what its `data` holds at full view."""

# Of what all email events tell, what may be other than null for each kind.
_OF_ALL = ("recipient", "from", "subject", "configuration_set")
_APPLIES = {
    "email.bounced": (
        "final", "bounce_type", "bounce_sub_type", "status", "action", "diagnostic_code", "reporting_mta", "remote_mta",
    ),
    "email.complained": ("complaint_sub_type", "feedback_type", "user_agent"),
    "email.delivered": ("reporting_mta", "remote_mta", "smtp_response", "processing_ms"),
    "email.rejected": ("final",),
    "email.rendering_failed": ("final",),
    "email.delayed": ("final", "status", "action", "diagnostic_code", "reporting_mta"),
    "email.opened": ("user_agent",),
    "email.clicked": ("user_agent",),
}  # fmt: skip
_KINDS = {name: kind.value if kind else "unknown" for kind, name in EVENT_TYPES.items()}
_EXAMPLES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "email.complained": {"feedback_type": "abuse", "user_agent": "AnyCompany Feedback Loop (V0.01)"},
        "email.delivered": {"smtp_response": "250 2.6.0 Message received", "processing_ms": 546},
        "email.delayed": {"final": False, "action": None, "status": "4.2.2", "diagnostic_code": "452 4.2.2 over quota"},
        "endpoint.digest": {"filters_changed_at": "2026-12-01T08:00:00Z"},
        "email.opened": {"user_agent": "Mozilla/5.0"},
        "email.clicked": {"user_agent": "Mozilla/5.0"},
    }
)
_NAMED = "Webhook"


def name_of(type_: str) -> str:
    """`EmailBounced` of `email.bounced`."""
    return "".join(part.capitalize() for part in type_.replace(".", "_").split("_"))


def schemas(ref_template: str = "#/components/schemas/{name}") -> dict[str, dict[str, Any]]:
    """JSON Schemas by component name: the body of each type of event, and what these are made of."""
    structs = [*dict.fromkeys(TYPES.values())]
    found, parts = msgspec.json.schema_components(structs, ref_template=ref_template.format(name=_NAMED + "{name}"))
    made = {_NAMED + name: dict(schema) for name, schema in parts.items()}
    for schema in made.values():
        schema.pop("title", None)
    for of_mail in STRUCTS.values():
        _for_every_view(made[_NAMED + of_mail.__name__])
    refs = dict(zip(structs, found, strict=True))
    for type_, struct in TYPES.items():
        made[name_of(type_) + "Event"] = {
            "type": "object",
            "description": describe(type_),
            "required": ["type", "timestamp", "data"],
            "properties": {
                "type": {"const": type_},
                "timestamp": {"type": "string", "format": "date-time"},
                "data": refs[struct],
            },
        }
    return made


def _for_every_view(schema: dict[str, Any]) -> None:
    """What a narrow view leaves out is not required, and an id in which an address might hide is null there."""
    schema["required"] = ["event_id", "kind"]
    schema["properties"]["message_id"] |= {"type": ["string", "null"]}


def describe(type_: str) -> str:
    """What has happened, in a sentence or two."""
    text = " ".join((TYPES[type_].__doc__ or "").split())
    if type_.startswith("email."):
        text += " A party whose view is `hashed` or `none` gets fewer fields, and null for what it may not see."
    return text


def adapted(type_: str, example: Mapping[str, Any]) -> dict[str, Any]:
    """The example of a type of event, out of one in which every field has a value."""
    if type_ not in _KINDS:
        return {**example, **_EXAMPLES.get(type_, {})}
    applies = {*_APPLIES.get(type_, ()), *_OF_ALL}
    common = {field.encode_name for field in msgspec.structs.fields(Told) if not field.required}
    told = {name: None if name in common - applies else value for name, value in example.items()}
    return {**told, **_EXAMPLES.get(type_, {}), "kind": _KINDS[type_]}

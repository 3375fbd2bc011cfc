"""What the API takes and answers about a delegate's own event destinations."""

from enum import StrEnum
from typing import Annotated

import msgspec

MOST_DIMENSIONS = 10

Arn = Annotated[str, msgspec.Meta(max_length=2048)]
# `$` alone would let a line end through behind it.
Name = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Za-z0-9_-]{1,64}$(?!\n)",
        description="Unique in the set; letters, digits, underscores and dashes",
        examples=["own-metrics"],
    ),
]


class EventType(StrEnum):
    """The ten types of SES (SES API v2, EventDestination, MatchingEventTypes)."""

    send = "send"
    reject = "reject"
    bounce = "bounce"
    complaint = "complaint"
    delivery = "delivery"
    open = "open"
    click = "click"
    rendering_failure = "rendering_failure"
    delivery_delay = "delivery_delay"
    subscription = "subscription"


class DimensionSource(StrEnum):
    """Where SES finds a dimension's value: X-SES-MESSAGE-TAGS or EmailTags, a header of the mail, a tag of a link."""

    message_tag = "message_tag"
    email_header = "email_header"
    link_tag = "link_tag"


class Kind(StrEnum):
    """Where events go."""

    cloudwatch = "cloudwatch"
    firehose = "firehose"
    eventbridge = "eventbridge"
    sns = "sns"
    pinpoint = "pinpoint"


class Dimension(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One dimension of a CloudWatch metric (SES API v2, CloudWatchDimensionConfiguration)."""

    name: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^[A-Za-z0-9_-]{1,256}$(?!\n)",
            description="Letters, digits, underscores and dashes",
            examples=["campaign"],
        ),
    ]
    source: Annotated[DimensionSource, msgspec.Meta(examples=["message_tag"])]
    default: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^[A-Za-z0-9_.@-]{1,256}$(?!\n)",
            description="The value of mail that has none; letters, digits, underscores, dashes, at signs and periods",
            examples=["none"],
        ),
    ]


class CloudWatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Metrics in CloudWatch."""

    dimensions: Annotated[tuple[Dimension, ...], msgspec.Meta(min_length=1, max_length=MOST_DIMENSIONS)]


class Firehose(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stream of Amazon Data Firehose in your account, and the role under which SES writes to it."""

    role_arn: Annotated[
        Arn,
        msgspec.Meta(
            description="Trusts ses.amazonaws.com; named delegation-broker-…, since our role may pass no other",
            examples=["arn:aws:iam::222222222222:role/delegation-broker-firehose"],
        ),
    ]
    stream_arn: Annotated[
        Arn, msgspec.Meta(examples=["arn:aws:firehose:eu-west-1:222222222222:deliverystream/ses-events"])
    ]


class EventBridge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The default event bus of your account, the only one that SES supports."""

    bus_arn: Annotated[
        Arn | None,
        msgspec.Meta(
            description="May be left out", examples=["arn:aws:events:eu-west-1:222222222222:event-bus/default"]
        ),
    ] = None


class Sns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An SNS topic of your own account and Region, whose policy lets SES publish for the configuration set."""

    topic_arn: Annotated[Arn, msgspec.Meta(examples=["arn:aws:sns:eu-west-1:222222222222:ses-events"])]


class Pinpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A project of Amazon Pinpoint, which AWS has retired: old ones are shown and can be removed."""

    application_arn: Annotated[Arn, msgspec.Meta(examples=["arn:aws:mobiletargeting:eu-west-1:222222222222:apps/1f2e"])]


EventTypes = Annotated[tuple[EventType, ...], msgspec.Meta(min_length=1, examples=[["bounce", "complaint"]])]


class NewDestination(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A destination to be made: exactly one of `cloudwatch`, `firehose`, `eventbridge` and `sns`."""

    name: Name
    event_types: EventTypes
    enabled: Annotated[bool, msgspec.Meta(examples=[True])] = True
    cloudwatch: CloudWatch | None = None
    firehose: Firehose | None = None
    eventbridge: EventBridge | None = None
    sns: Sns | None = None
    pinpoint: Pinpoint | None = None


class DestinationChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is left out stays as SES holds it; where it goes is changed by one of the four targets."""

    event_types: EventTypes | None = None
    enabled: Annotated[bool | None, msgspec.Meta(examples=[False])] = None
    cloudwatch: CloudWatch | None = None
    firehose: Firehose | None = None
    eventbridge: EventBridge | None = None
    sns: Sns | None = None
    pinpoint: Pinpoint | None = None


class DestinationView(msgspec.Struct, frozen=True, kw_only=True):
    """A destination as SES shows it now. `ours`: the broker's, which cannot be changed or removed here."""

    name: Annotated[str, msgspec.Meta(examples=["own-metrics"])]
    kind: Annotated[Kind, msgspec.Meta(examples=["cloudwatch"])]
    enabled: Annotated[bool, msgspec.Meta(examples=[True])]
    event_types: Annotated[list[str], msgspec.Meta(examples=[["bounce", "complaint"]])]
    ours: Annotated[bool, msgspec.Meta(examples=[False])]
    note: Annotated[str | None, msgspec.Meta(description="What is special about it", examples=[None])] = None
    cloudwatch: CloudWatch | None = None
    firehose: Firehose | None = None
    eventbridge: EventBridge | None = None
    sns: Sns | None = None
    pinpoint: Pinpoint | None = None

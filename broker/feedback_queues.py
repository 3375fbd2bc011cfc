"""The queues that feedback is taken from, as `Region=URL` pairs of a setting."""

import re

import msgspec

_QUEUE_URL = re.compile(r"https?://[^/?#]+/(?P<account>[0-9]{12})/(?P<name>[A-Za-z0-9_-]{1,75})")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]+")


class FeedbackQueue(msgspec.Struct, frozen=True):
    """A queue of ours in one Region; what cannot be dealt with goes into its dead-letter queue.

    `events`: only EventBridge may send to it; else SNS alone is believed, and by its signature.
    """

    region: str
    url: str
    arn: str
    events: bool = False

    @property
    def label(self) -> str:
        """What it is called in metrics."""
        return f"{self.region} events" if self.events else self.region

    @property
    def dead_url(self) -> str:
        """Of its dead-letter queue."""
        return f"{self.url}-dead"

    @property
    def dead_arn(self) -> str:
        """Of its dead-letter queue."""
        return f"{self.arn}-dead"


def parse(text: str, partition: str, *, events: bool) -> dict[str, FeedbackQueue]:
    """The queues by Region; ValueError for what names none."""
    pairs = (pair.partition("=") for pair in text.split(",") if pair.strip())
    found = [_queue(region.strip(), url.strip(), partition, events=events) for region, _, url in pairs]
    if len({queue.region for queue in found}) < len(found):
        raise ValueError("a Region has one queue")
    return {queue.region: queue for queue in found}


def _queue(region: str, url: str, partition: str, *, events: bool) -> FeedbackQueue:
    """A queue's URL ends in its account and name (SQS Developer Guide, sqs-queue-message-identifiers)."""
    found = _QUEUE_URL.fullmatch(url)
    if found is None or _REGION.fullmatch(region) is None:
        raise ValueError(f"{region}={url} is not Region=queue URL")
    return FeedbackQueue(region, url, f"arn:{partition}:sqs:{region}:{found['account']}:{found['name']}", events)

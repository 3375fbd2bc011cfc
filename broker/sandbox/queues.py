"""moto's queues, their policies, and what SNS puts into them."""

import json
from threading import RLock
from typing import Any

from moto.sqs.exceptions import QueueDoesNotExist
from moto.sqs.models import sqs_backends

from broker.policies.context import Caller
from broker.sandbox import arns, iam_policy
from broker.sandbox.call import Call
from broker.sandbox.iam_policy import Keys

SNS = "sns.amazonaws.com"
PAUSE = 0.02  # seconds between two looks into a queue that is waited for

one_at_a_time = RLock()
"""A delete in moto makes a new list of a queue's messages: what comes or goes meanwhile would be lost or come back."""


def find(queue_arn: str) -> Any:
    """moto's Queue, None when there is none by this ARN."""
    named = arns.parse(queue_arn)
    regional = sqs_backends[named.account_id]
    if named.service != "sqs" or named.region not in regional:
        return None
    try:
        return regional[named.region].get_queue(named.resource)
    except QueueDoesNotExist:
        return None


def allows(queue_arn: str, action: str, *, caller: Caller, keys: Keys) -> bool:
    """Does the queue's own policy allow this; a queue that does not exist allows nothing."""
    policy = getattr(find(queue_arn), "policy", None)
    documents = [policy if isinstance(policy, str) else json.dumps(policy)] if policy else []
    return iam_policy.decide(documents, action, queue_arn, caller=caller, keys=keys) == "allow"


def put(queue_arn: str, text: str, *, topic_arn: str) -> bool:
    """Sends a message if the queue's policy lets SNS do so for this topic; False when it got lost."""
    keys = {"aws:sourcearn": (topic_arn,), "aws:sourceaccount": (arns.parse(topic_arn).account_id,)}
    if not allows(queue_arn, "sqs:SendMessage", caller=iam_policy.service(SNS), keys=keys):
        return False
    named = arns.parse(queue_arn)
    with one_at_a_time:
        sqs_backends[named.account_id][named.region].send_message(named.resource, text)
    return True


def seconds_to_wait(call: Call, queue: list[str]) -> int:
    """How long a receive waits for a message: what it asks for, or the queue's own setting."""
    if "WaitTimeSeconds" in call.params:
        return int(call.params["WaitTimeSeconds"])
    found = find(f"arn:{arns.partition_of(call.region)}:sqs:{call.region}:{':'.join(queue)}") if queue[1:] else None
    return int(getattr(found, "receive_message_wait_time_seconds", 0) or 0)

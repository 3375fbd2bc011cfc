"""moto's queues, their policies, and what SNS puts into them."""

import json
from typing import Any

from moto.sqs.exceptions import QueueDoesNotExist
from moto.sqs.models import sqs_backends

from broker.policies.context import Caller
from broker.sandbox import arns, iam_policy
from broker.sandbox.iam_policy import Keys

SNS = "sns.amazonaws.com"


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
    sqs_backends[named.account_id][named.region].send_message(named.resource, text)
    return True

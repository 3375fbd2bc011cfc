"""The environment of the programs that the crash matrix kills, and the queue that one Region's feedback comes by."""

from pathlib import Path

import boto3
import msgspec

from broker.local.aws import LocalAws
from broker.local.environment import (
    BROKER_ACCOUNT,
    LOCAL_SETTINGS,
    find_secrets,
    local_aws_settings,
    server_settings,
)
from broker.local.postgres import EmbeddedPostgres
from broker.local.processes import LOOPBACK
from broker.local.redis import EmbeddedRedis

QUEUE_REGION = "eu-central-1"
"""Its feedback comes by SQS, that of all others over HTTPS."""

QUEUE = "feedback"
SETTINGS = {
    "BROKER_READBACK_GAP": "0.2",
    "BROKER_DENY_KEPT": "1",
    "BROKER_RECKON_EVERY": "0.2",
    "BROKER_LOG_FORMAT": "json",
}


def settings(
    directory: Path, aws: LocalAws, postgres: EmbeddedPostgres, redis: EmbeddedRedis, port: int
) -> dict[str, str]:
    """Of an API at this port and of a worker; makes the queue."""
    keys = aws.open_account(BROKER_ACCOUNT)
    return {
        **LOCAL_SETTINGS,
        **SETTINGS,
        **find_secrets(directory / "secrets.json"),
        **server_settings(postgres.app_url, postgres.owner_url, redis.url),
        **local_aws_settings(aws.url, keys),
        "BROKER_PUBLIC_URL": f"http://{LOOPBACK}:{port}",
        "BROKER_FEEDBACK_QUEUES": f"{QUEUE_REGION}={_make_queue(aws)}",
    }


def _make_queue(aws: LocalAws) -> str:
    """A queue that SNS may send the broker's topics to, and its dead-letter queue; the URL."""
    keys = aws.open_account(BROKER_ACCOUNT)
    sqs = boto3.client(
        "sqs",
        region_name=QUEUE_REGION,
        endpoint_url=aws.url,
        aws_access_key_id=keys.access_key_id,
        aws_secret_access_key=keys.secret_access_key,
    )
    allowed = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}
    policy = msgspec.json.encode({"Version": "2012-10-17", "Statement": [{**allowed, "Resource": "*"}]}).decode()
    sqs.create_queue(QueueName=f"{QUEUE}-dead", Attributes={"Policy": policy})
    given = {"Policy": policy, "VisibilityTimeout": "60"}
    url: str = sqs.create_queue(QueueName=QUEUE, Attributes=given)["QueueUrl"]
    sqs.close()
    return url

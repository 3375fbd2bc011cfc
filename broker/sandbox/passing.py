"""What passes to moto, IAM, SQS, topics and the rest of SES: in which account, checked on which resource."""

import json
import time
from io import BytesIO
from threading import RLock
from typing import Any
from urllib.parse import urlsplit

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.test import run_wsgi_app

from broker.sandbox import arns, authorize, iam_policy, queues, sns_topics
from broker.sandbox.answers import Answer
from broker.sandbox.call import Call
from broker.sandbox.cloud import Cloud
from broker.sandbox.errors import AwsError
from broker.sandbox.operations import action_of

_moto = DomainDispatcherApplication(create_backend_app)
_one_at_a_time = RLock()
"""moto's models are not made for threads."""


def pass_on(cloud: Cloud, call: Call, environ: dict[str, Any]) -> Answer:
    """Checks the caller's rights and lets moto answer. Raises AwsError when they do not suffice."""
    account_id = _account_after_check(cloud, call)
    _check_topic_policy(call)
    environ["HTTP_X_MOTO_ACCOUNT_ID"] = account_id
    if call.service == "sqs" and call.operation == "ReceiveMessage":
        return _receive(cloud, call, environ)
    with queues.one_at_a_time if call.service == "sqs" else _one_at_a_time:
        return _ask(environ)


def _receive(cloud: Cloud, call: Call, environ: dict[str, Any]) -> Answer:
    """Asks moto again and again instead of letting it wait: there, nothing else may happen in a queue meanwhile."""
    url = urlsplit(call.params.get("QueueUrl", "")).path.strip("/").split("/")
    wait = queues.seconds_to_wait(call, url)
    ends = time.monotonic() + wait
    body = json.dumps(call.params | {"WaitTimeSeconds": 0}).encode()
    environ["CONTENT_LENGTH"] = str(len(body))
    while True:
        with queues.one_at_a_time:
            status, headers, content = _ask(environ | {"wsgi.input": BytesIO(body)})
        if status != 200 or b'"Messages"' in content or time.monotonic() >= ends:
            return status, headers, content
        if cloud.closing.wait(queues.PAUSE):
            return status, headers, content


def _check_topic_policy(call: Call) -> None:
    """moto stores any text as a topic's policy; SNS does not."""
    named = call.params.get("AttributeName") == "Policy" if call.operation == "SetTopicAttributes" else False
    texts = [call.params.get("AttributeValue")] if named else [(call.params.get("Attributes") or {}).get("Policy")]
    if call.service != "sns" or texts == [None]:
        return
    try:
        iam_policy.read(str(texts[0]))
    except ValueError as error:
        raise AwsError("InvalidParameter", "Invalid parameter: Policy Error: null") from error


def _ask(environ: dict[str, Any]) -> Answer:
    try:
        chunks, status, headers = run_wsgi_app(_moto, environ, buffered=True)
    except NotImplementedError as error:
        raise AwsError("NotImplemented", str(error), 501) from error
    kept = {
        key: value
        for key, value in headers.items()
        if key.lower() not in {"content-length", "date", "server", "status"}
    }
    return int(status.split()[0]), kept, b"".join(chunks)


def _account_after_check(cloud: Cloud, call: Call) -> str:
    """The account in which moto shall act: the caller's, or that of the queue or topic."""
    action = action_of(call)
    if call.service == "sns" and "TopicArn" in call.params:
        sns_topics.require(cloud, call, action, call.params["TopicArn"])
        return arns.parse(call.params["TopicArn"]).account_id
    if call.service == "sns" and "ResourceArn" in call.params:
        sns_topics.require(cloud, call, action, call.params["ResourceArn"])
        return arns.parse(call.params["ResourceArn"]).account_id
    if call.service == "sns" and call.operation == "CreateTopic":
        topic = f"arn:{arns.partition_of(call.region)}:sns:{call.region}:{call.account_id}:{call.params['Name']}"
        authorize.require(cloud, call, action, topic)
        if call.params.get("Tags"):
            authorize.require(cloud, call, "sns:TagResource", topic)
        return call.account_id
    if call.service == "sqs":
        return _queue_account(cloud, call, action)
    authorize.require(cloud, call, action, _resource(call))
    return call.account_id


def _resource(call: Call) -> str:
    """IAM's roles, users and policies by name; `*` for whatever has no name in the call."""
    if call.service == "iam":
        for key, kind in (("RoleName", "role"), ("UserName", "user")):
            if key in call.params:
                return f"arn:{arns.partition_of(call.region)}:iam::{call.account_id}:{kind}/{call.params[key]}"
    return "*"


def _queue_account(cloud: Cloud, call: Call, action: str) -> str:
    """A queue of another account can only be used if its own policy allows that."""
    parts = urlsplit(call.params.get("QueueUrl", "")).path.strip("/").split("/")
    account_id, name = parts if len(parts) == 2 else (call.account_id, call.params.get("QueueName", "*"))
    arn = f"arn:{arns.partition_of(call.region)}:sqs:{call.region}:{account_id}:{name}"
    authorize.require(cloud, call, action, "*" if name == "*" else arn)
    caller, keys = iam_policy.caller_of(call.principal), authorize.keys_of(cloud, call)
    if account_id != call.account_id and not queues.allows(arn, action, caller=caller, keys=keys):
        raise authorize.denied(call, action, arn)
    return account_id

"""What the tests of the local AWS share: accounts with real boto3 clients, policies, and an HTTP endpoint for SNS."""

import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import Thread
from typing import Any

import boto3
import msgspec
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from broker.sandbox.cloud import Cloud
from broker.sandbox.server import Running
from broker.sandbox.sns_delivery import string_to_sign

REGION = "eu-west-1"
PATIENCE = 30.0  # seconds: what is waited for comes at once, but on a machine that is busy with other things
CONFIG = Config(retries={"total_max_attempts": 1}, connect_timeout=PATIENCE, read_timeout=PATIENCE)

_session = boto3.Session()
_numbers = count(100_000_000_001)


class Keys(msgspec.Struct, frozen=True):
    """What a boto3 client signs with."""

    access_key_id: str
    secret_access_key: str
    token: str | None = None


class Account:
    """A fresh account of the local AWS, used through its administrator unless other keys are given."""

    def __init__(self, aws: "Aws", account_id: str) -> None:
        self._aws = aws
        self.id = account_id
        made = aws.control("POST", "accounts", {"account_id": account_id})
        self.keys = Keys(made["access_key_id"], made["secret_access_key"])
        self.arn: str = made["arn"]

    def client(self, service: str, *, keys: Keys | None = None, region: str = REGION) -> Any:
        return self._aws.client(service, keys or self.keys, region=region)

    def verify(self, identity: str, *, region: str = REGION) -> str:
        """A verified identity; answers with its ARN."""
        body = {"account_id": self.id, "region": region, "identity": identity}
        return str(self._aws.control("POST", "identities", body)["arn"])

    def leave_sandbox(self, *, region: str = REGION) -> None:
        self._aws.control("POST", "production", {"account_id": self.id, "region": region, "enabled": True})

    def make_role(self, name: str, trust: Mapping[str, Any], *, policy: Mapping[str, Any] | None = None) -> str:
        """An IAM role; answers with its ARN."""
        iam = self.client("iam")
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]
        if policy is not None:
            iam.put_role_policy(RoleName=name, PolicyName="inline", PolicyDocument=json.dumps(policy))
        return str(role["Arn"])

    def make_user(self, name: str, *, policy: Mapping[str, Any] | None = None) -> tuple[str, Keys]:
        """An IAM user with an access key; answers with its ARN and keys."""
        iam = self.client("iam")
        arn = str(iam.create_user(UserName=name)["User"]["Arn"])
        if policy is not None:
            iam.put_user_policy(UserName=name, PolicyName="inline", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return arn, Keys(key["AccessKeyId"], key["SecretAccessKey"])

    def assume(self, role_arn: str, **more: Any) -> Keys:
        return assume(self.client("sts"), role_arn, **more)

    def make_topic(self, name: str, *, publishers: str | None = None, **attributes: str) -> str:
        """A topic that SES may publish to for the account `publishers`; answers with its ARN."""
        sns = self.client("sns")
        arn = str(sns.create_topic(Name=name, Attributes=attributes)["TopicArn"])
        if publishers is not None:
            document = json.dumps(ses_may_publish(arn, publishers))
            sns.set_topic_attributes(TopicArn=arn, AttributeName="Policy", AttributeValue=document)
        return arn

    def make_queue(self, name: str, *topics: str) -> "Queue":
        """A queue that hears these topics of the same account."""
        sqs = self.client("sqs")
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
        arn = f"arn:aws:sqs:{REGION}:{self.id}:{name}"
        document = allow("sqs:SendMessage", arn, principal={"Service": "sns.amazonaws.com"})
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(document)})
        for topic in topics:
            self.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        return Queue(sqs, url, arn)


class Queue(msgspec.Struct, frozen=True):
    sqs: Any
    url: str
    arn: str

    def receive(self, wanted: int = 1) -> list[dict[str, Any]]:
        """So many bodies, decoded; fails after a while without them."""
        found: list[dict[str, Any]] = []
        ends = time.monotonic() + PATIENCE
        while len(found) < wanted and time.monotonic() < ends:
            answer = self.sqs.receive_message(QueueUrl=self.url, WaitTimeSeconds=1, MaxNumberOfMessages=10)
            for message in answer.get("Messages", []):
                found.append(json.loads(message["Body"]))
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        assert len(found) == wanted, found
        return found

    def feedback(self, wanted: int = 1) -> list[dict[str, Any]]:
        """The SES records inside, without the greetings that SES sends when a topic is set."""
        records: list[dict[str, Any]] = []
        ends = time.monotonic() + PATIENCE
        while len(records) < wanted and time.monotonic() < ends:
            texts = [each["Message"] for each in self.receive_some()]
            parsed = [json.loads(text) for text in texts if text.startswith("{")]
            records += [each for each in parsed if each.get("notificationType") != "AmazonSnsSubscriptionSucceeded"]
        assert len(records) == wanted, records
        return records

    def receive_some(self) -> list[dict[str, Any]]:
        answer = self.sqs.receive_message(QueueUrl=self.url, WaitTimeSeconds=1, MaxNumberOfMessages=10)
        for message in answer.get("Messages", []):
            self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in answer.get("Messages", [])]


class Aws:
    """One running local AWS."""

    def __init__(self, running: Running | str) -> None:
        """A server in this process, or the URL of one in another."""
        self._running = running
        self.url = running if isinstance(running, str) else running.url

    @property
    def cloud(self) -> Cloud:
        """What runs inside; only of a server in this process."""
        assert isinstance(self._running, Running)
        return self._running.cloud

    def account(self) -> Account:
        return Account(self, str(next(_numbers)))

    def client(
        self, service: str, keys: Keys, *, region: str = REGION, careless: bool = False, read_timeout: float = PATIENCE
    ) -> Any:
        """A client; a careless one sends what its model forbids."""
        return _session.client(
            service,
            endpoint_url=self.url,
            region_name=region,
            aws_access_key_id=keys.access_key_id,
            aws_secret_access_key=keys.secret_access_key,
            aws_session_token=keys.token,
            config=CONFIG.merge(Config(parameter_validation=not careless, read_timeout=read_timeout)),
        )

    def control(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """A call of the control API; raises HTTPError where that refuses."""
        data = json.dumps(body).encode() if body is not None else None
        status, text = fetch(f"{self.url}/_sandbox/{path}", method=method, data=data)
        if status != 200:
            raise AssertionError(text)
        return json.loads(text)

    def settle(self) -> None:
        """Waits until the feedback of all mail so far is published."""
        assert self.cloud.settle(PATIENCE)

    def delegation(self, **policy: Any) -> tuple[Account, Account, str]:
        """An owner and a delegate out of the sandbox, and the owner's identity example.com with one policy."""
        owner, delegate = self.account(), self.account()
        owner.leave_sandbox()
        delegate.leave_sandbox()
        arn = owner.verify("example.com")
        document = allow(policy.pop("Action", ["ses:SendEmail"]), arn, principal={"AWS": delegate.id}, **policy)
        owner.client("sesv2").create_email_identity_policy(
            EmailIdentity="example.com", PolicyName="delegate", Policy=json.dumps(document)
        )
        return owner, delegate, arn


def fetch(
    url: str, *, method: str = "GET", data: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, str]:
    request = urllib.request.Request(url, data, dict(headers or {}), method=method)  # noqa: S310 — loopback only
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310 — loopback only
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def assume(sts: Any, role_arn: str, **more: Any) -> Keys:
    found = sts.assume_role(RoleArn=role_arn, RoleSessionName="test-session", **more)["Credentials"]
    return Keys(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])


def allow(action: Any, resource: Any = None, *, principal: Any = None, **more: Any) -> dict[str, Any]:
    """A policy of one Allow statement."""
    statement = {"Effect": "Allow", "Action": action}
    if resource is not None:
        statement["Resource"] = resource
    if principal is not None:
        statement["Principal"] = principal
    return {"Version": "2012-10-17", "Statement": [statement | more]}


def ses_may_publish(topic_arn: str, account_id: str, key: str = "aws:SourceAccount") -> dict[str, Any]:
    condition = {"StringEquals": {key: account_id}}
    return allow("sns:Publish", topic_arn, principal={"Service": "ses.amazonaws.com"}, Condition=condition)


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    """Code and message with which a call is refused."""
    try:
        call()
    except ClientError as error:
        return error.response["Error"]["Code"], error.response["Error"]["Message"]
    raise AssertionError("the call was not refused")


def simple(source: str, *recipients: str, **more: Any) -> dict[str, Any]:
    """Arguments of version 2's SendEmail with simple content."""
    body = {"Subject": {"Data": "Hello"}, "Body": {"Text": {"Data": "A text"}}}
    to = list(recipients) or ["success@simulator.amazonses.com"]
    return {"FromEmailAddress": source, "Destination": {"ToAddresses": to}, "Content": {"Simple": body}} | more


class Post(msgspec.Struct, frozen=True):
    """One request that an endpoint got."""

    headers: dict[str, str]
    body: dict[str, Any]
    raw: str


class Endpoint:
    """An HTTP server that collects what SNS posts and answers with the next status, 200 when none is left."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.statuses: list[int] = []
        self.url = ""

    def wait(self, wanted: int) -> list[Post]:
        """So many posts; fails after a while without them."""
        ends = time.monotonic() + PATIENCE
        while len(self.posts) < wanted and time.monotonic() < ends:
            time.sleep(0.01)
        assert len(self.posts) == wanted, self.posts
        return self.posts


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    found = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"])).decode()
            body = json.loads(raw) if raw.startswith("{") else {}
            found.posts.append(Post({key.lower(): value for key, value in self.headers.items()}, body, raw))
            self.send_response(found.statuses.pop(0) if found.statuses else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}/sns"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


def check_signature(body: Mapping[str, Any]) -> None:
    """Verifies a message as a receiver does; raises InvalidSignature."""
    status, pem = fetch(body["SigningCertURL"])
    assert status == 200
    key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    digest = hashes.SHA256() if body["SignatureVersion"] == "2" else hashes.SHA1()  # noqa: S303 — what version 1 is
    key.verify(base64.b64decode(body["Signature"]), string_to_sign(body).encode(), padding.PKCS1v15(), digest)

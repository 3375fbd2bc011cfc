"""The WSGI application: finds out what a request is, who signed it, and has it answered."""

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl

from broker.sandbox import answers, authorize, control, operations, passing, signature, sns_calls, wire
from broker.sandbox.answers import Answer
from broker.sandbox.call import Call, Principal
from broker.sandbox.cloud import Cloud
from broker.sandbox.errors import AwsError
from broker.sandbox.faults import throttled
from broker.sandbox.state import Logged

_QUERY = {"ses", "sns", "sts", "iam"}
_NOBODY = Principal("", "", "", "", "user", "")


class Front:
    """One local AWS as a WSGI application."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(body)
        status, headers, content = self._answer(environ, body)
        headers["Content-Length"] = str(len(content))
        start_response(f"{status} {HTTPStatus(status).phrase}", list(headers.items()))
        return [content]

    def _answer(self, environ: dict[str, Any], body: bytes) -> Answer:
        path = environ["PATH_INFO"]
        query = dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
        if path.startswith(control.PREFIX):
            return control.answer(
                self._cloud, (environ["REQUEST_METHOD"], path.removeprefix(control.PREFIX)), query, body
            )
        if path.endswith(".pem"):
            pem = self._cloud.courier.certificate_at(path)
            return (200, {"Content-Type": "application/x-pem-file"}, pem) if pem else (404, {}, b"")
        message = _message(environ, body)
        try:
            signed = signature.read(message)
        except AwsError as error:
            return answers.refusal("sts", error)
        if signed is None:
            return _unsigned(self._cloud, query | dict(_form(body)))
        return self._aws(environ, message, signed)

    def _aws(self, environ: dict[str, Any], message: signature.Message, signed: signature.Signed) -> Answer:
        """One signed call, from the check of its signature to the line in the log."""
        service = "sesv2" if signed.service == "ses" and message.raw_path.startswith("/v2/") else signed.service
        now, began = datetime.now(UTC), time.monotonic()
        operation, about, who, error = "", "", _NOBODY, None
        try:
            found = self._cloud.accounts.find(signed.access_key_id, signed.token, now=now)
            signature.verify(message, signed, found.secret_access_key, now=now)
            who = found.principal
            operation, params = _parsed(service, message)
            about = _about(params)
            wire.check(service, operation, params)
            # What was done so far is part of what the call takes.
            self._cloud.closing.wait(max(began + self._cloud.dialect.latency_seconds - time.monotonic(), 0))
            call = Call(service, operation, signed.region, params, who, environ["REMOTE_ADDR"], now)
            reply = self._faulty(call, environ)
        except AwsError as refused:
            error = refused.code
            reply = answers.refusal(service, refused)
        status = reply[0]
        ended = datetime.now(UTC)
        logged = Logged(now, ended, who.account_id, who.arn, service, operation, about, signed.region, status, error)
        with self._cloud.state.lock:
            self._cloud.state.calls.append(logged)
        return reply

    def _faulty(self, call: Call, environ: dict[str, Any]) -> Answer:
        faults = self._cloud.faults
        fault = faults.take(call.service, call.operation, call.account_id)
        if fault is not None and fault.error == "late":
            faults.hold_back(lambda: self._perform(call, environ))
            raise faults.strike(fault, call.service)
        if fault is not None and not fault.after:
            raise faults.strike(fault, call.service)
        reply = self._perform(call, environ)
        if fault is not None:
            raise faults.strike(fault, call.service)
        return reply

    def _perform(self, call: Call, environ: dict[str, Any]) -> Answer:
        operation = operations.find(call.service, call.operation)
        if operation is None:
            return passing.pass_on(self._cloud, call, environ)
        if operation.slow:
            self._pace(call)
        if (resource := operation.resource(call)) is not None:
            authorize.require(self._cloud, call, operations.action_of(call), resource)
        return answers.answer(call.service, call.operation, operation.handle(self._cloud, call))

    def _pace(self, call: Call) -> None:
        """Refuses a call that comes sooner after the last one of its kind than the rate limit allows."""
        rate = self._cloud.dialect.rate_limit_per_second
        if rate is None:
            return
        with self._cloud.state.lock:
            key = (call.account_id, call.region, call.operation)
            now = time.monotonic()
            if now - self._cloud.state.last_calls.get(key, float("-inf")) < 1 / rate:
                raise throttled(call.service)
            self._cloud.state.last_calls[key] = now


def _message(environ: dict[str, Any], body: bytes) -> signature.Message:
    headers = {key[5:].replace("_", "-").lower(): value for key, value in environ.items() if key.startswith("HTTP_")}
    if environ.get("CONTENT_TYPE"):
        headers["content-type"] = environ["CONTENT_TYPE"]
    if environ.get("CONTENT_LENGTH"):
        headers["content-length"] = environ["CONTENT_LENGTH"]
    path, _, query = environ["REQUEST_URI"].partition("?")
    return signature.Message(environ["REQUEST_METHOD"], path, query, headers, body)


def _form(body: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(body.decode(), keep_blank_values=True)
    except UnicodeDecodeError:
        return []


def _parsed(service: str, message: signature.Message) -> tuple[str, Any]:
    """The operation that a request names and its parameters."""
    query = dict(parse_qsl(message.raw_query, keep_blank_values=True))
    if service == "sesv2":
        name, labels = wire.rest_operation(service, message.method, message.raw_path)
        return name, wire.rest_params(service, name, labels, (query, message.body))
    if service in _QUERY:
        form = query | dict(_form(message.body))
        if "Action" not in form:
            raise AwsError("MissingAction", "Missing Action")
        return form["Action"], wire.query_params(service, form["Action"], form)
    if "x-amz-target" in message.headers:
        return message.headers["x-amz-target"].rpartition(".")[2], wire.json_params(message.body)
    form = query | dict(_form(message.body))
    return form.get("Action", ""), form


def _about(params: Any) -> str:
    if not isinstance(params, dict):
        return ""
    return next((str(params[name]) for name in ("RoleArn", "EmailIdentity", "Identity") if name in params), "")


def _unsigned(cloud: Cloud, query: dict[str, str]) -> Answer:
    """Links in messages of SNS need no signature: confirming and ending a subscription."""
    try:
        match query:
            case {"Action": "ConfirmSubscription", "TopicArn": topic, "Token": token}:
                return answers.answer("sns", "ConfirmSubscription", sns_calls.confirm_by_token(topic, token))
            case {"Action": "Unsubscribe", "SubscriptionArn": arn}:
                sns_calls.unsubscribe_by_arn(cloud, arn)
                return answers.answer("sns", "Unsubscribe", {})
        raise AwsError("MissingAuthenticationToken", "Request is missing Authentication Token", 403)
    except AwsError as error:
        return answers.refusal("sns", error)

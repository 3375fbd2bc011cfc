"""Writes results and refusals of AWS calls as HTTP answers, in the protocol of each service."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4
from xml.sax.saxutils import escape

from broker.sandbox.errors import AwsError
from broker.sandbox.wire import model

Answer = tuple[int, dict[str, str], bytes]
"""Status, headers and body of an HTTP answer."""


def answer(service: str, operation: str, result: Mapping[str, Any]) -> Answer:
    """The HTTP answer of a call that succeeded; `result` has the members of botocore's output shape."""
    request_id = str(uuid4())
    headers = {"x-amzn-RequestId": request_id}
    if model(service).protocol != "query":
        return 200, headers | {"Content-Type": "application/json"}, json.dumps(result, default=_plain).encode()
    shape = model(service).operation_model(operation).output_shape
    wrapper = f"<{operation}Result>{_xml(shape, result)}</{operation}Result>" if shape else ""
    namespace = model(service).metadata.get("xmlNamespace", "")
    body = (
        f'<{operation}Response xmlns="{namespace}">{wrapper}'
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{operation}Response>"
    )
    return 200, headers | {"Content-Type": "text/xml"}, body.encode()


def _plain(value: Any) -> Any:
    return value.timestamp() if isinstance(value, datetime) else str(value)


def _xml(shape: Any, value: Any) -> str:
    match shape.type_name:
        case "structure":
            members = ((shape.members[name], name, part) for name, part in value.items() if part is not None)
            return "".join(
                _element(member.serialization.get("name", name), member, part) for member, name, part in members
            )
        case "list":
            name = shape.member.serialization.get("name", "member")
            return "".join(_element(name, shape.member, part) for part in value)
        case "map":
            names = tuple(
                part.serialization.get("name", word) for part, word in ((shape.key, "key"), (shape.value, "value"))
            )
            entries = (
                _element(names[0], shape.key, key) + _element(names[1], shape.value, part)
                for key, part in value.items()
            )
            return "".join(f"<entry>{entry}</entry>" for entry in entries)
        case "boolean":
            return "true" if value else "false"
        case "timestamp":
            return str(value.strftime("%Y-%m-%dT%H:%M:%SZ"))
        case _:
            return escape(str(value))


def _element(name: str, shape: Any, value: Any) -> str:
    return f"<{name}>{_xml(shape, value)}</{name}>"


_V2_CODES = {
    # The REST-JSON API names some of the same refusals differently (botocore, sesv2 service model).
    "AccessDenied": "AccessDeniedException",
    "InvalidParameterValue": "BadRequestException",
    "InvalidPolicy": "BadRequestException",
    "ValidationError": "BadRequestException",
    "ConfigurationSetDoesNotExist": "NotFoundException",
    "TemplateDoesNotExist": "NotFoundException",
    "Throttling": "TooManyRequestsException",
    "InvalidClientTokenId": "UnrecognizedClientException",
    "SignatureDoesNotMatch": "InvalidSignatureException",
    "ExpiredToken": "ExpiredTokenException",
    "MissingAuthenticationToken": "MissingAuthenticationTokenException",
}
_V2_STATUS = {"NotFoundException": 404, "TooManyRequestsException": 429}


def refusal(service: str, error: AwsError) -> Answer:
    """The HTTP answer of a call that was refused, in the service's protocol."""
    request_id = str(uuid4())
    headers = {"x-amzn-RequestId": request_id}
    if service in {"sesv2", "sqs"}:
        code = _V2_CODES.get(error.code, error.code) if service == "sesv2" else error.code
        body = json.dumps({"__type": code, "message": error.message}).encode()
        headers |= {"Content-Type": "application/json", "x-amzn-ErrorType": code}
        return _V2_STATUS.get(code, error.status), headers, body
    fault = "Sender" if error.status < 500 else "Receiver"
    text = (
        f"<ErrorResponse><Error><Type>{fault}</Type><Code>{escape(error.code)}</Code>"
        f"<Message>{escape(error.message)}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    )
    return error.status, headers | {"Content-Type": "text/xml"}, text.encode()

"""What each API call is given for a mail under a grant, as the SDKs and the AWS CLI name it. Pure.

Every ARN that a call takes is passed: a raw message with a From header needs FromArn besides SourceArn, whatever the
reference says of the one standing in for the other (Netflix/iep#367, loopingz/aws-smtp-relay#15).
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from broker.policies.calls import Call
from broker.policies.samples import TEMPLATE, UNSUBSCRIBE, Sample

Json = str | list["Json"] | dict[str, "Json"]
Parameters = dict[str, Json]

SUBJECT, TEXT = "News", "Hello."
# One click unsubscribes by a POST to the https address (RFC 8058, section 3); the header itself is RFC 2369.
UNSUBSCRIBE_HEADERS: Mapping[str, str] = MappingProxyType(
    {"List-Unsubscribe": f"<{UNSUBSCRIBE}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
)
_NO_DATA = "{}"


def parameters(call: Call, mail: Sample) -> Parameters:
    """The call's arguments, without the message of a raw one."""
    return _BUILDERS[call](mail)


def shown_headers(mail: Sample) -> dict[str, str]:
    """The headers that the recipient sees, which are ASCII: the From name is encoded where it has to be."""
    return {"From": mail.sender, "To": mail.to, "Subject": SUBJECT, **UNSUBSCRIBE_HEADERS}


def raw_message(mail: Sample) -> str:
    """The mail as text (RFC 5322), for what is no program that could make one."""
    headers = {**shown_headers(mail), "MIME-Version": "1.0", "Content-Type": "text/plain; charset=utf-8"}
    return "".join(f"{name}: {value}\n" for name, value in headers.items()) + f"\n{TEXT}\n"


def x_headers(mail: Sample) -> dict[str, str]:
    """What names the identities and the configuration set where no parameter can."""
    return {
        "X-SES-SOURCE-ARN": mail.arn,
        "X-SES-FROM-ARN": mail.arn,
        "X-SES-RETURN-PATH-ARN": mail.arn,
        "X-SES-CONFIGURATION-SET": mail.configuration_set,
    }


def _v2(mail: Sample) -> Parameters:
    return {
        "FromEmailAddress": mail.sender,
        "FromEmailAddressIdentityArn": mail.arn,
        "FeedbackForwardingEmailAddress": mail.return_path,
        "FeedbackForwardingEmailAddressIdentityArn": mail.arn,
        "ConfigurationSetName": mail.configuration_set,
    }


def _v1(mail: Sample) -> Parameters:
    return {
        "Source": mail.sender,
        "SourceArn": mail.arn,
        "ReturnPath": mail.return_path,
        "ReturnPathArn": mail.arn,
        "ConfigurationSetName": mail.configuration_set,
    }


def _headers() -> list[Json]:
    return [{"Name": name, "Value": value} for name, value in UNSUBSCRIBE_HEADERS.items()]


def _simple_v2(mail: Sample) -> Parameters:
    content: Json = {"Subject": {"Data": SUBJECT}, "Body": {"Text": {"Data": TEXT}}, "Headers": _headers()}
    return {**_v2(mail), "Destination": {"ToAddresses": [mail.to]}, "Content": {"Simple": content}}


def _template_v2(mail: Sample) -> Parameters:
    content: Json = {"TemplateName": TEMPLATE, "TemplateData": _NO_DATA, "Headers": _headers()}
    return {**_v2(mail), "Destination": {"ToAddresses": [mail.to]}, "Content": {"Template": content}}


def _bulk_v2(mail: Sample) -> Parameters:
    entry: Json = {"Destination": {"ToAddresses": [mail.to]}, "ReplacementHeaders": _headers()}
    content: Json = {"Template": {"TemplateName": TEMPLATE, "TemplateData": _NO_DATA}}
    return {**_v2(mail), "DefaultContent": content, "BulkEmailEntries": [entry]}


def _raw_v2(mail: Sample) -> Parameters:
    return {**_v2(mail), "Destination": {"ToAddresses": [mail.to]}}


def _simple_v1(mail: Sample) -> Parameters:
    content: Json = {"Subject": {"Data": SUBJECT}, "Body": {"Text": {"Data": TEXT}}}
    return {**_v1(mail), "Destination": {"ToAddresses": [mail.to]}, "Message": content}


def _template_v1(mail: Sample) -> Parameters:
    content: Parameters = {"Template": TEMPLATE, "TemplateData": _NO_DATA}
    return {**_v1(mail), "Destination": {"ToAddresses": [mail.to]}, **content}


def _bulk_v1(mail: Sample) -> Parameters:
    entry: Json = {"Destination": {"ToAddresses": [mail.to]}}
    return {**_v1(mail), "Template": TEMPLATE, "DefaultTemplateData": _NO_DATA, "Destinations": [entry]}


def _raw_v1(mail: Sample) -> Parameters:
    # Here Source is the envelope's sender, to which bounces go; From is in the message.
    return {
        "Source": mail.return_path,
        "SourceArn": mail.arn,
        "FromArn": mail.arn,
        "ReturnPathArn": mail.arn,
        "ConfigurationSetName": mail.configuration_set,
        "Destinations": [mail.to],
    }


_BUILDERS: Mapping[Call, Callable[[Sample], Parameters]] = MappingProxyType(
    {
        Call.v1_send_email: _simple_v1,
        Call.v1_send_raw_email: _raw_v1,
        Call.v1_send_templated_email: _template_v1,
        Call.v1_send_bulk_templated_email: _bulk_v1,
        Call.v2_send_email_simple: _simple_v2,
        Call.v2_send_email_raw: _raw_v2,
        Call.v2_send_email_template: _template_v2,
        Call.v2_send_bulk_email: _bulk_v2,
    }
)

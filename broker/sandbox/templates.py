"""E-mail templates: version 1's calls are moto's, and version 2's share its store. Nothing is rendered."""

from datetime import UTC, datetime
from typing import Any

from moto.ses.models import ses_backends

from broker.sandbox.call import Call
from broker.sandbox.cloud import Cloud
from broker.sandbox.errors import AwsError


def create(_cloud: Cloud, call: Call) -> dict[str, Any]:
    """Version 2's CreateEmailTemplate."""
    name, content = call.params["TemplateName"], call.params["TemplateContent"]
    known = ses_backends[call.account_id][call.region].templates
    if name in known:
        raise AwsError("AlreadyExistsException", f"Template {name} already exists.")
    known[name] = {
        "template_name": name,
        "subject_part": content.get("Subject", ""),
        "text_part": content.get("Text", ""),
        "html_part": content.get("Html", ""),
        "Timestamp": datetime.now(UTC).isoformat(),
    }
    return {}


def subject(call: Call, template: dict[str, Any]) -> str:
    """The subject of a template that is named or given inline. Raises AwsError TemplateDoesNotExist."""
    if "TemplateContent" in template:
        return str(template["TemplateContent"].get("Subject", ""))
    name = str(template.get("TemplateName"))
    found = ses_backends[call.account_id][call.region].templates.get(name)
    if found is None:
        raise AwsError("TemplateDoesNotExist", f"Template {name} does not exist")
    return str(found["subject_part"])

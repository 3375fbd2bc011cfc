"""The account-level suppression list of SES version 2."""

from typing import Any

from broker.sandbox.call import Call
from broker.sandbox.cloud import Cloud
from broker.sandbox.errors import AwsError
from broker.sandbox.identities import place_of


def put(cloud: Cloud, call: Call) -> dict[str, Any]:
    """An address that is there already gets the new reason (SES API v2, PutSuppressedDestination)."""
    address, reason = call.params["EmailAddress"], call.params["Reason"]
    if "@" not in address:
        raise AwsError("BadRequestException", f"Invalid email address: {address}.")
    if reason not in {"BOUNCE", "COMPLAINT"}:
        raise AwsError("BadRequestException", f"Invalid suppression reason: {reason}.")
    cloud.state.suppressed.setdefault(place_of(call), {})[address.lower()] = reason
    return {}


def get(cloud: Cloud, call: Call) -> dict[str, Any]:
    """Raises AwsError NotFoundException."""
    address = call.params["EmailAddress"]
    reason = cloud.state.suppressed.get(place_of(call), {}).get(address.lower())
    if reason is None:
        raise AwsError("NotFoundException", f"Email address {address} does not exist on your suppression list.", 404)
    told = {"EmailAddress": address, "Reason": reason, "LastUpdateTime": call.at.timestamp()}
    return {"SuppressedDestination": told}

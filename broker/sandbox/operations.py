"""The table of all AWS calls that are answered here: the handler, and the resource that the call is checked on.

Calls that are not listed pass to moto under the action `service:Operation`. Resource levels are those of the Service
Authorization Reference: some SES actions exist on `*` only, and a statement that names an identity never matches them.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from broker.sandbox import (
    arns,
    configuration_sets,
    identities,
    identity_policies,
    notifications,
    sending,
    sns_calls,
    sts,
    templates,
)
from broker.sandbox.call import Call
from broker.sandbox.cloud import Cloud

Handler = Callable[[Cloud, Call], dict[str, Any]]
Resource = Callable[[Call], str | None]
"""Names the resource of a call; None leaves the check to the handler."""


class Operation(msgspec.Struct, frozen=True):
    handle: Handler
    resource: Resource
    slow: bool = False
    """SES allows about one such call per second (Developer Guide, quotas)."""


def anything(_call: Call) -> str:
    return "*"


def by_handler(_call: Call) -> None:
    return None


def identity(call: Call) -> str:
    name = call.params.get("EmailIdentity") or call.params["Identity"]
    return name if name.startswith("arn:") else arns.identity_arn(call.account_id, call.region, name)


def configuration_set(call: Call) -> str:
    name = call.params.get("ConfigurationSetName") or call.params["ConfigurationSet"]["Name"]
    return arns.configuration_set_arn(call.account_id, call.region, name)


_V2: dict[str, Operation] = {
    "CreateEmailIdentity": Operation(identities.create, identity, slow=True),
    "DeleteEmailIdentity": Operation(identities.delete, identity, slow=True),
    "GetEmailIdentity": Operation(identities.describe, identity, slow=True),
    "ListEmailIdentities": Operation(identities.list_page, anything, slow=True),
    "GetAccount": Operation(identities.get_account, anything, slow=True),
    "PutEmailIdentityFeedbackAttributes": Operation(identities.put_feedback, identity, slow=True),
    "PutEmailIdentityConfigurationSetAttributes": Operation(identities.put_configuration_set, identity, slow=True),
    "PutEmailIdentityMailFromAttributes": Operation(identities.put_mail_from, identity, slow=True),
    "PutEmailIdentityDkimAttributes": Operation(identities.put_dkim, identity, slow=True),
    "CreateEmailIdentityPolicy": Operation(identity_policies.create, identity, slow=True),
    "UpdateEmailIdentityPolicy": Operation(identity_policies.update, identity, slow=True),
    "DeleteEmailIdentityPolicy": Operation(identity_policies.delete, identity, slow=True),
    "GetEmailIdentityPolicies": Operation(identity_policies.get_all, identity, slow=True),
    "CreateConfigurationSet": Operation(configuration_sets.create, configuration_set, slow=True),
    "GetConfigurationSet": Operation(configuration_sets.describe, configuration_set, slow=True),
    "DeleteConfigurationSet": Operation(configuration_sets.delete, configuration_set, slow=True),
    "ListConfigurationSets": Operation(configuration_sets.list_names, anything, slow=True),
    "PutConfigurationSetDeliveryOptions": Operation(
        configuration_sets.put_delivery_options, configuration_set, slow=True
    ),
    "CreateConfigurationSetEventDestination": Operation(
        configuration_sets.create_destination, configuration_set, slow=True
    ),
    "UpdateConfigurationSetEventDestination": Operation(
        configuration_sets.update_destination, configuration_set, slow=True
    ),
    "DeleteConfigurationSetEventDestination": Operation(
        configuration_sets.delete_destination, configuration_set, slow=True
    ),
    "GetConfigurationSetEventDestinations": Operation(
        configuration_sets.get_destinations, configuration_set, slow=True
    ),
    "SendEmail": Operation(sending.send, by_handler),
    "SendBulkEmail": Operation(sending.send_bulk, by_handler),
    "CreateEmailTemplate": Operation(templates.create, anything, slow=True),
}

_V1: dict[str, Operation] = {
    "PutIdentityPolicy": Operation(identity_policies.put_v1, anything, slow=True),
    "DeleteIdentityPolicy": Operation(identity_policies.delete_v1, anything, slow=True),
    "GetIdentityPolicies": Operation(identity_policies.get_v1, anything, slow=True),
    "ListIdentityPolicies": Operation(identity_policies.list_v1, anything, slow=True),
    "SetIdentityNotificationTopic": Operation(notifications.set_topic, anything, slow=True),
    "SetIdentityHeadersInNotificationsEnabled": Operation(notifications.set_headers, anything, slow=True),
    "SetIdentityFeedbackForwardingEnabled": Operation(notifications.set_forwarding, anything, slow=True),
    "GetIdentityNotificationAttributes": Operation(notifications.get, anything, slow=True),
    "VerifyDomainIdentity": Operation(identities.verify_v1, anything, slow=True),
    "VerifyEmailIdentity": Operation(identities.verify_v1, anything, slow=True),
    "VerifyEmailAddress": Operation(identities.verify_v1, anything, slow=True),
    "DeleteIdentity": Operation(identities.delete_v1, anything, slow=True),
    "ListIdentities": Operation(identities.list_v1, anything, slow=True),
    "GetIdentityVerificationAttributes": Operation(identities.verification_v1, anything, slow=True),
    "GetSendQuota": Operation(identities.get_send_quota, anything, slow=True),
    "CreateConfigurationSet": Operation(configuration_sets.create, anything, slow=True),
    "DeleteConfigurationSet": Operation(configuration_sets.delete, anything, slow=True),
    "DescribeConfigurationSet": Operation(configuration_sets.describe_v1, anything, slow=True),
    "ListConfigurationSets": Operation(configuration_sets.list_v1, anything, slow=True),
    "CreateConfigurationSetEventDestination": Operation(configuration_sets.create_destination, anything, slow=True),
    "UpdateConfigurationSetEventDestination": Operation(configuration_sets.update_destination, anything, slow=True),
    "DeleteConfigurationSetEventDestination": Operation(configuration_sets.delete_destination, anything, slow=True),
    "SendEmail": Operation(sending.send, by_handler),
    "SendTemplatedEmail": Operation(sending.send, by_handler),
    "SendBulkTemplatedEmail": Operation(sending.send_bulk_v1, by_handler),
    "SendRawEmail": Operation(sending.send, by_handler),
}

_SNS: dict[str, Operation] = {
    "Subscribe": Operation(sns_calls.subscribe, by_handler),
    "ConfirmSubscription": Operation(sns_calls.confirm, by_handler),
    "Unsubscribe": Operation(sns_calls.unsubscribe, by_handler),
    "GetSubscriptionAttributes": Operation(sns_calls.get_attributes, by_handler),
    "SetSubscriptionAttributes": Operation(sns_calls.set_attributes, by_handler),
    "ListSubscriptionsByTopic": Operation(sns_calls.list_by_topic, by_handler),
    "ListSubscriptions": Operation(sns_calls.list_all, anything),
    "Publish": Operation(sns_calls.publish, by_handler),
    "PublishBatch": Operation(sns_calls.publish_batch, by_handler),
    "GetTopicAttributes": Operation(sns_calls.get_topic_attributes, by_handler),
}

# Identity policies do not bind asking who one is: it needs no permission at all (STS reference, GetCallerIdentity).
_STS: dict[str, Operation] = {
    "GetCallerIdentity": Operation(sts.get_caller_identity, by_handler),
    "AssumeRole": Operation(sts.assume_role, by_handler),
}

_TABLE = {"sesv2": _V2, "ses": _V1, "sns": _SNS, "sts": _STS}


def find(service: str, name: str) -> Operation | None:
    return _TABLE.get(service, {}).get(name)


def action_of(call: Call) -> str:
    """Both versions of the SES API share the prefix `ses:`."""
    return f"{call.service.removesuffix('v2')}:{call.operation}"

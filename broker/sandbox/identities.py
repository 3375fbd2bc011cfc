"""Verified domains and addresses: SES version 2's identity calls and their version 1 counterparts."""

from hashlib import sha256
from typing import Any

from broker.sandbox import identity_policies
from broker.sandbox.call import Call
from broker.sandbox.cloud import Cloud
from broker.sandbox.errors import AwsError
from broker.sandbox.state import Identity, Place


def place_of(call: Call) -> Place:
    return (call.account_id, call.region)


def existing(cloud: Cloud, call: Call, name: str) -> Identity:
    """Raises AwsError NotFoundException."""
    if (identity := cloud.state.identity(place_of(call), name)) is None:
        raise AwsError("NotFoundException", f"Email identity {name} does not exist.", 404)
    return identity


def create(cloud: Cloud, call: Call) -> dict[str, Any]:
    """A new identity waits for its verification, which only the control API gives."""
    name = call.params["EmailIdentity"]
    if cloud.state.identity(place_of(call), name):
        raise AwsError("AlreadyExistsException", f"Email identity {name} already exist.")
    identity = cloud.state.add_identity(place_of(call), name, verified=False)
    identity.configuration_set = call.params.get("ConfigurationSetName")
    identity.tags = call.params.get("Tags", [])
    return {"IdentityType": _kind(identity), "VerifiedForSendingStatus": False, "DkimAttributes": _dkim(identity)}


def delete(cloud: Cloud, call: Call) -> dict[str, Any]:
    """The policies of an identity go with it."""
    identity = existing(cloud, call, call.params["EmailIdentity"])
    del cloud.state.identities[place_of(call)][identity.name]
    return {}


def describe(cloud: Cloud, call: Call) -> dict[str, Any]:
    identity = existing(cloud, call, call.params["EmailIdentity"])
    found = {
        "IdentityType": _kind(identity),
        "FeedbackForwardingStatus": identity.forwarding,
        "VerifiedForSendingStatus": identity.verified,
        "VerificationStatus": _status(identity),
        "DkimAttributes": _dkim(identity),
        "MailFromAttributes": _mail_from(identity),
        "Policies": identity_policies.readable(cloud, identity),
        "Tags": identity.tags,
    }
    return found | ({"ConfigurationSetName": identity.configuration_set} if identity.configuration_set else {})


def _kind(identity: Identity) -> str:
    return "EMAIL_ADDRESS" if identity.is_address else "DOMAIN"


def _status(identity: Identity) -> str:
    return "SUCCESS" if identity.verified else "PENDING"


def _dkim(identity: Identity) -> dict[str, Any]:
    if identity.is_address:
        return {"SigningEnabled": False, "Status": "NOT_STARTED", "SigningAttributesOrigin": "AWS_SES"}
    tokens = [sha256(f"{identity.arn} {at}".encode()).hexdigest()[:32] for at in range(3)]
    return {
        "SigningEnabled": identity.dkim_signing,
        "Status": _status(identity),
        "Tokens": tokens,
        "SigningAttributesOrigin": "AWS_SES",
        "CurrentSigningKeyLength": "RSA_2048_BIT",
    }


def _mail_from(identity: Identity) -> dict[str, Any]:
    found = {"BehaviorOnMxFailure": identity.behavior_on_mx_failure}
    if identity.mail_from_domain:
        found |= {"MailFromDomain": identity.mail_from_domain, "MailFromDomainStatus": "SUCCESS"}
    return found


def list_page(cloud: Cloud, call: Call) -> dict[str, Any]:
    """Pages of at most PageSize (default and limit 1000); the token is the last name of the page before."""
    size = min(call.params.get("PageSize") or 1000, 1000)
    after = call.params.get("NextToken") or ""
    with cloud.state.lock:
        known = sorted(cloud.state.identities.get(place_of(call), {}).items())
    rest = [identity for name, identity in known if name > after]
    page = [
        {
            "IdentityType": _kind(identity),
            "IdentityName": identity.name,
            "SendingEnabled": identity.verified,
            "VerificationStatus": _status(identity),
        }
        for identity in rest[:size]
    ]
    return {"EmailIdentities": page} | ({"NextToken": page[-1]["IdentityName"]} if len(rest) > size else {})


def get_account(cloud: Cloud, call: Call) -> dict[str, Any]:
    production = place_of(call) in cloud.state.production
    with cloud.state.lock:
        sent = sum((mail.account_id, mail.region) == place_of(call) for mail in cloud.state.mailbox)
    quota = (
        {"Max24HourSend": 50_000.0, "MaxSendRate": 14.0} if production else {"Max24HourSend": 200.0, "MaxSendRate": 1.0}
    )
    return {
        "DedicatedIpAutoWarmupEnabled": False,
        "EnforcementStatus": "HEALTHY",
        "ProductionAccessEnabled": production,
        "SendQuota": quota | {"SentLast24Hours": float(sent)},
        "SendingEnabled": True,
        "SuppressionAttributes": {"SuppressedReasons": ["BOUNCE", "COMPLAINT"]},
    }


def get_send_quota(cloud: Cloud, call: Call) -> dict[str, Any]:
    quota: dict[str, Any] = get_account(cloud, call)["SendQuota"]
    return quota


def put_feedback(cloud: Cloud, call: Call) -> dict[str, Any]:
    identity = existing(cloud, call, call.params["EmailIdentity"])
    identity.forwarding = call.params.get("EmailForwardingEnabled", False)
    return {}


def put_configuration_set(cloud: Cloud, call: Call) -> dict[str, Any]:
    identity = existing(cloud, call, call.params["EmailIdentity"])
    name = call.params.get("ConfigurationSetName")
    if name:
        cloud.state.configuration_set(place_of(call), name)
    identity.configuration_set = name
    return {}


def put_mail_from(cloud: Cloud, call: Call) -> dict[str, Any]:
    identity = existing(cloud, call, call.params["EmailIdentity"])
    domain = call.params.get("MailFromDomain")
    if domain and not domain.endswith(f".{identity.name.rpartition('@')[2]}"):
        raise AwsError("BadRequestException", f"Provided MAIL-FROM domain <{domain}> is not subdomain of the identity.")
    identity.mail_from_domain = domain
    identity.behavior_on_mx_failure = call.params.get("BehaviorOnMxFailure", "USE_DEFAULT_VALUE")
    return {}


def put_dkim(cloud: Cloud, call: Call) -> dict[str, Any]:
    existing(cloud, call, call.params["EmailIdentity"]).dkim_signing = call.params.get("SigningEnabled", False)
    return {}


def verify_v1(cloud: Cloud, call: Call) -> dict[str, Any]:
    """VerifyDomainIdentity, VerifyEmailIdentity and VerifyEmailAddress ask for a verification that stays pending."""
    name = call.params.get("Domain") or call.params["EmailAddress"]
    cloud.state.add_identity(place_of(call), name, verified=False)
    return {"VerificationToken": sha256(name.encode()).hexdigest()[:43]} if "Domain" in call.params else {}


def delete_v1(cloud: Cloud, call: Call) -> dict[str, Any]:
    cloud.state.identities.get(place_of(call), {}).pop(call.params["Identity"], None)
    return {}


def list_v1(cloud: Cloud, call: Call) -> dict[str, Any]:
    kind = {"EmailAddress": True, "Domain": False}.get(call.params.get("IdentityType", ""))
    with cloud.state.lock:
        known = list(cloud.state.identities.get(place_of(call), {}).values())
    return {"Identities": [each.name for each in known if kind is None or each.is_address is kind]}


def verification_v1(cloud: Cloud, call: Call) -> dict[str, Any]:
    named = ((name, cloud.state.identity(place_of(call), name)) for name in call.params["Identities"])
    words = {True: "Success", False: "Pending"}
    return {
        "VerificationAttributes": {name: {"VerificationStatus": words[each.verified]} for name, each in named if each}
    }

"""Accepts or refuses mail: whose identity, who may use it, may it reach its recipients.

Sources: Developer Guide, sending-authorization-delegate-sender-tasks-email (ARNs), request-production-access (sandbox),
IAM User Guide, policy evaluation across accounts.
"""

import msgspec

from broker.policies.context import Send, request_of
from broker.policies.evaluate import Decision, evaluate
from broker.sandbox import arns, authorize, identity_policies, messages, payloads, simulator
from broker.sandbox.call import Call
from broker.sandbox.cloud import Cloud
from broker.sandbox.envelope import Envelope
from broker.sandbox.errors import AwsError, ses_access_denied
from broker.sandbox.state import Identity, Mail


def send(cloud: Cloud, call: Call) -> dict[str, str]:
    """Every call that sends one message. Answers with its id; raises AwsError with SES's text."""
    return {"MessageId": _accept_all(cloud, call)[0]}


def send_bulk_v1(cloud: Cloud, call: Call) -> dict[str, list[dict[str, str]]]:
    """SendBulkTemplatedEmail."""
    return {"Status": [{"Status": "Success", "MessageId": each} for each in _accept_all(cloud, call)]}


def send_bulk(cloud: Cloud, call: Call) -> dict[str, list[dict[str, str]]]:
    """Version 2's SendBulkEmail."""
    return {"BulkEmailEntryResults": [{"Status": "SUCCESS", "MessageId": each} for each in _accept_all(cloud, call)]}


def _accept_all(cloud: Cloud, call: Call) -> list[str]:
    """Checks every message of a call before the first one goes out."""
    checked = []
    for envelope in messages.read(call, source_arn_covers_from=cloud.dialect.source_arn_covers_from):
        identity = _permitted(cloud, call, envelope)
        complete = _with_configuration_set(cloud, call, envelope, identity)
        _check_sandbox(cloud, call, complete, identity)
        checked.append((complete, identity))
    return [_accept(cloud, call, envelope, identity) for envelope, identity in checked]


def _accept(cloud: Cloud, call: Call, envelope: Envelope, identity: Identity) -> str:
    message_id = payloads.message_id(call.region, call.at)
    mail = Mail(
        message_id,
        call.account_id,
        call.principal.arn,
        call.region,
        envelope.source,
        identity.arn,
        envelope.return_path,
        envelope.recipients,
        envelope.subject,
        envelope.configuration_set,
        call.at,
    )
    who = call.principal
    sent = payloads.Sent(message_id, envelope, who.account_id, who.name, identity.arn, call.source_ip, call.at)
    with cloud.state.lock:
        cloud.state.mailbox.append(mail)
    cloud.later(lambda: simulator.carry_out(cloud, sent))
    return message_id


def _permitted(cloud: Cloud, call: Call, envelope: Envelope) -> Identity:
    """The identity of From, after each address was checked against the identity that is to permit it."""
    identity = _identity_for(cloud, call, (envelope.from_address, envelope.from_arn), envelope.actions[0])
    _authorize(cloud, call, envelope, identity)
    return_arn = envelope.return_path_arn or envelope.source_arn
    if envelope.return_path:
        bounces = _identity_for(cloud, call, (envelope.return_path, return_arn), envelope.actions[0])
        if bounces is not identity:
            _authorize(cloud, call, envelope, bounces)
    return identity


def _identity_for(cloud: Cloud, call: Call, named_by: tuple[str, str | None], action: str) -> Identity:
    """The identity that is to permit an address: the one of the ARN beside it, else one of the caller's own."""
    address, arn = named_by
    if arn is None:
        if (own := cloud.state.covering((call.account_id, call.region), address)) is None:
            raise unverified(call, [address])
        return own
    named = arns.parse(arn)
    name = named.resource.removeprefix("identity/")
    if not _aligned(address, name):
        raise AwsError("InvalidParameterValue", f"The address '{address}' does not align with the given ARN '{arn}'")
    identity = cloud.state.identity((named.account_id, named.region), name) if named.region == call.region else None
    if identity is None and named.account_id != call.account_id and named.region == call.region:
        # Nothing tells a stranger whether an identity exists: without a policy it is simply not permitted.
        raise ses_access_denied(call.principal.arn, action, arn)
    if identity is None or not identity.verified:
        raise unverified(call, [address])
    return identity


def unverified(call: Call, identities: list[str]) -> AwsError:
    """SES's one error for all that is not verified; it never says which rule failed."""
    listed = ", ".join(identities)
    failed = f"The following identities failed the check in region {call.region.upper()}: {listed}"
    return AwsError("MessageRejected", f"Email address is not verified. {failed}")


def _aligned(address: str, identity: str) -> bool:
    """An address identity is exactly its address; a domain covers its addresses and those of its sub-domains."""
    if "@" in identity:
        return address == identity
    domain = address.rpartition("@")[2].lower()
    return domain == identity.lower() or domain.endswith(f".{identity.lower()}")


def _authorize(cloud: Cloud, call: Call, envelope: Envelope, identity: Identity) -> None:
    """Within an account either side may allow; across accounts both must; a Deny on either side ends it."""
    documents = list(identity_policies.effective(cloud, identity).values())
    sensitive = cloud.dialect.from_case_sensitive
    for action in envelope.actions:
        question = _question(cloud, call, envelope, action)
        own = authorize.decision(cloud, call, action, identity.arn, _keys(question))
        theirs = evaluate(documents, question, identity_arn=identity.arn, from_case_sensitive=sensitive).decision
        said = {own, theirs}
        within = identity.account_id == call.account_id
        allowed = Decision.allow in said if within else said == {Decision.allow}
        if not allowed or Decision.explicit_deny in said:
            raise ses_access_denied(call.principal.arn, action, identity.arn)


def _question(cloud: Cloud, call: Call, envelope: Envelope, action: str) -> Send:
    feedback = envelope.return_path
    if feedback is None and not cloud.dialect.return_path_key_absent:
        feedback = envelope.from_address
    return Send(
        action=action,
        caller_account=call.account_id,
        caller_arn=call.principal.arn,
        from_address=envelope.from_address,
        from_display_name=envelope.from_display_name,
        feedback_address=feedback,
        recipients=envelope.recipients,
        time=call.at,
        source_ip=call.source_ip,
        secure_transport=cloud.dialect.secure_transport,
        context={"ses:ApiVersion": call.api_version},
    )


def _keys(question: Send) -> dict[str, tuple[str, ...]]:
    """The SES keys of a send, for the policies of the caller's own side."""
    return {key: values for key, values in request_of(question).keys.items() if key.startswith("ses:")}


def _with_configuration_set(cloud: Cloud, call: Call, envelope: Envelope, identity: Identity) -> Envelope:
    """The set must be the caller's own; an owner's default set does not exist in a delegate's account."""
    name = envelope.configuration_set
    own_identity = identity.account_id == call.account_id
    if name is None and own_identity:
        name = identity.configuration_set
    if name is None and identity.configuration_set and cloud.dialect.default_configuration_set_fails_delegated:
        raise AwsError(
            "ConfigurationSetDoesNotExist", f"Configuration set <{identity.configuration_set}> does not exist."
        )
    if name is not None:
        cloud.state.configuration_set((call.account_id, call.region), name)
        arn = arns.configuration_set_arn(call.account_id, call.region, name)
        action = envelope.actions[0]
        keys = _keys(_question(cloud, call, envelope, action))
        if envelope.configuration_set and authorize.decision(cloud, call, action, arn, keys) != Decision.allow:
            raise ses_access_denied(call.principal.arn, action, arn)
    return msgspec.structs.replace(envelope, configuration_set=name)


def _check_sandbox(cloud: Cloud, call: Call, envelope: Envelope, identity: Identity) -> None:
    """Until both accounts have left the sandbox, mail only reaches verified recipients and the simulator."""
    places = {(call.account_id, call.region), (identity.account_id, call.region)}
    if places <= cloud.state.production:
        return
    strangers = [
        each
        for each in envelope.recipients
        if not simulator.is_simulated(each) and cloud.state.covering((call.account_id, call.region), each) is None
    ]
    if strangers:
        raise unverified(call, strangers)

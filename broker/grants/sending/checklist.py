"""Everything but the policy that stops a send, as items: a rule over what is known of both sides."""

from collections.abc import Iterator
from email.utils import parseaddr

import msgspec

from broker.grants.sending.asked import Sending
from broker.grants.sending.items import Item, aside, ok, problem, unknown
from broker.identities.facts import Attributes
from broker.policies.arns import IdentityArn
from broker.policies.calls import CALLS, Call
from broker.policies.terms import ACTION_TO_IAM, Terms

_RAW = frozenset({Call.v1_send_raw_email, Call.smtp})
_ACCOUNT = "aws sesv2 get-account --region {} --query '[ProductionAccessEnabled,SendingEnabled]'"


class Known(msgspec.Struct, frozen=True):
    """What is known; None for what is not. `account_id` sends.

    `attributes` are the identity's, `sender` those of any identity in the sending account and Region, for what they say
    of the account. `secret`: the caller does not own the identity, so names of other identities and sets stay out.
    """

    identity: IdentityArn
    account_id: str | None = None
    verified: bool | None = None
    attributes: Attributes | None = None
    sender: Attributes | None = None
    terms: Terms | None = None
    secret: bool = False

    @property
    def own_account(self) -> bool:
        """Whether the identity's own account sends."""
        return self.account_id == self.identity.account_id


def checklist(send: Sending, known: Known) -> list[Item]:
    """One item for each thing that is looked at, in the order in which to go through them."""
    return [
        *_call(send, known),
        _region(send, known),
        _verified(known),
        *_addresses(send, known),
        *_arns(send, known),
        *_account(known.attributes, "owner", known.identity.region, known.identity.account_id),
        *([] if known.own_account else _account(known.sender, "delegate", known.identity.region, known.account_id)),
        *_own_side(send, known),
        *_default_set(send, known),
        *_children(send, known),
    ]


def _call(send: Sending, known: Known) -> Iterator[Item]:
    facts = CALLS[send.call]
    needs = f"{facts.title} is checked against {' and '.join(facts.actions)}"
    if known.terms is None:
        yield ok("action", f"{needs}.")
        return
    permitted = {name for action in known.terms.actions for name in ACTION_TO_IAM[action]}
    missing = [name for name in facts.actions if name not in permitted]
    if missing:
        fix = f"Use another call, or agree on the action {facts.term.value}."
        yield problem("action", f"{needs}, and the terms do not permit {' and '.join(missing)}.", fix)
    else:
        yield ok("action", f"{needs}, which the terms permit.")


def _region(send: Sending, known: Known) -> Item:
    wanted = known.identity.region
    if send.region is None:
        return unknown("region", "The Region of the send was not given.", f"Send through {wanted} and no other.")
    if send.region != wanted:
        sentence = f"The send goes through {send.region}, and the identity is in {wanted}."
        return problem("region", sentence, f"Send through {wanted}.")
    return ok("region", f"The send goes through the identity's Region, {wanted}.")


def _verified(known: Known) -> Item:
    code, name = "identity_verified", known.identity.name
    if known.verified is None:
        how = f"aws sesv2 get-email-identity --region {known.identity.region} --email-identity {name}"
        return unknown(code, f"Whether {name} is verified is not known here.", how)
    if known.attributes is not None and not known.attributes.listed:
        return problem(code, f"SES does not list {name} any more.", "The owner creates and verifies it again.")
    if not known.verified:
        return problem(code, f"SES has not verified {name}.", "The owner completes the verification.")
    return ok(code, f"SES has verified {name}.")


def _addresses(send: Sending, known: Known) -> Iterator[Item]:
    name, address = parseaddr(send.from_)
    yield _aligned("from_alignment", "From", address, known.identity)
    if name and not known.identity.is_domain:
        sentence = "Some callers saw SES refuse a display name beside the ARN of a single address (aws-sdk-js#1146)."
        yield unknown("from_display_name", sentence, "Send once with it; pass the bare address if SES refuses.")
    if send.return_path is not None:
        if send.return_path_arn not in {None, str(known.identity)}:
            sentence = "The Return-Path is permitted by another identity, whose policies are not looked at."
            yield unknown("return_path_alignment", sentence, "Simulate a send from that identity.")
        else:
            yield _aligned("return_path_alignment", "Return-Path", parseaddr(send.return_path)[1], known.identity)


def _aligned(code: str, what: str, address: str, identity: IdentityArn) -> Item:
    """SES Developer Guide, creating-identities: a domain covers its sub-domains, addresses keep their spelling."""
    domain = address.rpartition("@")[2].lower()
    if identity.is_domain:
        inside = domain == identity.domain or domain.endswith(f".{identity.domain}")
    else:
        inside = address == identity.name
    if inside:
        return ok(code, f"{what} {address} belongs to {identity.name}.")
    near = not identity.is_domain and address.lower() == identity.name.lower()
    fix = (
        f"Write it {identity.name}: upper and lower case count." if near else "Pass the ARN of the address's identity."
    )
    return problem(code, f"{what} {address} does not belong to {identity.name}: it does not align with the ARN.", fix)


def _arns(send: Sending, known: Known) -> Iterator[Item]:
    if known.own_account:
        return
    names = CALLS[send.call].arns
    if send.arns is None:
        yield unknown("arns", "Which ARNs the send passes was not given.", f"Pass {', '.join(names)}: {known.identity}")
        return
    needed = [name for name in names if send.return_path is not None or "return" not in name.lower()]
    needed = [name for name in needed if send.return_path is not None or "feedback" not in name.lower()]
    missing = [name for name in needed if name not in send.arns]
    if not missing:
        yield ok("arns", f"The send passes {', '.join(needed)}.")
        return
    fix = f"Pass {' and '.join(missing)} too: {known.identity}"
    if (send.call in _RAW and "FromArn" in missing) or "X-SES-FROM-ARN" in missing:
        fix += " (SourceArn alone was seen not to cover the From header: Netflix/iep#367)"
    yield problem("arns", f"The send does not pass {' and '.join(missing)}.", fix)


def _account(facts: Attributes | None, side: str, region: str, account_id: str | None) -> Iterator[Item]:
    """Both accounts have to be out of the sandbox (SES Developer Guide, sending-authorization-overview)."""
    account = f"The {side}'s account{f' {account_id}' if account_id else ''}"
    how = f"In it: {_ACCOUNT.format(region)}"
    if facts is None or facts.production_access is None:
        yield unknown(f"{side}_sandbox", f"{account} may be in the SES sandbox; this is not known here.", how)
    elif not facts.production_access:
        sentence = f"{account} is in the sandbox: mail reaches verified recipients and the mailbox simulator only."
        yield problem(f"{side}_sandbox", sentence, f"Ask AWS for production access in {region}.")
    else:
        yield ok(f"{side}_sandbox", f"{account} is out of the sandbox in {region}.")
    if facts is not None and facts.sending_enabled is False:
        fix = "Read the reasons in the SES console, answer AWS, and enable sending."
        yield problem(f"{side}_sending", f"The sending of {account[0].lower()}{account[1:]} is paused.", fix)


def _own_side(send: Sending, known: Known) -> Iterator[Item]:
    """What the caller's account has to allow and to have: nobody else can look at it."""
    if known.own_account:
        return
    actions = ", ".join(CALLS[send.call].actions)
    sentence = f"The sender's own IAM policy has to allow {actions} on {known.identity} as well."
    yield unknown("delegate_iam", sentence, "Compare it with the IAM policy of the sending kit.")
    if send.configuration_set is None:
        sentence = "The send names no configuration set: bounces come by mail, and no events are published."
        yield aside(unknown("configuration_set", sentence, "Name one of the sending account."))
        return
    owner = known.account_id or "ACCOUNT"
    arn = (
        f"arn:{known.identity.partition}:ses:{known.identity.region}:{owner}:configuration-set/{send.configuration_set}"
    )
    sentence = f"The set has to exist in the sending account, and its IAM policy to allow {actions} on {arn}."
    how = f"aws sesv2 get-configuration-set --region {known.identity.region} --configuration-set-name"
    yield unknown("configuration_set", sentence, f"{how} {send.configuration_set}")


def _default_set(send: Sending, known: Known) -> Iterator[Item]:
    """The owner's default is looked for in the account that sends; AWS does not document what a delegate gets."""
    code = "default_configuration_set"
    if known.own_account or send.configuration_set is not None:
        return
    if known.attributes is None or known.attributes.dkim is None:
        how = "The owner looks at default_configuration_set of the identity."
        yield unknown(code, "Whether the identity has a default configuration set is not known here.", how)
    elif name := known.attributes.default_configuration_set:
        shown = "a default configuration set" if known.secret else f"the default configuration set {name}"
        sentence = f"The identity has {shown}, which the sending account lacks: the send may fail for it."
        yield unknown(code, sentence, "Name a configuration set of the sending account in each send.")
    else:
        yield ok(code, "The identity has no default configuration set.")


def _children(send: Sending, known: Known) -> Iterator[Item]:
    """The most specific identity supplies the settings of a mail (SES Developer Guide, creating-identities)."""
    if known.attributes is None:
        return
    address = parseaddr(send.from_)[1]
    nearer = [
        name for name in known.attributes.overlapping if _covers(name, address) and len(name) > len(known.identity.name)
    ]
    if nearer:
        which = "another identity of the owner" if known.secret else ", ".join(sorted(nearer))
        sentence = f"{address} is also covered by {which}: its own DKIM, notifications and default set may apply."
        how = "The owner looks at that identity; the policies that count are those of the ARN that is passed."
        yield aside(unknown("child_identity", sentence, how))


def _covers(name: str, address: str) -> bool:
    domain = address.rpartition("@")[2].lower()
    return name == address if "@" in name else domain == name.lower() or domain.endswith(f".{name.lower()}")

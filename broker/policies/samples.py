"""A mail that the terms permit, as an example: who it is from, what it shows, where it goes. Pure."""

from collections.abc import Sequence
from email.utils import formataddr

import msgspec

from broker.policies.arns import IdentityArn, parse_identity_arn, principal_account
from broker.policies.terms import Terms

SIMULATOR = "success@simulator.amazonses.com"  # SES's mailbox simulator: counts for nothing (send-email-simulator)
CONFIGURATION_SET = "YOUR-CONFIGURATION-SET"
UNSUBSCRIBE = "https://unsubscribe.example.com/one-click?to=RECIPIENT-TOKEN"
TEMPLATE = "YOUR-TEMPLATE"


class Sample(msgspec.Struct, frozen=True):
    """One mail under the terms; `name` None where no From name is wanted. `accounts` are the delegate's."""

    identity: IdentityArn
    accounts: tuple[str, ...]
    address: str
    name: str | None
    return_path: str
    to: str
    configuration_set: str

    @property
    def arn(self) -> str:
        """The identity's ARN."""
        return str(self.identity)

    @property
    def sender(self) -> str:
        """The From header; a name beyond ASCII as an encoded word (RFC 2047)."""
        return formataddr((self.name, self.address)) if self.name else self.address


def sample(terms: Terms, *, identity_arn: str, configuration_set: str | None = None) -> Sample:
    """Each limit's first entry, with its wildcards filled in; what is not limited gets a likely value."""
    identity = parse_identity_arn(identity_arn)
    usual = (f"newsletter@{identity.name}", f"bounces@{identity.name}")
    own = usual if identity.is_domain else (identity.name, identity.name)
    return Sample(
        identity=identity,
        accounts=tuple(sorted({principal_account(each) for each in terms.principals})),
        address=_address(terms.from_addresses, own[0]),
        name=_filled(terms.from_display_names[0], "News") if terms.from_display_names else None,
        return_path=_address(terms.feedback_addresses, own[1]),
        to=_recipient(terms.recipients),
        configuration_set=configuration_set or CONFIGURATION_SET,
    )


def _address(patterns: Sequence[str], usual: str) -> str:
    if not patterns:
        return usual
    local, at, domain = patterns[0].rpartition("@")
    return f"{_filled(local, 'news')}{at}{domain}"


def _recipient(patterns: Sequence[str]) -> str:
    if not patterns:
        return SIMULATOR
    # "*example.org" and "*@example.org" both match an address of that domain.
    local, at, domain = patterns[0].rpartition("@")
    if not at:
        tail = patterns[0].lstrip("*").replace("*", "").replace("?", "a")
        return f"someone@{tail.lstrip('.')}" if tail else SIMULATOR
    return f"{_filled(local, 'someone')}@{_filled(domain, 'example.com')}"


def _filled(pattern: str, usual: str) -> str:
    """A text that the pattern matches."""
    plain = pattern.replace("*", "").replace("?", "a")
    return plain or usual

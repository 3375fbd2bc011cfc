"""What is behind SES's refusals to store a policy. Pure."""

from collections.abc import Iterator

from broker.policies.causes import About, Cause, Parts
from broker.policies.validate import KNOWN_KEYS


def unknown_key(parts: Parts, about: About) -> Iterator[Cause]:
    """A key that SES does not store."""
    key = parts.get("key", "")
    spelled = next((known for known in KNOWN_KEYS if known.lower() == key.lower()), None)
    if spelled and spelled != key:
        yield Cause(
            f"SES compares the spelling of keys when a policy is stored: {key} is written {spelled}.",
            f"Write {spelled}.",
            "broker policy lint names every such key.",
        )
        return
    yield Cause(
        f"SES does not take the condition key {key or 'of the text'} in a policy of an identity.",
        f"Use one of {', '.join(sorted(KNOWN_KEYS))}.",
        "Look at the spelling; recurring times of day cannot be written at all.",
    )


def principal(parts: Parts, about: About) -> Iterator[Cause]:
    """A principal that SES does not store."""
    yield Cause(
        "The user or role does not exist, or was created a moment ago.",
        "Look at the spelling of its ARN and path, wait a minute, and store the policy again.",
        "aws iam get-user or get-role in the delegate's account.",
    )
    yield Cause(
        "The principal's account has not enabled the Region of the identity (terraform-provider-aws#22549).",
        f"The delegate enables {about.identity.region if about.identity else 'the Region'} in its account.",
        "aws account list-regions in the delegate's account.",
    )
    yield Cause(
        "SES may take no roles: its pages name accounts, users and services as principals.",
        "Agree on the account as principal, and limit the role by its own IAM policy.",
        "Try with the account id.",
    )


def full(parts: Parts, about: About) -> Iterator[Cause]:
    """A 21st policy (SES Developer Guide, policy-anatomy)."""
    yield Cause(
        "SES takes 20 policies of 4 KB on one identity.",
        "Delete one that nobody needs, or put several statements into one document.",
        "aws sesv2 get-email-identity-policies lists them; GET /v1/identities/{id} says how much room there is.",
    )


def name(parts: Parts, about: About) -> Iterator[Cause]:
    """A policy's name (SES Developer Guide, policy-anatomy)."""
    yield Cause(
        "The name of a policy has 1 to 64 letters, digits, dashes and underscores.",
        "Choose another name.",
        "broker policy lint names every such name.",
    )

"""A shell script with which an owner takes access back by itself: AWS CLI calls, whether or not the broker runs."""

import hashlib
import json
import shlex
from collections.abc import Iterable, Iterator, Sequence
from uuid import UUID

import msgspec

from broker.policies.arns import IdentityArn
from broker.policies.deny import documents, shares
from broker.policies.withdraw import Withdrawal


class Target(msgspec.Struct, frozen=True):
    """One identity: the grants that end on it, what has to go, whom a Deny names, and what goes on letting them send.

    `by_hand` are names of the owner's own policies, as the export calls them.
    """

    identity: IdentityArn
    grants: tuple[UUID, ...]
    going: Withdrawal
    denied: tuple[str, ...] = ()
    residual: tuple[str, ...] = ()
    by_hand: tuple[str, ...] = ()


def revoke_script(targets: Sequence[Target]) -> str:
    """The script for these identities, in this order; in each account every Deny comes before every removal.

    It is run once with the credentials of each account, and again if it is interrupted or SES was busy.
    """
    accounts = list(dict.fromkeys(target.identity.account_id for target in targets))
    lines = [*_HEAD, f"# Accounts: {', '.join(accounts) or 'none, for there is nothing to take back'}.", *_START]
    regions = [target.identity.region for target in targets]
    lines.append(f"account=$({shlex.join((*_WHO, *regions[:1]))}) || exit 1")
    for account in accounts:
        own = [target for target in targets if target.identity.account_id == account]
        lines += ["", f'if [ "$account" = {account} ]; then', "known=yes", *_account(own), "fi"]
    return "\n".join([*lines, *_END]) + "\n"


def deny_name(document: str) -> str:
    """The name of a Deny that the owner puts in place: one the broker never touches, the same for the same content."""
    return f"ses-revoke-{hashlib.sha256(document.encode()).hexdigest()[:16]}"


_HEAD = (
    "#!/bin/sh",
    "# Takes access to SES identities back, with the AWS CLI and without the delegation broker. Run it with the",
    "# credentials of the account of the identities, once for each account; running it twice does no harm.",
    "# Revoke the grants at the broker as well, or remove the role you gave it: it puts back what is still agreed.",
)
_WHO = ("aws", "sts", "get-caller-identity", "--query", "Account", "--output", "text", "--region")
_START = (
    "# SES takes about one such call a second.",
    "export AWS_RETRY_MODE=standard AWS_MAX_ATTEMPTS=10",
    "failed=",
    "known=",
)
_END = (
    "",
    'if [ -z "$known" ]; then',
    '    echo "These credentials are of account $account, which has nothing to take back here." >&2',
    "    exit 1",
    "fi",
    'if [ -n "$failed" ]; then',
    '    echo "Some of it is still there: run this again." >&2',
    "    exit 1",
    "fi",
    'echo "SES shows none of these grants in account $account any more."',
)


def _account(targets: Sequence[Target]) -> Iterator[str]:
    yield "# 1. Nobody named here sends any more: a Deny wins over every Allow."
    for target in targets:
        yield from _denies(target)
    yield "# 2. What let them send goes; what others hold in the same policy stays."
    for target in targets:
        yield from _removals(target)
    yield "# 3. What SES shows now. AWS gives no bound for its sending hosts; mail that was accepted is not recalled."
    for target in targets:
        yield from _look(target)
    if denies := [line for target in targets for line in _ends_of_denies(target)]:
        yield "# When this was clean for 20 minutes the Denies may go, and must before anybody named is let in again:"
        yield from denies


def _denies(target: Target) -> Iterator[str]:
    yield f"# {_of(target)}"
    if not target.denied:
        yield "#   No Deny: it would shut out somebody who is to go on sending. The removal below does it alone."
    for share in _shares(target):
        yield from _deny(target, share)


def _deny(target: Target, share: Sequence[str], indent: str = "") -> Iterator[str]:
    """One Deny of them all; where SES refuses it for a principal, one of each half.

    SES takes no policy that names a principal which does not exist (IAM User Guide,
    reference_policies_elements_principal), and a role may be deleted at any time: it is to spare nobody else.
    """
    document = _document(target, share)
    create = _aws(target, "create-email-identity-policy", deny_name(document), document)
    if len(share) == 1:
        # Refused when it is there already, or when the identity has 20 policies: the look below decides.
        yield f"{indent}{create} || :"
        return
    yield f"{indent}refused=$({create} 2>&1) || case $refused in"
    yield f"{indent}*rincipal*) # SES does not know one of these: each half of them by itself."
    for half in _halves(share):
        yield from _deny(target, half, indent + "    ")
    yield f"{indent}    ;;"
    yield f'{indent}*) echo "$refused" >&2 ;;'
    yield f"{indent}esac"


def _shares(target: Target) -> Iterable[Sequence[str]]:
    return shares(target.denied, identity_arn=str(target.identity))


def _halves(share: Sequence[str]) -> Iterable[Sequence[str]]:
    middle = len(share) // 2
    return share[:middle], share[middle:]


def _document(target: Target, share: Sequence[str]) -> str:
    (document,) = documents(share, identity_arn=str(target.identity))
    return document


def _removals(target: Target) -> Iterator[str]:
    yield f"# {_of(target)}"
    for name in (*target.going.delete, *target.by_hand):
        yield _aws(target, "delete-email-identity-policy", name) + " || :"
    for name, document in target.going.reduce.items():
        yield _aws(target, "update-email-identity-policy", name, document) + " || :"
    for name in target.going.unreadable:
        yield f"#   {name} cannot be read: look at it, and delete it if it is for one of these grants."
    for name in target.residual:
        # A name is of letters, digits, - and _ where SES made it; a line end in a comment would be a command.
        yield f"#   {json.dumps(name)} is not the broker's, and may still let them send: look at it."


def _look(target: Target) -> Iterator[str]:
    identity = target.identity
    read = ("aws", "sesv2", "get-email-identity-policies", "--region", identity.region, "--email-identity")
    yield f"held=$({shlex.join((*read, identity.name, '--query', 'Policies', '--output', 'json'))}) || failed=yes"
    yield f"for grant in {' '.join(grant.hex for grant in target.grants)}; do"
    yield '    case "$held" in *"$grant"*)'
    yield f'        echo "Grant $grant is still on "{shlex.quote(str(identity))} >&2'
    yield "        failed=yes ;;"
    yield "    esac"
    yield "done"


def _ends_of_denies(target: Target) -> Iterable[str]:
    for share in _shares(target):
        first, *more = (deny_name(_document(target, each)) for each in _parts(share))
        lift = _aws(target, "delete-email-identity-policy", first)
        yield f"#   {lift}"
        if more:
            yield "#   and those of halves, where they were needed (SES says of the others that they are not there):"
            yield f'#   for name in {" ".join(more)}; do {lift.removesuffix(first)}"$name"; done'


def _parts(share: Sequence[str]) -> Iterator[Sequence[str]]:
    """Whom each Deny may name that `_deny` makes of them: all, and halves of halves."""
    yield share
    if len(share) > 1:
        for half in _halves(share):
            yield from _parts(half)


def _of(target: Target) -> str:
    count = "1 grant" if len(target.grants) == 1 else f"{len(target.grants)} grants"
    return f"{target.identity.name} in {target.identity.region}: {count}"


def _aws(target: Target, operation: str, policy: str, document: str | None = None) -> str:
    identity = target.identity
    words = ["aws", "sesv2", operation, "--region", identity.region, "--email-identity", identity.name]
    words += ["--policy-name", policy]
    return shlex.join(words if document is None else [*words, "--policy", document])

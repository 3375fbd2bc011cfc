"""What an owner can do by hand where SES does not let the broker take a grant away."""

import shlex
from collections.abc import Collection, Mapping
from uuid import UUID

from broker.policies.shares import Tenancy, going, without


def by_hand(
    policies: Mapping[str, str], grants: Collection[Tenancy], grant_id: UUID, *, name: str, region: str
) -> list[str]:
    """Commands for a shell, of AWS's CLI, that take this grant off the identity and no living one with it.

    A policy that holds living grants, too, is replaced by what is left of it (SES API v2, UpdateEmailIdentityPolicy).
    """
    others = [each.id for each in grants if not each.living and each.id != grant_id]
    doomed, tainted = going(policies, {}, [each for each in grants if each.id not in others])
    where = ("--region", region, "--email-identity", name, "--policy-name")
    deletes = [("delete-email-identity-policy", *where, policy) for policy in doomed]
    updates = [
        ("update-email-identity-policy", *where, policy, "--policy", without(policies[policy], [grant_id, *others]))
        for policy in sorted(tainted)
    ]
    return [shlex.join(("aws", "sesv2", *command)) for command in (*deletes, *updates)]

"""Identity policies in memory, held to the same contract as the gateway (test_identity_policies.py)."""

from collections.abc import Awaitable, Callable

from broker.aws_access import RoleAccess
from broker.errors import Refused, Unavailable

MOST = 20


class FakeSes:
    """One identity's policies per name. `before` is called with (operation, policy name) and
    may raise or change things; `check` may refuse a document; `after_create` is awaited when SES has done a create and
    not yet answered. Reads show `stale`, where it is set."""

    def __init__(self) -> None:
        self.policies: dict[str, dict[str, str]] = {}
        self.calls: list[tuple[str, str]] = []
        self.before: Callable[[str, str], None] = lambda _operation, _name: None
        self.check: Callable[[str], None] = lambda _document: None
        self.stale: dict[str, str] | None = None
        self.after_create: Callable[[], Awaitable[object]] | None = None

    def hold(self, account: str, identity: str, **policies: str) -> dict[str, str]:
        """Makes the identity exist with these policies; the dictionary is the live store."""
        return self.policies.setdefault(f"{account}/{identity}", dict(policies))

    async def read_policies(self, access: RoleAccess, identity: str) -> dict[str, str]:
        """Everything on the identity."""
        held = self._at(access, identity, "read", "")
        return dict(held if self.stale is None else self.stale)

    async def create_policy(self, access: RoleAccess, identity: str, name: str, document: str) -> None:
        """Refuses a name that exists and the 21st policy."""
        held = self._at(access, identity, "create", name)
        if name in held:
            raise Refused(f"Policy {name} already exists.", code="AlreadyExistsException")
        if len(held) >= MOST:
            raise Refused("Too many policies.", code="LimitExceededException")
        self.check(document)
        held[name] = document
        if self.after_create is not None:
            await self.after_create()

    async def delete_policy(self, access: RoleAccess, identity: str, name: str) -> None:
        """Succeeds for a missing one."""
        self._at(access, identity, "delete", name).pop(name, None)

    def _at(self, access: RoleAccess, identity: str, operation: str, name: str) -> dict[str, str]:
        self.calls.append((operation, name))
        self.before(operation, name)
        try:
            return self.policies[f"{access.account_id}/{identity}"]
        except KeyError as error:
            raise Refused(f"Email identity {identity} does not exist.", code="NotFoundException") from error


def throttled(_operation: str, _name: str) -> None:
    """SES answers nothing but 429."""
    raise Unavailable("Maximum sending rate exceeded.")


def no_deletes(operation: str, _name: str) -> None:
    """The owner's role lacks the right to delete policies."""
    if operation == "delete":
        raise Refused("User is not authorized to perform ses:DeleteEmailIdentityPolicy", code="AccessDenied")

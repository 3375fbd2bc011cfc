"""Accounts, their administrators, IAM users and role sessions: who a signed request comes from and what binds it.

Users, roles and policies live in moto's IAM; administrators and sessions live here.
"""

import secrets
import string
from collections.abc import Iterator
from datetime import datetime, timedelta
from threading import Lock
from typing import Any

import msgspec
from moto.iam.models import iam_backends

from broker.sandbox import arns
from broker.sandbox.call import Principal
from broker.sandbox.errors import AwsError

_ADMINISTRATOR = "administrator"
_KEY_LETTERS = string.ascii_uppercase + "234567"


class Credentials(msgspec.Struct, frozen=True):
    """What a caller signs with; `token` and `expires_at` only for role sessions."""

    access_key_id: str
    secret_access_key: str
    token: str | None
    expires_at: datetime | None
    principal: Principal


def _new_id(prefix: str) -> str:
    return prefix + "".join(secrets.choice(_KEY_LETTERS) for _ in range(16))


class Accounts:
    """All accounts of one local AWS. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._administrators: dict[str, Credentials] = {}
        self._issued: dict[str, Credentials] = {}

    def open(self, account_id: str) -> Credentials:
        """The credentials of the account's administrator, made at the first call. Raises AwsError for a bad id."""
        if not (len(account_id) == 12 and account_id.isdigit()):
            raise AwsError("ValidationError", "An account id has 12 digits.")
        with self._lock:
            if account_id not in self._administrators:
                arn = f"arn:aws:iam::{account_id}:user/{_ADMINISTRATOR}"
                key = _new_id("AKIA")
                who = Principal(account_id, arn, _new_id("AIDA"), _ADMINISTRATOR, "admin", key)
                made = Credentials(key, secrets.token_urlsafe(30), None, None, who)
                self._administrators[account_id] = self._issued[key] = made
            return self._administrators[account_id]

    def exists(self, account_id: str) -> bool:
        return account_id in self._administrators

    def open_session(
        self, role: Any, session_name: str, *, policies: tuple[str, ...], lifetime: timedelta, now: datetime
    ) -> Credentials:
        """New temporary credentials of a role. `role` is moto's Role."""
        partition = arns.parse(role.arn).partition
        arn = f"arn:{partition}:sts::{role.account_id}:assumed-role/{role.name}/{session_name}"
        key = _new_id("ASIA")
        user_id = f"{role.id}:{session_name}"
        who = Principal(role.account_id, arn, user_id, role.name, "role", key, role.arn, policies)
        made = Credentials(key, secrets.token_urlsafe(30), secrets.token_urlsafe(120), now + lifetime, who)
        with self._lock:
            self._issued[key] = made
        return made

    def find(self, access_key_id: str, token: str | None, *, now: datetime) -> Credentials:
        """Raises AwsError InvalidClientTokenId for an unknown key or token and ExpiredToken for an ended session."""
        found = self._issued.get(access_key_id) or _user_key(access_key_id)
        if found is None or found.token != token:
            raise AwsError("InvalidClientTokenId", "The security token included in the request is invalid.", 403)
        if found.expires_at is not None and now >= found.expires_at:
            raise AwsError("ExpiredToken", "The security token included in the request is expired", 403)
        return found

    def unique_id(self, arn: str) -> str | None:
        """The unique id (AIDA…, AROA…) of a user or role that exists now, None when there is none by this ARN."""
        named = arns.parse(arn)
        if named.resource == f"user/{_ADMINISTRATOR}" and self.exists(named.account_id):
            return self._administrators[named.account_id].principal.user_id
        backend = iam_backends[named.account_id][named.partition]
        for user in list(backend.users.values()):
            if user.arn == arn:
                return user_id(user)
        return next((str(role.id) for role in list(backend.roles.values()) if role.arn == arn), None)


def user_id(user: Any) -> str:
    """AWS's ids of users begin with AIDA; moto's do not."""
    return f"AIDA{user.id[:16].upper()}"


def _user_key(access_key_id: str) -> Credentials | None:
    """The key of an IAM user that was made through the IAM API, if it is still active."""
    for account_id in list(iam_backends):
        for partition in arns.PARTITIONS:
            for user in list(iam_backends[account_id][partition].users.values()):
                for key in user.access_keys:
                    if key.access_key_id == access_key_id and key.status == "Active":
                        who = Principal(account_id, user.arn, user_id(user), user.name, "user", access_key_id)
                        return Credentials(access_key_id, key.secret_access_key, None, None, who)
    return None


def role_named(arn: str) -> Any:
    """moto's Role by its ARN, None when it does not exist."""
    named = arns.parse(arn)
    roles = list(iam_backends[named.account_id][named.partition].roles.values())
    return next((role for role in roles if role.arn == arn), None)


def managed_policy(arn: str) -> str:
    """The document of a customer-managed policy. Raises AwsError NoSuchEntity."""
    named = arns.parse(arn)
    policy = iam_backends[named.account_id][named.partition].managed_policies.get(arn)
    if policy is None:
        raise AwsError("NoSuchEntity", f"Policy {arn} does not exist.", 404)
    return next(str(version.document) for version in policy.versions if version.is_default)


def policies_of(principal: Principal) -> list[str]:
    """The inline and attached policies of a user (with its groups) or of the role behind a session."""
    backend = iam_backends[principal.account_id][arns.parse(principal.arn).partition]
    if principal.kind == "role":
        role = next((role for role in backend.roles.values() if role.name == principal.name), None)
        return list(_documents(role)) if role is not None else []
    user = backend.users.get(principal.name)
    if user is None:
        return []
    groups = [group for group in backend.groups.values() if user in group.users]
    return [document for holder in (user, *groups) for document in _documents(holder)]


def _documents(holder: Any) -> Iterator[str]:
    yield from holder.policies.values()
    for policy in holder.managed_policies.values():
        yield next(version.document for version in policy.versions if version.is_default)

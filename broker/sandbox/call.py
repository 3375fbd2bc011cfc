"""One AWS API call as the handlers see it: who calls what, where, with which parameters."""

from datetime import datetime
from typing import Any, Literal

import msgspec


class Principal(msgspec.Struct, frozen=True):
    """Who signed a call. `kind` decides whose policies bind: an account's administrator is bound by none."""

    account_id: str
    arn: str
    user_id: str
    name: str
    """The user's or role's name, which SES reports as `callerIdentity`."""
    kind: Literal["admin", "user", "role"]
    access_key_id: str
    role_arn: str = ""
    """The role behind a session, with its path; empty for users."""
    session_policies: tuple[str, ...] = ()


class Call(msgspec.Struct, frozen=True):
    """`service` is botocore's name (`ses` is version 1 of the SES API, `sesv2` version 2); `params` its input shape."""

    service: str
    operation: str
    region: str
    params: dict[str, Any]
    principal: Principal
    source_ip: str
    at: datetime

    @property
    def account_id(self) -> str:
        return self.principal.account_id

    @property
    def api_version(self) -> str:
        return "2" if self.service == "sesv2" else "1"

"""Reads the ARNs of SES identities and of IAM principals, and says which principal covers which."""

import re
from functools import lru_cache

import msgspec

PARTITIONS = ("aws", "aws-cn", "aws-us-gov")
ANYBODY = "*"

_LONGEST = 1_024  # characters of the longest principal; what is longer is none, and is not kept in the cache
_ACCOUNT = re.compile(r"[0-9]{12}")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]{1,2}")
_DOMAIN = re.compile(
    r"(?=.{1,253}$)([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)+[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])"
)
_LOCAL_PART = re.compile(r"[!-?A-~]{1,64}")  # visible ASCII without "@"
# IAM User Guide, reference_iam-quotas: paths up to 512, user and role names up to 64 of these characters.
_IAM_RESOURCE = re.compile(r"(?P<kind>user|role)(?P<path>/(?:[!-.0-~]+/)*)(?P<name>[\w+=,.@-]{1,64})", re.ASCII)
_SESSION = re.compile(r"assumed-role/(?P<name>[\w+=,.@-]{1,64})/(?P<session>[\w+=,.@-]{1,64})", re.ASCII)
_FEDERATED = re.compile(r"federated-user/(?P<name>[\w+=,.@-]{1,64})", re.ASCII)


class IdentityArn(msgspec.Struct, frozen=True):
    """`arn:<partition>:ses:<region>:<account_id>:identity/<name>`, taken apart."""

    partition: str
    region: str
    account_id: str
    name: str

    @property
    def is_domain(self) -> bool:
        """Whether the identity is a domain; otherwise it is one e-mail address."""
        return "@" not in self.name

    @property
    def domain(self) -> str:
        """The domain of either kind of identity, in lower case."""
        return self.name.rpartition("@")[2].lower()

    def __str__(self) -> str:
        """The ARN as text."""
        return f"arn:{self.partition}:ses:{self.region}:{self.account_id}:identity/{self.name}"


class Principal(msgspec.Struct, frozen=True):
    """One AWS principal: `kind` is account, user, role, session (of a role) or federated.

    `path` is "/" or "/a/b/"; a session's ARN does not tell its role's path, so it has none. `session` is the session's
    name. `partition` is None for a bare account id.
    """

    account_id: str
    kind: str
    partition: str | None = None
    path: str = ""
    name: str = ""
    session: str = ""


def is_domain_name(text: str) -> bool:
    """Whether this is a domain name of at least two labels, in ASCII (internationalised names as `xn--`)."""
    return _DOMAIN.fullmatch(text) is not None


def is_address(text: str) -> bool:
    """Whether this is `local@domain` in visible ASCII (SES takes no other local part: Developer Guide, quotas)."""
    local, at, domain = text.rpartition("@")
    return bool(at) and _LOCAL_PART.fullmatch(local) is not None and is_domain_name(domain)


def parse_identity_arn(text: str) -> IdentityArn:
    """Take an identity's ARN apart; ValueError carries a sentence that says what is wrong with it."""
    parts = text.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn" or parts[2] != "ses" or not parts[5].startswith("identity/"):
        raise ValueError(
            f"{text[:200]!r} is not the ARN of an SES identity (arn:aws:ses:REGION:ACCOUNT:identity/NAME)."
        )
    _, partition, _, region, account_id, resource = parts
    name = resource.removeprefix("identity/")
    if partition not in PARTITIONS:
        raise ValueError(f"{partition[:40]!r} is not a partition of AWS that has SES ({', '.join(PARTITIONS)}).")
    if not _REGION.fullmatch(region):
        raise ValueError(f"{region[:40]!r} is not the name of an AWS Region.")
    if not _ACCOUNT.fullmatch(account_id):
        raise ValueError(f"{account_id[:40]!r} is not an account id of twelve digits.")
    if not (is_domain_name(name) or is_address(name)):
        raise ValueError(f"{name[:200]!r} is neither a domain nor an e-mail address.")
    return IdentityArn(partition, region, account_id, name)


def is_account_id(text: str) -> bool:
    """Whether this is an account id: twelve digits."""
    return _ACCOUNT.fullmatch(text) is not None


def parse_principal(text: str) -> Principal:
    """Read an account id, `…:root`, the ARN of a user, a role or a role's session; ValueError carries a sentence."""
    return _parse_principal(text if len(text) <= _LONGEST else text[:_LONGEST] + "…")


@lru_cache(maxsize=4096)
def _parse_principal(text: str) -> Principal:
    if _ACCOUNT.fullmatch(text):
        return Principal(text, "account")
    parts = text.split(":", 5)
    if (
        len(parts) == 6
        and parts[0] == "arn"
        and parts[1] in PARTITIONS
        and parts[3] == ""
        and _ACCOUNT.fullmatch(parts[4])
    ):
        found = _parse_resource(parts[2], parts[5], Principal(parts[4], "account", parts[1]))
        if found is not None:
            return found
    raise ValueError(
        f"{text[:200]!r} is not an account id of twelve digits or the ARN of an account, IAM user or IAM role."
    )


def _parse_resource(service: str, resource: str, account: Principal) -> Principal | None:
    if service == "iam" and resource == "root":
        return account
    where = (account.account_id, account.partition)
    if service == "iam" and (found := _IAM_RESOURCE.fullmatch(resource)) and len(found["path"]) <= 512:
        return Principal(where[0], found["kind"], where[1], found["path"], found["name"])
    if service == "sts" and (found := _SESSION.fullmatch(resource)):
        return Principal(where[0], "session", where[1], "", found["name"], found["session"])
    if service == "sts" and (found := _FEDERATED.fullmatch(resource)):
        return Principal(where[0], "federated", where[1], "", found["name"])
    return None


def principal_account(principal: str) -> str:
    """The account id of an account id, `…:root`, user or role ARN; ValueError for anything else."""
    return parse_principal(principal).account_id


def plain(principal: str) -> str:
    """A principal in the one spelling we compare: the bare account id for `…:root`, anything else as it is.

    The two are equivalent (IAM User Guide, reference_policies_elements_principal), and AWS may give back the other one.
    """
    head, _, tail = principal.partition(":iam::")
    if tail.endswith(":root") and head.removeprefix("arn:") in PARTITIONS and _ACCOUNT.fullmatch(tail[:-5]):
        return tail[:-5]
    return principal


def covers(a: str, b: str) -> bool:
    """Whether whoever acts as `b` is let in by a policy that names `a`.

    An account covers its users, roles and their sessions, a role covers its sessions (matched by name: a session's ARN
    has no path, and role names are unique in an account), `*` covers everybody. What is neither is covered by itself
    alone.
    """
    if a == ANYBODY or plain(a) == plain(b):
        return True
    try:
        outer, inner = parse_principal(a), parse_principal(b)
    except ValueError:
        return False
    same_place = outer.account_id == inner.account_id and outer.partition in (None, inner.partition)
    if outer.kind == "role" and inner.kind == "session":
        return same_place and outer.name == inner.name
    return same_place and outer.kind == "account"


def related(a: str, b: str) -> bool:
    """Whether a policy that names one of them is about anybody whom the other one names."""
    return covers(a, b) or covers(b, a)

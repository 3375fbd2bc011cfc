"""Terms, sends and policies that the tests of the policy rules share, and hypothesis strategies for them."""

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import strategies as st

from broker.policies.compile import document, statements
from broker.policies.context import Send
from broker.policies.terms import ACTION_TO_IAM, Action, Terms

IDENTITY = "arn:aws:ses:eu-west-1:111111111111:identity/example.com"
ADDRESS_IDENTITY = "arn:aws:ses:eu-west-1:111111111111:identity/Ann@example.com"
OWNER, DELEGATE, STRANGER = "111111111111", "222222222222", "333333333333"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
END = NOW + timedelta(days=30)
GRANT = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
USER = f"arn:aws:iam::{DELEGATE}:user/mail/ann"
ROLE = f"arn:aws:iam::{DELEGATE}:role/apps/sender"
SESSION = f"arn:aws:sts::{DELEGATE}:assumed-role/sender/i-0abc"

SEND = Send(
    action="ses:SendEmail",
    caller_account=DELEGATE,
    from_address="newsletter@example.com",
    from_display_name="Example News",
    feedback_address="bounces@example.com",
    recipients=["ann@example.org"],
    time=NOW,
    source_ip="203.0.113.7",
    secure_transport=True,
)

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


def terms(
    *,
    principals: tuple[str, ...] = (DELEGATE,),
    actions: tuple[Action, ...] = (Action.send, Action.send_raw),
    from_addresses: tuple[str, ...] = (),
    expires_at: datetime = END,
) -> Terms:
    """Small terms that are in order."""
    return Terms(principals=principals, actions=actions, from_addresses=from_addresses, expires_at=expires_at)


def policy(**changes: Json) -> str:
    """A document of one Allow for the delegate's account, with elements of it replaced (None removes one)."""
    statement: dict[str, Json] = {
        "Effect": "Allow",
        "Principal": {"AWS": DELEGATE},
        "Action": "ses:SendEmail",
        "Resource": IDENTITY,
    }
    version = changes.pop("Version", "2012-10-17")
    statement |= changes
    kept: dict[str, Json] = {name: value for name, value in statement.items() if value is not None}
    return json.dumps({"Version": version, "Statement": [kept]})


def conditional(condition: Json, *, effect: str = "Allow") -> str:
    """The same document with this Condition."""
    return policy(Condition=condition, Effect=effect)


def compiled(agreed: Terms, *, grant_id: UUID = GRANT, identity_arn: str = IDENTITY) -> str:
    """The document of one grant alone."""
    return document(statements(agreed, grant_id=grant_id, identity_arn=identity_arn))


LOCAL_PARTS = ("newsletter", "Newsletter", "billing", "a", "a.b+c")
DOMAINS = ("example.com", "mail.example.com")
ADDRESSES = tuple(f"{local}@{domain}" for local in LOCAL_PARTS for domain in DOMAINS)
PATTERNS = (*ADDRESSES, "*@example.com", "news*@example.com", "?@mail.example.com", "*@mail.example.com")
NAMES = ("Example News", "Example*", "Zoë & Söhne", "?")
RECIPIENTS = ("ann@example.org", "bob@example.net", "eve@sub.example.org")
RECIPIENT_PATTERNS = (*RECIPIENTS, "*@example.org", "*example.org", "*")
BLOCKS = ("203.0.113.0/24", "198.51.100.7", "2001:db8::/32", "0.0.0.0/0")
CALLERS = (
    f"arn:aws:iam::{DELEGATE}:root",
    USER,
    SESSION,
    f"arn:aws:iam::{STRANGER}:user/ann",
    f"arn:aws:iam::{DELEGATE}:user/ann",
)
MOMENTS = st.integers(-3, 63).map(lambda days: NOW + timedelta(days=days))
SEND_ACTIONS = tuple(name for names in ACTION_TO_IAM.values() for name in names)


def _some(items: tuple[str, ...], most: int = 3) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(items), max_size=most, unique=True).map(tuple)


@st.composite
def good_terms(draw: st.DrawFn) -> Terms:
    """Terms that `check` accepts on `IDENTITY` at `NOW`."""
    actions = tuple(draw(st.lists(st.sampled_from(list(Action)), min_size=1, unique=True)))
    begin = draw(st.none() | st.integers(-2, 20).map(lambda days: NOW + timedelta(days=days)))
    return Terms(
        principals=draw(st.lists(st.sampled_from([DELEGATE, USER, ROLE]), min_size=1, unique=True).map(tuple)),
        actions=actions,
        from_addresses=draw(_some(PATTERNS)),
        from_display_names=draw(_some(NAMES)),
        feedback_addresses=draw(_some(PATTERNS, 2)),
        recipients=draw(_some(RECIPIENT_PATTERNS)),
        source_ips=draw(_some(BLOCKS)),
        require_tls_to_ses=draw(st.booleans()),
        not_before=begin,
        expires_at=draw(st.integers(21, 60).map(lambda days: NOW + timedelta(days=days))),
        accept_unlimited_bulk=Action.send_bulk in actions or draw(st.booleans()),
    )


@st.composite
def sends(draw: st.DrawFn) -> Send:
    """Sends that often fit `good_terms` and often just fail to."""
    return Send(
        action=draw(st.sampled_from(SEND_ACTIONS)),
        caller_arn=draw(st.sampled_from(CALLERS)),
        from_address=draw(st.sampled_from(ADDRESSES)),
        from_display_name=draw(st.none() | st.sampled_from([*NAMES, "Example Offers", "x"])),
        feedback_address=draw(st.none() | st.sampled_from(ADDRESSES)),
        recipients=draw(st.none() | st.lists(st.sampled_from(RECIPIENTS), max_size=3)),
        time=draw(MOMENTS),
        source_ip=draw(st.sampled_from(["203.0.113.7", "198.51.100.7", "192.0.2.1", "2001:db8::1", "2001:db9::1"])),
        secure_transport=draw(st.booleans()),
    )

"""Who must not be mailed again: lists, checks, exports, and pushing them into a delegate's account."""

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio
from litestar import Litestar
from litestar.di import Provide
from litestar.exceptions import HTTPException
from sqlalchemy import text, update

from broker import problems, web
from broker.aws_access import RoleAccess
from broker.caller import Caller
from broker.clock import now
from broker.connections.models import Connection
from broker.crypto import Keyring
from broker.db import Database, Role
from broker.errors import BrokerError, Conflict, NotFound, Refused, Unavailable
from broker.feedback.models import Route
from broker.feedback.suppressions import push
from broker.feedback.suppressions.api import SuppressionController, SuppressionExport
from broker.feedback.suppressions.views import Push, PushView
from broker.grants.models import Grant
from broker.ids import new_id
from broker.policies.terms import FeedbackKind
from tests.feedback import sns
from tests.feedback.conftest import ChangeGrant, World, add_grant
from tests.feedback.examples import DELEGATE_ACCOUNT
from tests.feedback.recipients import JANE, fold, grant_hash, reckoned
from tests.feedback.test_api import ByHeader, as_tenant

MARY, BOB = "mary@example.org", "bob@example.org"
ALL_KINDS = [kind.value for kind in FeedbackKind]


@pytest_asyncio.fixture
async def http(db: Database, keyring: Keyring) -> AsyncIterator[httpx.AsyncClient]:
    app: Any = Litestar(
        route_handlers=[SuppressionController, SuppressionExport],
        middleware=[ByHeader],
        dependencies={
            "db": Provide(lambda: db, sync_to_thread=False),
            "caller": Provide(web.provide_caller),
            "keyring": Provide(lambda: keyring, sync_to_thread=False),
        },
        exception_handlers={BrokerError: problems.answer_broker_error, HTTPException: problems.answer_http_error},
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://broker") as client:
        yield client


@pytest_asyncio.fixture
async def suppressed(world: World, keyring: Keyring, change_grant: ChangeGrant) -> World:
    """Jane bounced, Mary complained, Bob opted out; the owner sees hashes."""
    await change_grant(feedback={"owner_events": ALL_KINDS, "delegate_events": ALL_KINDS, "owner_view": "hashed"})
    await fold(
        world,
        keyring,
        [
            reckoned(world, keyring),
            reckoned(world, keyring, FeedbackKind.complaint, recipient=MARY, occurred_at=sns.NOW + timedelta(days=1)),
            reckoned(world, keyring, FeedbackKind.subscription, recipient=BOB, opted_out=True),
            reckoned(world, keyring, FeedbackKind.delivery, recipient="fine@example.org"),
        ],
    )
    return world


async def listed(http: httpx.AsyncClient, caller: Caller, **query: Any) -> list[dict[str, Any]]:
    answer = await http.get("/v1/suppressions", params=query, headers=as_tenant(caller))
    assert 200 == answer.status_code, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def table(answer: httpx.Response) -> list[dict[str, str]]:
    assert (200, "text/csv; charset=utf-8") == (answer.status_code, answer.headers["content-type"]), answer.text
    return list(csv.DictReader(io.StringIO(answer.text)))


async def test_each_party_sees_as_its_terms_say(suppressed: World, keyring: Keyring, http: httpx.AsyncClient) -> None:
    owners, delegates = [await listed(http, each) for each in (suppressed.owner, suppressed.delegate)]

    assert {JANE, MARY, BOB} == {each["recipient"] for each in delegates}
    assert [None] * 3 == [each["recipient"] for each in owners]
    hashes = {grant_hash(keyring, suppressed.grant_id, each) for each in (JANE, MARY, BOB)}
    assert hashes == {each["recipient_hash"] for each in owners}
    assert [] == await listed(http, suppressed.second)


async def test_at_none_only_that_there_is_something(
    suppressed: World, change_grant: ChangeGrant, http: httpx.AsyncClient
) -> None:
    await change_grant(feedback={"owner_view": "none"})

    owners = await listed(http, suppressed.owner)

    assert {(None, None)} == {(each["recipient"], each["recipient_hash"]) for each in owners}


async def test_wider_terms_do_not_open_what_was_heard_before(
    suppressed: World, change_grant: ChangeGrant, http: httpx.AsyncClient
) -> None:
    await change_grant(feedback={"owner_view": "full"})

    assert [None] * 3 == [each["recipient"] for each in await listed(http, suppressed.owner)]


@pytest.mark.parametrize(
    ("query", "reasons"),
    [
        ({"reason": "complaint"}, ["complaint"]),
        ({"since": "2026-01-06T00:00:00Z"}, ["complaint"]),
        ({"grant_id": "00000000-0000-0000-0000-000000000001"}, []),
        ({"identity_arn": "arn:aws:ses:eu-west-1:111111111111:identity/other.example"}, []),
    ],
)
async def test_filters(suppressed: World, http: httpx.AsyncClient, query: dict[str, str], reasons: list[str]) -> None:
    assert reasons == [each["reason"] for each in await listed(http, suppressed.delegate, **query)]


FOREVER = datetime(9999, 1, 1, tzinfo=UTC)


async def second_grant(world: World, **terms: Any) -> Any:
    """Of the same two parties on the same identity."""
    async with world.db.begin(world.owner) as session:
        place = (world.owner.tenant, world.identity_id, world.identity_arn)
        grant_id = await add_grant(session, place, world.delegate.tenant, DELEGATE_ACCOUNT)
        await session.execute(update(Grant).where(Grant.id == grant_id).values(feedback=terms))
    return grant_id


@pytest.mark.parametrize("first", [True, False])
async def test_a_forged_event_under_another_grant_hides_nothing(
    world: World, keyring: Keyring, change_grant: ChangeGrant, http: httpx.AsyncClient, *, first: bool
) -> None:
    """Of a topic of the delegate's own, at the end of time, under terms by which the owner hears nothing."""
    await change_grant(feedback={"owner_view": "full"}, ended_at=now())
    hidden = await second_grant(world, owner_events=[])
    forged = reckoned(world, keyring, grant_id=hidden, source="tenant_topic", occurred_at=FOREVER)
    true = reckoned(world, keyring)

    for event in (forged, true) if first else (true, forged):
        await fold(world, keyring, [event])
    await fold(world, keyring, [forged, true])

    (entry,) = await listed(http, world.owner)
    assert (JANE, str(world.grant_id)) == (entry["recipient"], entry["grant_id"])


@pytest.mark.parametrize("terms", [{"owner_events": []}, {"owner_view": "none"}, {"owner_view": "hashed"}])
async def test_an_honest_later_event_under_narrower_terms_hides_nothing(
    world: World, keyring: Keyring, change_grant: ChangeGrant, http: httpx.AsyncClient, terms: dict[str, Any]
) -> None:
    await change_grant(feedback={"owner_view": "full"}, ended_at=now())
    narrow = await second_grant(world, **terms)
    both = [
        reckoned(world, keyring),
        reckoned(world, keyring, grant_id=narrow, occurred_at=sns.NOW + timedelta(days=1)),
    ]

    await fold(world, keyring, both)
    for event in reversed(both):
        await fold(world, keyring, [event])

    (entry,) = await listed(http, world.owner)
    assert (JANE, str(world.grant_id)) == (entry["recipient"], entry["grant_id"])
    assert [JANE] == [each["recipient"] for each in await listed(http, world.delegate)]


async def test_the_widest_view_is_kept_for_each_party(
    world: World, keyring: Keyring, change_grant: ChangeGrant, http: httpx.AsyncClient
) -> None:
    await change_grant(feedback={"owner_view": "full", "delegate_events": []}, ended_at=now())
    others = await second_grant(world, owner_events=[])

    for grant_id in (world.grant_id, others):
        await fold(world, keyring, [reckoned(world, keyring, grant_id=grant_id)])

    for caller in (world.owner, world.delegate):
        assert [JANE] == [each["recipient"] for each in await listed(http, caller)]


@pytest.mark.parametrize("source", ["tenant_topic", "broker_topic"])
async def test_an_opt_out_that_is_taken_back_in_the_future_can_be_given_again(
    suppressed: World, keyring: Keyring, http: httpx.AsyncClient, source: str
) -> None:
    kind, before = FeedbackKind.subscription, [JANE, MARY, BOB]
    back = reckoned(suppressed, keyring, kind, recipient=BOB, opted_out=False, source=source, occurred_at=FOREVER)
    later = sns.NOW + timedelta(days=8)
    out = reckoned(suppressed, keyring, kind, recipient=BOB, opted_out=True, source=source, occurred_at=later)

    await fold(suppressed, keyring, [back])
    taken_back = [each["recipient"] for each in await listed(http, suppressed.delegate)]
    await fold(suppressed, keyring, [out], at=later)

    assert (before if source == "tenant_topic" else [JANE, MARY]) == sorted(taken_back, key=[JANE, MARY, BOB].index)
    assert set(before) == {each["recipient"] for each in await listed(http, suppressed.delegate)}


async def test_an_opt_out_by_a_tenants_own_topic_counts_after_a_word_of_the_brokers(
    suppressed: World, keyring: Keyring, http: httpx.AsyncClient
) -> None:
    kind, hour = FeedbackKind.subscription, timedelta(hours=1)
    back = reckoned(suppressed, keyring, kind, recipient=BOB, opted_out=False, occurred_at=sns.NOW + hour)
    out = {"opted_out": True, "source": "tenant_topic", "occurred_at": sns.NOW + 2 * hour}

    await fold(suppressed, keyring, [back, reckoned(suppressed, keyring, kind, recipient=BOB, **out)])

    assert BOB in {each["recipient"] for each in await listed(http, suppressed.delegate)}


async def test_a_time_without_an_offset_is_refused(suppressed: World, http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/suppressions?since=2026-01-06T00:00:00", headers=as_tenant(suppressed.owner))

    assert 400 == answer.status_code


async def test_pages_follow_each_other(suppressed: World, http: httpx.AsyncClient) -> None:
    headers = as_tenant(suppressed.delegate)
    first = (await http.get("/v1/suppressions?page_size=2", headers=headers)).json()
    query = {"page_size": 2, "page_token": first["next_page_token"]}
    rest = (await http.get("/v1/suppressions", params=query, headers=headers)).json()

    assert {JANE, MARY, BOB} == {each["recipient"] for each in [*first["items"], *rest["items"]]}
    assert (2, 1, None) == (len(first["items"]), len(rest["items"]), rest["next_page_token"])


@pytest.mark.parametrize(("query", "accept"), [("?format=csv", "*/*"), ("", "text/csv")])
async def test_all_of_it_as_csv(
    suppressed: World, http: httpx.AsyncClient, query: str, accept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.feedback.suppressions.service.AT_ONCE", 2)
    answer = await http.get(f"/v1/suppressions{query}", headers=as_tenant(suppressed.delegate) | {"accept": accept})

    assert {JANE, MARY, BOB} == {row["recipient"] for row in table(answer)}


async def test_an_address_cannot_begin_a_formula(world: World, keyring: Keyring, http: httpx.AsyncClient) -> None:
    await fold(world, keyring, [reckoned(world, keyring, recipient="=cmd|' /C calc'!a0@example.org")])

    answer = await http.get("/v1/suppressions?format=csv", headers=as_tenant(world.delegate))

    assert ["'=cmd|' /c calc'!a0@example.org"] == [row["recipient"] for row in table(answer)]


async def checked(http: httpx.AsyncClient, caller: Caller, *addresses: str, **more: Any) -> list[bool]:
    answer = await http.post("/v1/suppressions/check", json={"addresses": addresses, **more}, headers=as_tenant(caller))
    assert 200 == answer.status_code, answer.text
    return [each["suppressed"] for each in answer.json()["results"]]


async def test_addresses_are_checked_whatever_their_case(suppressed: World, http: httpx.AsyncClient) -> None:
    asked = (" JANE@example.org", "fine@example.org", MARY)

    for caller in (suppressed.delegate, suppressed.owner):
        assert [True, False, True] == await checked(http, caller, *asked)
        assert [False] * 3 == await checked(http, caller, *asked, identity_arn="arn:aws:ses:x:1:identity/no.example")
    assert [False] * 3 == await checked(http, suppressed.second, *asked)


async def test_a_check_tells_nothing_that_the_terms_hide(
    suppressed: World, change_grant: ChangeGrant, http: httpx.AsyncClient
) -> None:
    """Else an owner at `none` could try addresses until one is confirmed."""
    await change_grant(feedback={"owner_view": "none"})

    assert [False] == await checked(http, suppressed.owner, JANE)
    assert [True] == await checked(http, suppressed.delegate, JANE)


async def test_a_check_of_too_much_at_once_asks_for_the_identity(
    suppressed: World, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.feedback.suppressions.service.MOST_LOOKED_UP", 1)
    path, headers = "/v1/suppressions/check", as_tenant(suppressed.owner)

    answer = await http.post(path, json={"addresses": [JANE, MARY]}, headers=headers)

    assert (422, "/identity_arn") == (answer.status_code, answer.json()["errors"][0]["pointer"])


async def exported(http: httpx.AsyncClient, world: World, caller: Caller) -> httpx.Response:
    return await http.get(f"/v1/grants/{world.grant_id}/suppressions/export", headers=as_tenant(caller))


@pytest.mark.parametrize("view", ["full", "hashed"])
async def test_the_owner_takes_along_what_its_terms_allow(
    world: World, keyring: Keyring, change_grant: ChangeGrant, http: httpx.AsyncClient, view: str
) -> None:
    await change_grant(feedback={"owner_view": view})
    await fold(world, keyring, [reckoned(world, keyring)])
    await change_grant(ended_at=now() - timedelta(days=29))

    (row,) = table(await exported(http, world, world.owner))

    assert JANE * (view == "full") == row["recipient"]
    assert (grant_hash(keyring, world.grant_id, JANE), "hard_bounce") == (row["recipient_hash"], row["reason"])


async def test_an_export_is_refused_with_a_sentence(
    suppressed: World, change_grant: ChangeGrant, http: httpx.AsyncClient
) -> None:
    await change_grant(feedback={"owner_view": "none"})
    hidden = await exported(http, suppressed, suppressed.owner)
    await change_grant(feedback={"owner_view": "full", "retention_days": 7}, ended_at=now() - timedelta(days=8))
    late = await exported(http, suppressed, suppressed.owner)

    path, headers = f"/v1/suppressions?grant_id={suppressed.grant_id}", as_tenant(suppressed.owner)
    late_list, late_csv = [await http.get(each, headers=headers) for each in (path, f"{path}&format=csv")]

    assert (409, 409) == (late_list.status_code, late_csv.status_code)
    assert 3 == len(await listed(http, suppressed.owner))  # who must not be mailed stays known
    assert (409, 409) == (hidden.status_code, late.status_code)
    assert "owner_view is none" in hidden.json()["detail"]
    assert "7 days" in late.json()["detail"]


async def test_a_strangers_grant_is_not_exported(suppressed: World, http: httpx.AsyncClient) -> None:
    assert 404 == (await exported(http, suppressed, suppressed.second)).status_code


class Account:
    """The suppression list of one account: a fake at the protocol of its user."""

    def __init__(self, *errors: Exception) -> None:
        self.put: list[tuple[str, str, str]] = []
        self._errors = list(errors)

    async def suppress(self, access: RoleAccess, address: str, *, reason: str) -> None:
        if self._errors:
            raise self._errors.pop(0)
        self.put.append((access.account_id, address, reason))


@pytest_asyncio.fixture
async def switched(suppressed: World, monkeypatch: pytest.MonkeyPatch) -> PushView:
    """The delegate has switched it on."""
    monkeypatch.setattr(push, "SETTLED", timedelta(seconds=-1))
    connection_id = await connect(suppressed, suppressed.delegate)
    wanted = Push(connection_id=connection_id, region="eu-west-1", enabled=True)
    return await push.switch(suppressed.db, suppressed.delegate, wanted)


async def connect(world: World, caller: Caller) -> Any:
    connection_id = new_id()
    async with world.db.begin(caller) as session:
        session.add(
            Connection(
                id=connection_id,
                tenant_id=caller.tenant,
                kind="role",
                account_id=DELEGATE_ACCOUNT,
                regions=["eu-west-1"],
                external_id="x",
                role_arn=f"arn:aws:iam::{DELEGATE_ACCOUNT}:role/SesDelegationBroker",
                state="verified",
            )
        )
    return connection_id


async def work(world: World, keyring: Keyring, account: Account, shown: PushView) -> PushView:
    worker = world.db.as_role(Role.WORKER)
    async with worker.begin(world.delegate) as session:
        await session.execute(text("UPDATE suppression_pushes SET due_at = now() WHERE due_at IS NOT NULL"))
    await push.run(worker, account, keyring, only=[shown.id])
    return (await push.list_some(world.db, world.delegate))[0]


async def test_complaints_and_hard_bounces_are_pushed_once(
    suppressed: World, keyring: Keyring, switched: PushView
) -> None:
    account = Account()

    await work(suppressed, keyring, account, switched)
    after = await work(suppressed, keyring, account, switched)

    assert {(DELEGATE_ACCOUNT, JANE, "BOUNCE"), (DELEGATE_ACCOUNT, MARY, "COMPLAINT")} == set(account.put)
    assert (2, 2, None) == (len(account.put), after.pushed, after.reason)
    assert "other clients" in after.warning


async def test_a_guess_that_becomes_sure_is_pushed(suppressed: World, keyring: Keyring, switched: PushView) -> None:
    """Though later entries were pushed before."""
    account, guess = Account(), "guess@example.org"
    for kind, recipient, recipients in (
        (FeedbackKind.complaint, guess, 2),
        (FeedbackKind.bounce, "later@example.org", 1),
    ):
        await fold(
            suppressed, keyring, [reckoned(suppressed, keyring, kind, recipient=recipient, recipients=recipients)]
        )
        await work(suppressed, keyring, account, switched)
    assert guess not in {address for _, address, _ in account.put}

    await fold(suppressed, keyring, [reckoned(suppressed, keyring, FeedbackKind.complaint, recipient=guess)])
    await work(suppressed, keyring, account, switched)
    await work(suppressed, keyring, account, switched)

    assert [(DELEGATE_ACCOUNT, guess, "COMPLAINT")] == [each for each in account.put if each[1] == guess]


async def owners_topic_is_heard(world: World) -> None:
    """It holds a slot of the identity."""
    async with world.db.begin(world.owner) as session:
        found = {"identities": {"example.com": {"bounce": "owners_topic", "email_forwarding": False}}}
        await session.execute(update(Route).where(Route.grant_id == world.grant_id).values(found=found))


@pytest.mark.parametrize("heard", [True, False])
async def test_an_owner_cannot_make_up_what_is_pushed_into_the_delegates_account(
    suppressed: World, keyring: Keyring, switched: PushView, heard: bool
) -> None:
    """By a topic of its own that is heard; what a delegate's own topic says is the delegate's word."""
    account, victim = Account(), "victim@example.org"
    if heard:
        await owners_topic_is_heard(suppressed)
    await fold(suppressed, keyring, [reckoned(suppressed, keyring, recipient=victim, source="tenant_topic")])
    await fold(suppressed, keyring, [reckoned(suppressed, keyring, recipient="later@example.org")])
    await work(suppressed, keyring, account, switched)

    pushed = [address for _, address, _ in account.put]
    assert heard is (victim not in pushed)
    assert "later@example.org" in pushed


async def test_what_the_brokers_topic_says_later_is_pushed_then(
    suppressed: World, keyring: Keyring, switched: PushView
) -> None:
    account, both = Account(), "both@example.org"
    await owners_topic_is_heard(suppressed)
    await fold(suppressed, keyring, [reckoned(suppressed, keyring, recipient=both, source="tenant_topic")])
    await work(suppressed, keyring, account, switched)
    before = [address for _, address, _ in account.put]
    await fold(suppressed, keyring, [reckoned(suppressed, keyring, recipient=both)])
    await work(suppressed, keyring, account, switched)

    assert both not in before
    assert (DELEGATE_ACCOUNT, both, "BOUNCE") in account.put


async def test_a_tenants_own_topic_makes_no_guess_of_the_brokers_sure(
    suppressed: World, keyring: Keyring, switched: PushView
) -> None:
    account, guess = Account(), "guess@example.org"
    for source, recipients in (("broker_topic", 2), ("tenant_topic", 1)):
        made = reckoned(
            suppressed, keyring, FeedbackKind.complaint, recipient=guess, recipients=recipients, source=source
        )
        await fold(suppressed, keyring, [made])
    await work(suppressed, keyring, account, switched)

    assert guess not in {address for _, address, _ in account.put}


async def test_nothing_is_pushed_unless_it_is_switched_on(
    suppressed: World, keyring: Keyring, switched: PushView
) -> None:
    off = Push(connection_id=switched.connection_id, region="eu-west-1", enabled=False)
    await push.switch(suppressed.db, suppressed.delegate, off)
    account = Account()

    await work(suppressed, keyring, account, switched)

    assert [] == account.put


async def test_a_push_goes_on_after_trouble(suppressed: World, keyring: Keyring, switched: PushView) -> None:
    account = Account(Unavailable("busy"), Refused("not allowed", code="AccessDeniedException"))

    waiting = await work(suppressed, keyring, account, switched)
    refused = await work(suppressed, keyring, account, switched)
    done = await work(suppressed, keyring, account, switched)

    assert ("busy", "not allowed", None) == (waiting.reason, refused.reason, done.reason)
    assert 2 == len(account.put)


async def test_an_address_that_ses_does_not_take_holds_nobody_up(
    suppressed: World, keyring: Keyring, switched: PushView
) -> None:
    account = Account(Refused("Invalid email address", code="BadRequestException"))

    done = await work(suppressed, keyring, account, switched)

    assert (1, 1, None) == (len(account.put), done.pushed, done.reason)


async def test_a_switch_needs_ones_own_connection_and_its_region(suppressed: World) -> None:
    theirs = await connect(suppressed, suppressed.second)
    with pytest.raises(NotFound):
        await push.switch(
            suppressed.db, suppressed.delegate, Push(connection_id=theirs, region="eu-west-1", enabled=True)
        )
    with pytest.raises(BrokerError, match="Region"):
        await push.switch(
            suppressed.db, suppressed.second, Push(connection_id=theirs, region="us-east-1", enabled=True)
        )
    async with suppressed.db.begin(suppressed.second) as session:
        await session.execute(text("UPDATE connections SET state = 'lost' WHERE id = :id"), {"id": theirs})
    with pytest.raises(Conflict):
        await push.switch(
            suppressed.db, suppressed.second, Push(connection_id=theirs, region="eu-west-1", enabled=True)
        )

"""From a proposal to mail that SES accepts, exactly as agreed."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from tests.journeys.conftest import MakeWorld, Speak
from tests.journeys.party import AGREED, AS_COUNTERED, BILL, BILLING, CEO, NEWSLETTER
from tests.journeys.world import FOREIGN, World, terms
from tests.sandbox.aws import allow

REFUSED = "AccessDeniedException"


async def negotiated(world: World) -> str:
    """The delegate proposes, the owner counters, a stale approval is refused, the delegate approves what it saw."""
    proposal = {"identity_arn": world.arn, "terms": terms(world.first.aws.id, NEWSLETTER)}
    proposed = await world.first.post("/v1/grants", proposal)
    path = f"/v1/grants/{proposed['id']}"
    wanted = {"terms": terms(world.first.aws.id, NEWSLETTER, **AS_COUNTERED)}
    countered = await world.owner.post(f"{path}/counter", wanted, etag=proposed["etag"])
    stale = await world.first.try_post(f"{path}/approve", etag=proposed["etag"])
    assert (412, "delegate") == (stale.status, countered["awaiting"])
    await world.first.approve(proposed["id"])
    return str(proposed["id"])


SPELT = msgspec.structs.replace(AGREED, address="Newsletter@example.com")


async def verdicts(world: World) -> dict[str, str]:
    """What SES says to each way of sending: empty, or the code of its refusal."""
    ways = {
        "as agreed": (world.first, AGREED),
        "as somebody else": (world.first, msgspec.structs.replace(AGREED, address=CEO)),
        "under another name": (world.first, msgspec.structs.replace(AGREED, name="The CEO")),
        "without the return path": (world.first, msgspec.structs.replace(AGREED, return_path=None)),
        "from another account": (world.second, AGREED),
    }
    return {way: await party.refusal(world.arn, mail) for way, (party, mail) in ways.items()}


@pytest.mark.parametrize(
    "switches",
    [
        pytest.param({}, id="usual"),
        pytest.param({"missing_policy_status": 200}, id="missing_policy_200"),
        pytest.param({"bare_account_as_root": False}, id="bare_account_kept"),
        pytest.param({"stale_reads_seconds": 0.7}, id="stale_reads"),
        pytest.param({"from_case_sensitive": False}, id="from_without_case"),
        pytest.param({"return_path_key_absent": False}, id="return_path_key_always"),
        pytest.param({"rate_limit_per_second": 1}, id="one_call_a_second"),
        pytest.param({"source_arn_covers_from": True}, id="source_arn_covers_from"),
    ],
)
async def test_an_approved_grant_lets_the_delegate_send_as_agreed_and_in_no_other_way(
    make_world: MakeWorld, speak: Speak, switches: dict[str, Any]
) -> None:
    speak(**switches)
    world = await make_world()
    grant_id = await negotiated(world)

    active = await world.reach_state(grant_id, "active")

    assert (None, []) == (active["error"], active["flags"])
    refused = dict.fromkeys(
        ("as somebody else", "under another name", "without the return path", "from another account"), REFUSED
    )
    assert {"as agreed": "", **refused} == await verdicts(world)
    assert (REFUSED if switches.get("from_case_sensitive", True) else "") == await world.first.refusal(world.arn, SPELT)
    assert await world.first.send_raw(AGREED, FromArn=world.arn, SourceArn=world.arn, ReturnPathArn=world.arn)
    assert 1 == len(await world.ours())
    assert world.foreign == (await world.policies())[FOREIGN]
    for party in (world.owner, world.first):
        await world.broker.hear(party, "grant.activated", grant_id=grant_id)
    assert [] == world.second.inbox.of_grants()


@pytest.mark.parametrize("refused", [pytest.param(True, id="refused"), pytest.param(False, id="taken")])
async def test_recipients_are_limited_whether_or_not_ses_takes_the_null_guard(
    make_world: MakeWorld, speak: Speak, *, refused: bool
) -> None:
    speak(null_guard_refused=refused)
    world = await make_world()
    plain = msgspec.structs.replace(AGREED, return_path=None)

    await world.activate(recipients=["*@example.org", "*@simulator.amazonses.com"])

    assert [not refused] == ['"Null"' in text for text in await world.ours()]
    assert "" == await world.first.refusal(world.arn, plain)
    assert REFUSED == await world.first.refusal(world.arn, msgspec.structs.replace(plain, to="ann@example.net"))


@pytest.mark.parametrize("refused", [pytest.param(True, id="refused"), pytest.param(False, id="taken")])
async def test_a_role_is_a_principal_or_both_read_why_not(
    make_world: MakeWorld, speak: Speak, *, refused: bool
) -> None:
    speak(role_principal_refused=refused)
    world = await make_world()
    role = world.first.aws.make_role("mailer", allow("sts:AssumeRole", principal={"AWS": world.first.aws.id}))

    grant_id = await world.agree(principals=[role])
    seen = await world.reach_state(grant_id, "active", "activation_failed")

    assert ("activation_failed" if refused else "active") == seen["state"]
    why = f"Invalid principal in policy: {role}" if refused else None
    assert [why, why] == [(await party.grant(grant_id))["error"] for party in (world.owner, world.first)]
    assert (0 if refused else 1) == len(await world.ours())
    if refused:
        for party in (world.owner, world.first):
            await world.broker.hear(party, "grant.activation_failed", grant_id=grant_id, error=why)


async def test_a_failed_grant_becomes_active_when_other_terms_are_agreed(make_world: MakeWorld, speak: Speak) -> None:
    speak(role_principal_refused=True)
    world = await make_world()
    role = world.first.aws.make_role("mailer", allow("sts:AssumeRole", principal={"AWS": world.first.aws.id}))
    grant_id = await world.agree(principals=[role])
    failed = await world.reach_state(grant_id, "activation_failed")

    wanted = {"terms": terms(world.first.aws.id, NEWSLETTER)}
    await world.first.post(f"/v1/grants/{grant_id}/amend", wanted, etag=failed["etag"])
    await world.owner.approve(grant_id)

    assert None is (await world.reach_state(grant_id, "active"))["error"]


@pytest.mark.parametrize("refused", [pytest.param(True, id="refused"), pytest.param(False, id="taken")])
async def test_bulk_mail_is_granted_or_both_read_why_not(make_world: MakeWorld, speak: Speak, *, refused: bool) -> None:
    speak(send_bulk_refused=refused)
    world = await make_world()

    grant_id = await world.agree(actions=["send_bulk"], from_addresses=[])
    seen = await world.reach_state(grant_id, "active", "activation_failed")

    expected = ("activation_failed", "Unknown action 'ses:SendBulkEmail'") if refused else ("active", None)
    assert expected == (seen["state"], seen["error"])
    assert expected[1] == (await world.first.grant(grant_id))["error"]


@pytest.mark.parametrize("secure", [pytest.param(True, id="over_tls"), pytest.param(False, id="in_the_clear")])
async def test_a_delegate_that_agreed_to_tls_cannot_send_without_it(
    make_world: MakeWorld, speak: Speak, *, secure: bool
) -> None:
    speak(secure_transport=secure)
    world = await make_world()

    await world.activate(require_tls_to_ses=True)

    refused = await world.first.refusal(world.arn, msgspec.structs.replace(AGREED, return_path=None))
    assert ("" if secure else REFUSED) == refused


@pytest.mark.parametrize(
    "switches",
    [
        pytest.param({}, id="usual"),
        pytest.param({"missing_policy_status": 200}, id="missing_policy_200"),
        pytest.param({"bare_account_as_root": False}, id="bare_account_kept"),
        pytest.param({"stale_reads_seconds": 0.7}, id="stale_reads"),
    ],
)
async def test_an_amendment_takes_effect_when_both_agree_and_locks_nobody_out(
    make_world: MakeWorld, speak: Speak, switches: dict[str, Any]
) -> None:
    speak(**switches)
    world = await make_world()
    grant_id = await world.activate(world.second, BILLING)
    before = await world.owner.grant(grant_id)

    wanted = {"terms": terms(world.second.aws.id, BILLING, expires_in=timedelta(days=60))}
    offered = await world.owner.post(f"/v1/grants/{grant_id}/amend", wanted, etag=before["etag"])
    unchanged = await world.ours()
    await world.second.approve(grant_id)

    async def sent_and_replaced() -> bool | None:
        assert "" == await world.second.refusal(world.arn, BILL)
        held = await world.ours()
        return True if len(held) == 1 and held != unchanged else None

    await world.broker.workers.until(sent_and_replaced)
    after = await world.reach_state(grant_id, "active")
    assert ("active", before["terms"], "delegate") == (offered["state"], offered["terms"], offered["awaiting"])
    assert before["expires_at"] < after["expires_at"]
    for party in (world.owner, world.second):
        await world.broker.hear(party, "grant.amended", grant_id=grant_id)

"""What both parties take along: receipts and the trail, checked with nothing but the service's public keys."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from broker.audit.signing import Signer
from broker.cli import main
from tests.journeys.conftest import MakeWorld
from tests.journeys.party import NEWSLETTER, Party
from tests.journeys.test_by_hand import agreed, owner_by_hand
from tests.journeys.world import FOREIGN, World, terms


class Desk:
    """Somebody's own computer: files, and the command."""

    def __init__(self, place: Path, jwks: str) -> None:
        self.place = place
        self.keys = self.put("jwks.json", jwks)

    def put(self, name: str, text: str | bytes) -> str:
        """A file here."""
        path = self.place / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    def broker(self, *words: str, env: Mapping[str, str] | None = None) -> Result:
        """The command."""
        return CliRunner().invoke(main, list(words), env=env)

    def verify(self, receipt: Any) -> Result:
        """Of a receipt."""
        return self.broker("receipt", "verify", self.put("receipt.json", json.dumps(receipt)), "--key", self.keys)


@pytest.fixture
async def world(make_world: MakeWorld) -> World:
    """An owner and two delegates."""
    return await make_world()


@pytest.fixture
async def desk(world: World, tmp_path: Path) -> Desk:
    """With the keys that anybody can get."""
    answer = await world.broker.client().get("/.well-known/jwks.json")
    assert answer.status_code == 200, answer.text
    return Desk(tmp_path, answer.text)


async def receipt_of(party: Party, grant_id: str) -> Any:
    """As the API answers it."""
    return await party.get(f"/v1/grants/{grant_id}/receipt")


async def sealed(world: World, party: Party, grant_id: str) -> Any:
    """A receipt whose every step is sealed."""
    history = await party.items(f"/v1/grants/{grant_id}/history")

    async def look() -> Any:
        receipt = await receipt_of(party, grant_id)
        return receipt if len(receipt["signed"]["receipt"]["steps"]) == len(history) else None

    return await world.broker.workers.until(look)


async def test_both_parties_can_prove_what_was_agreed_and_that_it_is_over(world: World, desk: Desk) -> None:
    """The same for both; it names SES's control plane and the time of the reads, and claims no more."""
    grant_id = await world.activate(world.first)
    in_force = await receipt_of(world.owner, grant_id)
    held = in_force["signed"]["receipt"]["policies"]
    await world.revoke(grant_id)
    receipts = [await sealed(world, party, grant_id) for party in (world.owner, world.first)]
    one, other = ({**each["signed"]["receipt"], "issued_at": None} for each in receipts)

    assert one == other
    assert (None, None) == (in_force["asked_at"], in_force["signed"]["receipt"]["ended"])
    assert "control plane held the policy" in in_force["statement"]
    assert [True] == [each["name"].startswith("delegation-broker-") for each in held]
    assert 64 == len(held[0]["sha256"])
    assert (True, "revoked") == (one["verified"], one["state"])
    assert all(each["name"].startswith("delegation-broker-deny-") for each in one["policies"])
    assert (await world.owner.grant(grant_id))["latest_offer"] == one["agreed"]["offer_id"]
    for each in (in_force, *receipts, receipts[0]["signed"]):
        done = desk.verify(each)
        assert 0 == done.exit_code, done.output
        assert "newsletter@example.com" in done.output
    assert "SES's control plane no longer holds this access, read at" in done.output
    assert "asked for" in done.output
    assert f"again at {one['ended']['verified_at']}" in done.output
    assert FOREIGN not in json.dumps(one)


async def test_a_receipt_that_was_touched_proves_nothing(world: World, desk: Desk) -> None:
    """Whatever was changed in it, and whoever signed it instead."""
    grant_id = await world.activate(world.first)
    good = (await receipt_of(world.owner, grant_id))["signed"]
    stranger = Signer([b"s" * 32])
    touched = [
        {**good, "receipt": {**good["receipt"], "state": "revoked"}},
        {**good, "receipt": {**good["receipt"], "more": 1}},
        {**good, "receipt": {key: each for key, each in good["receipt"].items() if key != "expires_at"}},
        {**good, "receipt": {**good["receipt"], "kind": "ses-delegation-broker/audit-head/1"}},
        {**good, "signature": {**good["signature"], "value": good["signature"]["value"][:-4] + "AAAA"}},
        {**good, "signature": {"key_id": stranger.key_id, "value": stranger.sign(good["receipt"]).value}},
        {**good, "signature": {**good["signature"], "value": stranger.sign(good["receipt"]).value}},
    ]

    assert 0 == desk.verify(good).exit_code
    assert [1] * len(touched) == [desk.verify(each).exit_code for each in touched]
    empty: list[Any] = [{}, []]
    assert [2, 2] == [desk.verify(each).exit_code for each in empty]
    assert "none of those given" in desk.verify(touched[-2]).output


async def test_the_word_of_an_owner_is_told_as_its_word(world: World, desk: Desk) -> None:
    """Nobody has read SES where an owner applies and removes policies by hand."""
    owner, arn, _ = await owner_by_hand(world)
    grant_id = await agreed(world, owner, arn)
    await world.broker.workers.burst()
    await owner.post(f"/v1/grants/{grant_id}/confirm", {"what": "applied"})
    await owner.post(f"/v1/grants/{grant_id}/revoke")
    await world.broker.workers.burst()
    await owner.post(f"/v1/grants/{grant_id}/confirm", {"what": "removed"})
    receipt = await receipt_of(world.first, grant_id)
    done = desk.verify(receipt)

    assert (False, True) == (receipt["signed"]["receipt"]["verified"], receipt["signed"]["receipt"]["by_hand"])
    assert 0 == done.exit_code, done.output
    assert "That is its word, and not verified." in done.output
    assert "nobody has read SES" in done.output
    assert "control plane" not in done.output


async def test_nothing_agreed_is_nothing_to_sign(world: World) -> None:
    """An offer alone binds nobody; and what is a stranger's does not exist."""
    wanted = {"identity_arn": world.arn, "terms": terms(world.first.aws.id, NEWSLETTER)}
    grant_id = (await world.first.post("/v1/grants", wanted))["id"]

    answers = [(await each.http.get(f"/v1/grants/{grant_id}/receipt")).status_code for each in world.parties]
    assert [409, 409, 404] == answers


async def test_the_trail_is_exported_and_checked_on_ones_own_computer(world: World, desk: Desk) -> None:
    """By either party; what is changed in it is named, and a head that was kept has to be one's own."""
    grant_id = await world.activate(world.first)
    await sealed(world, world.owner, grant_id)
    kept = await world.owner.http.get("/v1/audit/head")
    head = desk.put("head.json", kept.content)
    for party in (world.owner, world.first):
        export = await party.http.get("/v1/audit/export")
        file = desk.put("audit.jsonl", export.content)
        told = desk.broker("audit", "verify", file, "--key", desk.keys)

        assert "application/x-ndjson" in export.headers["content-type"]
        assert 0 == told.exit_code, told.output
        assert "all is as it was sealed" in told.output
        if party is world.owner:
            assert 0 == desk.broker("audit", "verify", file, "--key", desk.keys, "--head", head).exit_code
        else:
            assert 2 <= len(export.content.splitlines())
            assert "another tenant" in desk.broker("audit", "verify", file, "--key", desk.keys, "--head", head).output

        changed = desk.put("changed.jsonl", export.content.replace(b"grant.", b"grunt.", 1))
        answer = json.loads(desk.broker("audit", "verify", changed, "--key", desk.keys, "--json").output)
        assert (False, ["changed"]) == (answer["ok"], [each["wrong"] for each in answer["findings"]])
    entry = (await world.owner.items("/v1/audit"))[-1]
    assert entry["seal"] is None or 64 == len(entry["seal"]["hash"])

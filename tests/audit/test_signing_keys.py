"""The service's keys: one that signs, and all that have signed before."""

from collections.abc import Mapping

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit.signing import Jwks, PublicKeys, Signer, encoded, key_id
from broker.configuration import load
from broker.settings import SettingsError

OLD, NEW, THIRD = (encoded(bytes([each]) * 32) for each in (1, 2, 3))
SAID = {"kind": "test", "number": 1}
NEEDED = {
    "BROKER_DATABASE_URL": "postgresql+asyncpg://a:b@127.0.0.1/c",
    "BROKER_SECRET_KEYS": OLD + "=",
    "BROKER_API_KEY_PEPPER": "p" * 32,
    "BROKER_REGISTRATION": "open",
}


def signer(**settings: str) -> Signer:
    """Of an installation with these settings."""
    return Signer.of(load({**NEEDED, **settings}))


def public(seed: str) -> str:
    """The public key of a private one that is set."""
    raw = Ed25519PrivateKey.from_private_bytes(bytes([{OLD: 1, NEW: 2, THIRD: 3}[seed]]) * 32)
    return encoded(raw.public_key().public_bytes_raw())


def test_every_installation_has_a_key_of_its_own() -> None:
    """Derived from the keyring, which it cannot do without; it is not one of the keyring's own."""
    one, again, other = signer(), signer(), signer(BROKER_SECRET_KEYS=NEW + "=")

    assert one.key_id == again.key_id
    assert one.key_id != other.key_id
    assert public(OLD) not in [key.x for key in one.public.published().keys]


@pytest.mark.parametrize(
    "rotated",
    [
        {"BROKER_SECRET_KEYS": f"{NEW}=,{OLD}="},
        {"BROKER_SIGNING_KEYS": NEW},
        {"BROKER_SIGNING_KEYS": f"{NEW}=, {THIRD}"},
    ],
)
def test_what_a_former_key_signed_stays_good(rotated: Mapping[str, str]) -> None:
    """The new one signs from then on, and whoever has only the old list does not know it."""
    before, after = signer(), signer(**rotated)

    assert before.key_id != after.key_id
    assert [after.key_id] == [after.public.published().keys[0].kid]
    assert before.key_id in after.public
    assert after.public.has_signed(before.sign(SAID), SAID)
    assert not before.public.has_signed(after.sign(SAID), SAID)


def test_a_key_that_is_gone_is_listed_by_its_public_part() -> None:
    """It cannot sign any more, and nobody has to keep it."""
    gone = Signer([bytes([2]) * 32])
    now = signer(BROKER_SIGNING_KEYS=f"{THIRD},public:{public(NEW)}")

    assert now.public.has_signed(gone.sign(SAID), SAID)
    assert now.key_id not in {gone.key_id, signer().key_id}
    assert 3 == len(now.public)


def test_what_is_published_checks_what_is_signed_and_nothing_else() -> None:
    """After a way through JSON."""
    mine = signer()
    keys = PublicKeys.of(mine.public.published())
    signature = mine.sign(SAID)

    assert keys.has_signed(signature, dict(reversed(SAID.items())))
    assert not keys.has_signed(signature, {**SAID, "number": 2})
    assert not keys.has_signed(signature, {**SAID, "number": float("nan")})
    assert ["OKP", "Ed25519"] == [keys.published().keys[0].kty, keys.published().keys[0].crv]
    assert not PublicKeys.of(Jwks([])).has_signed(signature, SAID)
    assert key_id(b"x" * 32).startswith("ed25519-")


@pytest.mark.parametrize("bad", ["short", "public:", f"{NEW},x", "private:" + NEW])
def test_a_bad_key_is_refused_at_the_start(bad: str) -> None:
    """By name, without telling the key."""
    with pytest.raises(SettingsError, match="BROKER_SIGNING_KEYS") as refused:
        load({**NEEDED, "BROKER_SIGNING_KEYS": bad})

    assert NEW not in str(refused.value)

"""The service's Ed25519 keys: what it signs with, and what everybody can check its signatures with."""

import base64
import hashlib
from collections.abc import Mapping, Sequence

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from broker.audit.canonical import canonical
from broker.settings import PUBLIC_KEY, Settings

_DERIVED_FOR = b"ses-delegation-broker: Ed25519 signing key 1"


class Jwk(msgspec.Struct, frozen=True):
    """A public key as a JSON Web Key (RFC 7517; RFC 8037 for Ed25519). `x`: its 32 bytes in URL-safe base64."""

    kid: str
    x: str
    kty: str = "OKP"
    crv: str = "Ed25519"
    alg: str = "EdDSA"
    use: str = "sig"


class Jwks(msgspec.Struct, frozen=True):
    """The service's public keys: the first one signs now, the others have signed before."""

    keys: Sequence[Jwk]


class Signature(msgspec.Struct, frozen=True):
    """An Ed25519 signature of the canonical form (RFC 8785) of what it stands beside; `value` in URL-safe base64."""

    key_id: str
    value: str


class PublicKeys:
    """Checks signatures, also those of keys that sign no more."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._raw = {key_id(key): key for key in keys}
        self._keys = {id_: Ed25519PublicKey.from_public_bytes(key) for id_, key in self._raw.items()}

    @classmethod
    def of(cls, jwks: Jwks) -> "PublicKeys":
        """From what the service publishes; `ValueError` for what is no such key."""
        return cls([decoded(key.x) for key in jwks.keys])

    def __contains__(self, key_id: str) -> bool:
        return key_id in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def has_signed(self, signature: Signature, said: Mapping[str, object]) -> bool:
        """Whether one of these keys signed exactly this."""
        key = self._keys.get(signature.key_id)
        if key is None:
            return False
        try:
            key.verify(decoded(signature.value), canonical(said))
        except (InvalidSignature, ValueError):
            return False
        return True

    def published(self) -> Jwks:
        """For everybody to keep."""
        return Jwks([Jwk(kid=id_, x=encoded(key)) for id_, key in self._raw.items()])


class Signer:
    """Signs with the newest key."""

    def __init__(self, seeds: Sequence[bytes], *, former: Sequence[bytes] = ()) -> None:
        """`seeds`: of private keys, newest first, 32 bytes each. `former`: public keys whose private ones are gone."""
        keys = [Ed25519PrivateKey.from_private_bytes(seed) for seed in seeds]
        self._key = keys[0]
        raw = [key.public_key().public_bytes_raw() for key in keys]
        self.key_id = key_id(raw[0])
        self.public = PublicKeys([*raw, *former])

    @classmethod
    def of(cls, settings: Settings) -> "Signer":
        """With the keys that are set; else with one for each key of the keyring, in its order."""
        named = settings.signing_key_list
        seeds = [decoded(each) for each in named if not each.startswith(PUBLIC_KEY)]
        former = [decoded(each.removeprefix(PUBLIC_KEY)) for each in named if each.startswith(PUBLIC_KEY)]
        return cls([*seeds, *(_derived(decoded(key)) for key in settings.fernet_keys)], former=former)

    def sign(self, said: Mapping[str, object]) -> Signature:
        """Of its canonical form. What is said has to name its own kind, so that it cannot pass as something else."""
        return Signature(self.key_id, encoded(self._key.sign(canonical(said))))


def key_id(public_key: bytes) -> str:
    """The name of a public key: the beginning of its SHA-256."""
    return f"ed25519-{hashlib.sha256(public_key).hexdigest()[:16]}"


def encoded(raw: bytes) -> str:
    """URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decoded(text: str) -> bytes:
    """The bytes again; `ValueError` for what is none."""
    return base64.urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))


def _derived(secret: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=_DERIVED_FOR).derive(secret)

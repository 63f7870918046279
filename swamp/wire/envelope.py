"""The one way in which a message is sealed and opened, and the keys that only a machine and its orchestrator can make.

A sealed message is ChaCha20-Poly1305:

    offset  length
    0       1       version, 0x01
    1       12      nonce, random
    13      n + 16  ciphertext and tag

The authenticated data are the version byte and then what the caller associates (who, what, which number): a message
opens only in the place that it was sealed for.

Keys are HKDF-SHA256 over the X25519 secret of the two static keys, salt = the machine id (ASCII), 32 bytes each:
info `swamp1 up` (machine to orchestrator), `swamp1 down` (orchestrator to machine), `swamp1 results` (results hash).
With random nonces a key is good for 2^32 messages (50 days at 1,000 a second) at a chance of 2^-33 that any two
share a nonce, and 2^40 at 2^-17.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from swamp.errors import NotAllowed

KEY_SIZE = 32  # bytes, of X25519 keys and sealing keys alike
OVERHEAD = 1 + 12 + 16  # bytes that sealing adds
MACHINE_ID_LENGTH = 20  # hex digits

_VERSION = b"\x01"


class Refused(NotAllowed):
    """A sealed message that was not sealed with this key for this place, or that was changed on the way."""

    default_code = "refused"


class Box:
    """Seals and opens under one key. May be used by several threads at once."""

    def __init__(self, key: bytes) -> None:
        """`key` has 32 bytes; raises `ValueError` otherwise."""
        self._cipher = ChaCha20Poly1305(key)

    def seal(self, plaintext: bytes, associated: bytes) -> bytes:
        """The sealed form; `associated` is not in it, the opener has to know it."""
        nonce = os.urandom(12)
        return _VERSION + nonce + self._cipher.encrypt(nonce, plaintext, _VERSION + associated)

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """The plaintext. Raises `Refused` and nothing else, whatever the bytes."""
        if len(sealed) < OVERHEAD or sealed[:1] != _VERSION:
            raise Refused("a message is not in the sealed form that this version knows")
        try:
            return self._cipher.decrypt(sealed[1:13], sealed[13:], _VERSION + associated)
        except InvalidTag:
            raise Refused("a message was not sealed for this place with this key") from None


@dataclass(frozen=True)
class MachineKeys:
    """The sealing keys of one machine and its orchestrator; either side derives the same three."""

    up: bytes
    down: bytes
    results: bytes


def machine_keys(private: X25519PrivateKey, peer_public: bytes, machine_id: str) -> MachineKeys:
    """The keys between the holder of `private` and the holder of `peer_public`.

    `machine_id` is the machine's on both sides. Raises `Refused` for a public key with which there is no secret.
    """
    try:
        secret = private.exchange(X25519PublicKey.from_public_bytes(peer_public))
    except ValueError as error:
        raise Refused("a public key cannot be used") from error

    def derive(purpose: bytes) -> bytes:
        return HKDF(SHA256(), KEY_SIZE, salt=machine_id.encode("ascii"), info=purpose).derive(secret)

    return MachineKeys(up=derive(b"swamp1 up"), down=derive(b"swamp1 down"), results=derive(b"swamp1 results"))


def machine_id_of(public: bytes) -> str:
    """A machine's id: the first 20 hex digits of the SHA-256 of its public key."""
    return sha256(public).hexdigest()[:MACHINE_ID_LENGTH]

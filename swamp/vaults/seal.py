"""One secret, sealed: the content of a secret's file. Pure.

JSON: `version` 1, `key` (the secret's key, in clear), `nonce` (12 random bytes) and `ciphertext` (AES-256-GCM, its
16-byte tag at the end), both in base64. The key is authenticated too: a file put in another one's place does not open.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12
_VERSION = 1


class Refused(Exception):
    """The content is damaged, was changed, belongs to another key, or was sealed with another encryption key."""


def seal(encryption_key: bytes, key: str, value: str, nonce: bytes) -> bytes:
    """The file content that keeps `value` under `key`; `nonce` must be random and never used before.

    Raises `UnicodeEncodeError` when `value` is no text.
    """
    ciphertext = AESGCM(encryption_key).encrypt(nonce, value.encode(), _associated(key))
    document = {
        "version": _VERSION,
        "key": key,
        "nonce": b64encode(nonce).decode(),
        "ciphertext": b64encode(ciphertext).decode(),
    }
    return json.dumps(document).encode() + b"\n"


def unseal(encryption_key: bytes, key: str, content: bytes) -> str:
    """The value that was sealed under `key`. Raises `Refused`."""
    document = _parse(content)
    try:
        nonce = b64decode(document["nonce"], validate=True)
        ciphertext = b64decode(document["ciphertext"], validate=True)
        return AESGCM(encryption_key).decrypt(nonce, ciphertext, _associated(key)).decode()
    except (InvalidTag, ValueError) as error:
        raise Refused from error


def key_of(content: bytes) -> str:
    """The key written in the content, which only `unseal` proves. Raises `Refused`."""
    return _parse(content)["key"]


def _parse(content: bytes) -> dict[str, str]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Refused from error
    if not isinstance(document, dict) or document.get("version") != _VERSION:
        raise Refused
    texts = {name: document.get(name) for name in ("key", "nonce", "ciphertext")}
    checked = {name: text for name, text in texts.items() if isinstance(text, str)}
    if len(checked) != len(texts):
        raise Refused
    return checked


def _associated(key: str) -> bytes:
    return b"swamp vault %d\0" % _VERSION + key.encode()

"""Contents that are signed together and verified alone: one Ed25519 signature for a whole batch.

The contents are the leaves of a hash tree, and its root is signed. Each content carries the signature and its path,
the hashes from its leaf up to the root:

    offset  length
    0       1       version, 0x01
    1       64      signature of the ASCII text "swamp1 dispatches" and the root (32 bytes)
    65      1       n, the length of the path
    66      33 n    the path: each 0x00 (the other hash stands right) or 0x01 (left), then the other hash
    66+33n          the content

A leaf is SHA-256 of 0x00 and the content, a node SHA-256 of 0x01 and the two hashes below it, left and right. A hash
that stands alone at the end of its level goes up as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from itertools import islice

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from swamp.wire.envelope import Refused

MOST_STEPS = 32  #: of a path; a batch of 2^32 contents would have as many
HASHES_REMEMBERED = 4096  #: of what one batch of 1,000 takes, twice

_VERSION = b"\x01"
_PURPOSE = b"swamp1 dispatches"
_HEAD = 1 + 64 + 1
_LEFT, _RIGHT = b"\x01", b"\x00"


def sign_batch(key: Ed25519PrivateKey, contents: Sequence[bytes]) -> list[bytes]:
    """The signed form of each content, in order."""
    if not contents:
        return []
    hashes = [sha256(b"\x00" + content).digest() for content in contents]
    levels = [hashes]
    while len(hashes) > 1:
        hashes = [_above(hashes[i : i + 2]) for i in range(0, len(hashes), 2)]
        levels.append(hashes)
    head = _VERSION + key.sign(_PURPOSE + hashes[0])
    steps = _steps(levels)
    signed = []
    for leaf, content in enumerate(contents):
        path = [step for depth, level in enumerate(steps) if (step := level[leaf >> depth])]
        signed.append(b"".join((head, bytes((len(path),)), *path, content)))
    return signed


class Verifier:
    """Opens what the holder of one key has signed. Remembers the newest hashes that it has found below a signed root,
    so that a batch costs one verification of a signature, and each of its contents two hashes or so. Used by one
    thread."""

    def __init__(self, public_key: bytes) -> None:
        """`public_key` has 32 bytes; raises `ValueError` otherwise."""
        self._key = Ed25519PublicKey.from_public_bytes(public_key)
        self._known: dict[bytes, bytes] = {}  # hash -> signature of the root above it

    def open(self, signed: bytes) -> bytes:
        """The content. Raises `Refused` and nothing else, whatever the bytes."""
        steps = signed[_HEAD - 1] if len(signed) >= _HEAD else MOST_STEPS + 1
        start = _HEAD + 33 * steps
        if signed[:1] != _VERSION or steps > MOST_STEPS or len(signed) < start:
            raise Refused("a dispatch is not in the signed form that this version knows")
        signature, content = signed[1 : _HEAD - 1], signed[start:]
        known = self._known
        node = sha256(b"\x00" + content).digest()
        met = []  # what the root's signature is good for, if it is
        at = _HEAD
        while known.get(node) != signature:
            met.append(node)
            if at == start:
                self._check(signature, node)
                break
            side, other = signed[at : at + 1], signed[at + 1 : at + 33]
            at += 33
            met.append(other)
            if side == _LEFT:
                node = sha256(b"\x01" + other + node).digest()
            elif side == _RIGHT:
                node = sha256(b"\x01" + node + other).digest()
            else:
                raise Refused("a dispatch is not in the signed form that this version knows")
        if met:
            self._remember(met, known.get(node, signature))
        return content

    def _check(self, signature: bytes, root: bytes) -> None:
        try:
            self._key.verify(signature, _PURPOSE + root)
        except InvalidSignature:
            raise Refused("a dispatch was not signed by the orchestrator that this machine joined") from None

    def _remember(self, met: Sequence[bytes], signature: bytes) -> None:
        known = self._known
        for node in met:
            known[node] = signature
        for node in list(islice(known, max(0, len(known) - HASHES_REMEMBERED))):
            del known[node]


def _steps(levels: Sequence[Sequence[bytes]]) -> list[list[bytes]]:
    """For each hash of each level but the root's: its step of a path; empty where it stands alone."""
    return [
        [
            (_LEFT + level[place - 1]) if place & 1 else (_RIGHT + level[place + 1] if place + 1 < len(level) else b"")
            for place in range(len(level))
        ]
        for level in levels[:-1]
    ]


def _above(pair: Sequence[bytes]) -> bytes:
    return pair[0] if len(pair) == 1 else sha256(b"\x01" + pair[0] + pair[1]).digest()

"""What is signed together opens alone, and only as it was signed."""

from __future__ import annotations

import json
import time
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from swamp.wire.envelope import Refused
from swamp.wire.signing import HASHES_REMEMBERED, Verifier, sign_batch

VECTOR = json.loads((Path(__file__).parent / "vectors.json").read_text())["signed"]
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()

#: No two dispatches are alike. (Of two equal leaves either may stand left: their paths say the same.)
batches = st.lists(st.binary(max_size=40), min_size=1, max_size=20, unique=True)


def test_the_written_vectors_hold() -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(VECTOR["private"]))
    assert key.public_key().public_bytes_raw().hex() == VECTOR["public"]
    contents = [bytes.fromhex(content) for content in VECTOR["contents"]]
    assert [signed.hex() for signed in sign_batch(key, contents)] == VECTOR["signed"]
    verifier = Verifier(bytes.fromhex(VECTOR["public"]))
    assert [verifier.open(bytes.fromhex(signed)) for signed in VECTOR["signed"]] == contents


@given(batches)
def test_each_of_a_batch_opens_by_itself(contents: list[bytes]) -> None:
    for signed, content in zip(sign_batch(KEY, contents), contents, strict=True):
        assert Verifier(PUBLIC).open(signed) == content


def test_an_empty_batch_is_one() -> None:
    assert sign_batch(KEY, []) == []


@given(batches, st.data())
def test_one_changed_bit_anywhere_is_noticed(contents: list[bytes], data: st.DataObject) -> None:
    batch = sign_batch(KEY, contents)
    changed = bytearray(data.draw(st.sampled_from(batch)))
    bit = data.draw(st.integers(0, len(changed) * 8 - 1))
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Refused):
        Verifier(PUBLIC).open(bytes(changed))
    assert opened_by_who_knows(batch, bytes(changed)) in {None, *contents}


@given(batches, st.data())
def test_what_is_cut_or_lengthened_is_noticed(contents: list[bytes], data: st.DataObject) -> None:
    batch = sign_batch(KEY, contents)
    signed = data.draw(st.sampled_from(batch))
    cut = signed[: data.draw(st.integers(0, len(signed) - 1))]
    for changed in (cut, signed + data.draw(st.binary(min_size=1, max_size=40))):
        with pytest.raises(Refused):
            Verifier(PUBLIC).open(changed)
        assert opened_by_who_knows(batch, changed) in {None, *contents}


def opened_by_who_knows(batch: list[bytes], signed: bytes) -> bytes | None:
    """What comes out where all of the batch was opened before, None for nothing. The path of a content that is known is
    not looked at again, but nothing comes out that was not signed."""
    verifier = Verifier(PUBLIC)
    for known in batch:
        verifier.open(known)
    try:
        return verifier.open(signed)
    except Refused:
        return None


@given(st.lists(st.binary(max_size=40), min_size=2, max_size=20))
def test_a_node_of_the_tree_is_no_content(contents: list[bytes]) -> None:
    """Two hashes side by side must not pass for a content one level up."""
    signed = sign_batch(KEY, contents)[0]
    path, content = signed[66 : 66 + 33 * signed[65]], signed[66 + 33 * signed[65] :]
    assert path[:1] == b"\0"
    inner = sha256(b"\0" + content).digest() + path[1:33]
    with pytest.raises(Refused):
        Verifier(PUBLIC).open(signed[:65] + bytes((signed[65] - 1,)) + path[33:] + inner)


def test_another_key_opens_nothing() -> None:
    other = Verifier(Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw())
    with pytest.raises(Refused):
        other.open(sign_batch(KEY, [b"content"])[0])


@given(st.binary(max_size=300))
def test_whatever_the_bytes_the_answer_is_a_refusal(data: bytes) -> None:
    with pytest.raises(Refused):
        Verifier(PUBLIC).open(data)
    with pytest.raises(Refused):
        Verifier(PUBLIC).open(b"\x01" + data)


def test_a_batch_costs_one_verification_and_few_hashes_are_remembered() -> None:
    verifier = Verifier(PUBLIC)
    verified = []

    class Key:
        def verify(self, signature: bytes, content: bytes) -> None:
            verified.append((signature, content))

    verifier._key = Key()  # type: ignore[assignment]
    for number in range(4):
        contents = [b"%d %d" % (number, other) for other in range(HASHES_REMEMBERED // 3)]
        assert [verifier.open(signed) for signed in sign_batch(KEY, contents)] == contents
    assert len(verified) == 4
    assert len(verifier._known) == HASHES_REMEMBERED


def test_a_batch_costs_each_of_it_less_than_a_signature_of_its_own() -> None:
    """CPU of this thread, one after the other on the same machine: a batch of 500 against 500 signatures."""
    contents = [b"%400d" % number for number in range(500)]
    began = time.thread_time()
    verifier = Verifier(PUBLIC)
    for signed in sign_batch(KEY, contents):
        verifier.open(signed)
    batch = time.thread_time() - began
    began = time.thread_time()
    for content in contents:
        Verifier(PUBLIC).open(sign_batch(KEY, [content])[0])
    assert batch < (time.thread_time() - began) / 2

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from swamp.wire.envelope import OVERHEAD, Box, Refused, machine_id_of, machine_keys

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())
BOX = Box(bytes(range(32)))


def test_the_written_vectors_hold() -> None:
    keys = {
        name: text if name == "machine_id" else bytes.fromhex(text) for name, text in VECTORS["machine_keys"].items()
    }
    machine = X25519PrivateKey.from_private_bytes(keys["machine_private"])
    orchestrator = X25519PrivateKey.from_private_bytes(keys["orchestrator_private"])
    assert machine_id_of(machine.public_key().public_bytes_raw()) == keys["machine_id"]
    for derived in (
        machine_keys(machine, keys["orchestrator_public"], keys["machine_id"]),
        machine_keys(orchestrator, keys["machine_public"], keys["machine_id"]),
    ):
        assert (derived.up, derived.down, derived.results) == (keys["up"], keys["down"], keys["results"])

    sealed = {name: bytes.fromhex(text) for name, text in VECTORS["sealed"].items()}
    assert Box(sealed["key"]).open(sealed["sealed"], sealed["associated"]) == sealed["plaintext"]


@given(st.binary(max_size=2000), st.binary(max_size=100))
def test_what_was_sealed_opens_in_its_place(plaintext: bytes, associated: bytes) -> None:
    sealed = BOX.seal(plaintext, associated)
    assert len(sealed) == len(plaintext) + OVERHEAD
    assert BOX.open(sealed, associated) == plaintext


@given(st.binary(max_size=60), st.data())
def test_one_changed_bit_anywhere_is_noticed(plaintext: bytes, data: st.DataObject) -> None:
    sealed = bytearray(BOX.seal(plaintext, b"place"))
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Refused):
        BOX.open(bytes(sealed), b"place")


@given(st.binary(max_size=100))
def test_any_bytes_are_refused_and_nothing_else_happens(data: bytes) -> None:
    with pytest.raises(Refused):
        BOX.open(data, b"")


def test_another_place_another_key_or_a_cut_does_not_open() -> None:
    sealed = BOX.seal(b"secret", b"place")
    for box, message, place in (
        (BOX, sealed, b"elsewhere"),
        (Box(os.urandom(32)), sealed, b"place"),
        (BOX, sealed[:-1], b"place"),
    ):
        with pytest.raises(Refused):
            box.open(message, place)


def test_equal_messages_do_not_look_equal() -> None:
    assert BOX.seal(b"same", b"") != BOX.seal(b"same", b"")


def test_keys_differ_by_purpose_and_by_machine() -> None:
    private, peer = X25519PrivateKey.generate(), X25519PrivateKey.generate().public_key().public_bytes_raw()
    one, other = machine_keys(private, peer, "a" * 20), machine_keys(private, peer, "b" * 20)
    assert len({one.up, one.down, one.results, other.up, other.down, other.results}) == 6


@pytest.mark.parametrize("public", [bytes(32), b"short", b"\x01" + bytes(31)])
def test_a_public_key_without_a_secret_is_refused(public: bytes) -> None:
    with pytest.raises(Refused):
        machine_keys(X25519PrivateKey.generate(), public, "a" * 20)

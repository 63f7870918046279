from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import example, given
from hypothesis import strategies as st

from swamp.wire.noise import MAX_MESSAGE, MAX_PAYLOAD, HandshakeRefused, Initiator, MessageRefused, Responder

PSK = bytes(range(32))
WORKER = X25519PrivateKey.generate()
ORCHESTRATOR = X25519PrivateKey.generate()


def pair(psk: bytes = PSK, prologue: bytes = b"swamp1 build-node") -> tuple[Initiator, Responder]:
    return Initiator(WORKER, psk, prologue), Responder(ORCHESTRATOR, PSK, b"swamp1 build-node")


def joined() -> tuple[Initiator, Responder]:
    initiator, responder = pair()
    responder.read(initiator.write())
    initiator.read(responder.write())
    responder.read(initiator.write())
    return initiator, responder


def test_both_sides_end_with_the_same_hash_and_each_others_keys() -> None:
    initiator, responder = pair()
    assert responder.read(initiator.write(b"one")) == b"one"
    assert initiator.read(responder.write(b"two")) == b"two"
    assert initiator.peer_static == ORCHESTRATOR.public_key().public_bytes_raw()
    assert not initiator.done
    assert responder.read(initiator.write(b"three" * 10_000)) == b"three" * 10_000
    assert initiator.done
    assert responder.done
    assert responder.peer_static == WORKER.public_key().public_bytes_raw()
    assert initiator.handshake_hash == responder.handshake_hash
    assert len(initiator.handshake_hash) == 32


def test_a_wrong_secret_fails_in_the_first_message() -> None:
    initiator, responder = pair(psk=bytes(32))
    with pytest.raises(HandshakeRefused):
        responder.read(initiator.write())


def test_what_was_said_in_clear_before_must_be_the_same_on_both_sides() -> None:
    initiator, responder = pair(prologue=b"swamp1 other-node")
    with pytest.raises(HandshakeRefused):
        responder.read(initiator.write())


def test_somebody_with_the_secret_in_the_middle_cannot_hide_behind_the_orchestrators_key() -> None:
    initiator, _ = pair()
    impostor = Responder(X25519PrivateKey.generate(), PSK, b"swamp1 build-node")
    impostor.read(initiator.write())
    initiator.read(impostor.write())
    assert initiator.peer_static != ORCHESTRATOR.public_key().public_bytes_raw()


@given(st.binary(max_size=300))
@example(b"")
@example(bytes(48))
@example(bytes(70_000))
def test_any_bytes_as_a_first_message_are_refused_and_nothing_else_happens(data: bytes) -> None:
    _, responder = pair()
    with pytest.raises(HandshakeRefused):
        responder.read(data)
    with pytest.raises(HandshakeRefused):
        responder.read(Initiator(WORKER, PSK, b"swamp1 build-node").write())


@given(st.integers(0, 2), st.data())
def test_one_changed_bit_in_any_handshake_message_ends_it(turn: int, data: st.DataObject) -> None:
    initiator, responder = pair()
    for number, (writer, reader) in enumerate(((initiator, responder), (responder, initiator), (initiator, responder))):
        message = bytearray(writer.write(b"payload"))
        if number == turn:
            # The highest bit of an X25519 key is ignored by X25519, but hashed: it must end the handshake as well.
            bit = data.draw(st.integers(0, len(message) * 8 - 1))
            message[bit // 8] ^= 1 << bit % 8
            with pytest.raises(HandshakeRefused):
                reader.read(bytes(message))
            return
        reader.read(bytes(message))


def test_nothing_is_known_before_it_is_proved() -> None:
    initiator, responder = pair()
    for party in (initiator, responder):
        with pytest.raises(RuntimeError):
            _ = party.peer_static
        with pytest.raises(RuntimeError):
            _ = party.handshake_hash
        with pytest.raises(MessageRefused):
            party.decrypt(b"x" * 40)


def test_a_handshake_payload_has_a_limit() -> None:
    initiator, responder = pair()
    with pytest.raises(ValueError, match="at most"):
        initiator.write(bytes(MAX_PAYLOAD + 1))
    assert responder.read(initiator.write(bytes(MAX_PAYLOAD))) == bytes(MAX_PAYLOAD)


@pytest.mark.parametrize("size", [0, 1, 65_517, 65_518, 65_519, 65_535, 2 * 65_518, 1_000_000])
def test_messages_of_any_length_pass_in_both_directions(size: int) -> None:
    initiator, responder = joined()
    plaintext = os.urandom(size)
    assert responder.decrypt(initiator.encrypt(plaintext)) == plaintext
    assert initiator.decrypt(responder.encrypt(plaintext)) == plaintext


@pytest.mark.parametrize("damage", ["changed", "repeated", "left out", "cut", "lengthened", "cut to nothing"])
def test_a_message_changed_repeated_left_out_cut_or_lengthened_ends_the_session(damage: str) -> None:
    initiator, responder = joined()
    first, second = initiator.encrypt(b"x" * 200_000), initiator.encrypt(b"second")
    if damage == "repeated":
        responder.decrypt(first)
    damaged = {
        "changed": first[:-1] + bytes([first[-1] ^ 1]),
        "repeated": first,
        "left out": second,
        "cut": first[: 2 * 65_535],
        "lengthened": first + second,
        "cut to nothing": b"",
    }[damage]
    with pytest.raises(MessageRefused):
        responder.decrypt(damaged)
    with pytest.raises(MessageRefused):
        responder.decrypt(first)


@given(st.binary(max_size=200))
def test_any_bytes_in_a_session_are_refused_and_nothing_else_happens(data: bytes) -> None:
    _, responder = joined()
    with pytest.raises(MessageRefused):
        responder.decrypt(data)


def test_a_message_over_the_limit_is_not_sent() -> None:
    initiator, _ = joined()
    with pytest.raises(ValueError, match="longer than"):
        initiator.encrypt(bytes(MAX_MESSAGE + 1))

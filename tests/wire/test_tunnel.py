"""Frames of a tunnel: the bytes come through in order, and whatever is no frame ends it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from swamp.wire.noise import CHUNK, Initiator, MessageRefused, Responder
from swamp.wire.tunnel import LONGEST, seal, unseal
from tests.wire.test_noise import joined

VECTOR = json.loads((Path(__file__).parent / "vectors.json").read_text())["tunnel"]


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=5))
@example([b"x" * CHUNK, b"y" * (CHUNK + 1), b"z" * LONGEST])
def test_bytes_come_through_in_order(parts: list[bytes]) -> None:
    worker, orchestrator = joined()
    for part in parts:
        assert unseal(orchestrator, seal(worker, part)) == part
        assert unseal(worker, seal(orchestrator, part)) == part


@pytest.mark.parametrize("data", [b"", bytes(LONGEST + 1)], ids=["nothing", "too much"])
def test_nothing_and_too_much_are_not_sent(data: bytes) -> None:
    worker, _ = joined()
    with pytest.raises(ValueError, match="a frame of a tunnel carries"):
        seal(worker, data)


@given(st.none() | st.text() | st.binary(max_size=300))
@example(b"")
@example(b"*1\r\n$4\r\nPING\r\n")
@example(bytes(LONGEST + 100))
def test_any_bytes_are_refused_and_nothing_else_happens(frame: object) -> None:
    _, orchestrator = joined()
    with pytest.raises(MessageRefused):
        unseal(orchestrator, frame)


@given(st.binary(min_size=1, max_size=200), st.data())
def test_a_frame_that_was_changed_cut_repeated_or_left_out_is_refused(data: bytes, draw: st.DataObject) -> None:
    worker, orchestrator = joined()
    frame = seal(worker, data)
    how = draw.draw(st.sampled_from(["changed", "cut", "repeated", "left out"]))
    if how == "changed":
        bit = draw.draw(st.integers(0, 8 * len(frame) - 1))
        bad = bytearray(frame)
        bad[bit // 8] ^= 1 << bit % 8
        wrong = bytes(bad)
    elif how == "cut":
        wrong = frame[: draw.draw(st.integers(0, len(frame) - 1))]
    elif how == "repeated":
        assert unseal(orchestrator, frame) == data
        wrong = frame
    else:
        wrong = seal(worker, data)
    with pytest.raises(MessageRefused):
        unseal(orchestrator, wrong)


def test_a_frame_longer_than_allowed_is_refused_though_it_opens() -> None:
    worker, orchestrator = joined()
    with pytest.raises(MessageRefused):
        unseal(orchestrator, worker.encrypt(bytes(LONGEST + 1)))


def test_a_frame_with_no_bytes_of_the_connection_is_refused_though_it_opens() -> None:
    worker, orchestrator = joined()
    with pytest.raises(MessageRefused):
        unseal(orchestrator, worker.encrypt(b""))


def keyed(party: Initiator | Responder, key: bytes, number: int) -> None:
    """Both ways under this key, at this number."""
    for state in (party._noise.noise_protocol.cipher_state_encrypt, party._noise.noise_protocol.cipher_state_decrypt):
        state.initialize_key(key)
        state.set_nonce(number)


def test_the_vector_of_the_protocol_is_what_is_sent_and_read() -> None:
    worker, orchestrator = joined()
    for party in (worker, orchestrator):
        keyed(party, bytes.fromhex(VECTOR["key"]), VECTOR["number"])
    assert seal(worker, bytes.fromhex(VECTOR["bytes"])).hex() == VECTOR["frame"]
    assert unseal(orchestrator, bytes.fromhex(VECTOR["frame"])).hex() == VECTOR["bytes"]

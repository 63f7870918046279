"""What a worker lets through of what lies in Redis."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from swamp.clock import from_iso, iso
from swamp.models.invocation import Invocation
from swamp.wire.envelope import Box
from swamp.wire.messages import Dispatch, Welcome, dispatch_place, pack_dispatch
from swamp.wire.signing import sign_batch
from workers.opener import Behind, Declines, Opener

SIGNING = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = SIGNING.public_key().public_bytes_raw()
KEYS = {3: b"3" * 32, 4: b"4" * 32}
NOW = "2026-06-15T11:34:58.961Z"
WELCOME = Welcome("node", "node", "5f0c", NOW, 7, 0, 0, "redis://localhost", "u", "p", PUBLIC, KEYS, 4.0)
CALL = Invocation("m1", "greeter", "command/shell", "execute", {"run": "echo hi"})
DISPATCH = Dispatch("node--1", "node", 1, 7, "2026-06-15T11:34:59.961Z", "run", "hello", "main", "greet", False, CALL)


class Time:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def opener(time: Time) -> Opener:
    return Opener(WELCOME, PUBLIC, time)


def sealed(
    dispatch: Dispatch = DISPATCH,
    *,
    place: str = "node--1",
    generation: int = 4,
    key: bytes = KEYS[4],
    signing: Ed25519PrivateKey = SIGNING,
) -> bytes:
    (signed,) = sign_batch(signing, [pack_dispatch(dispatch)])
    return generation.to_bytes(4, "big") + Box(key).seal(signed, dispatch_place(place))


def declines(opener: Opener, content: bytes, dispatch: str = "node--1") -> str:
    with pytest.raises(Declines) as declined:
        opener.open(dispatch, content)
    return declined.value.reason


def test_what_the_orchestrator_signed_for_this_target_opens(opener: Opener):
    assert opener.open("node--1", sealed()) == DISPATCH


def test_it_opens_with_an_older_key_of_the_target_as_long_as_the_welcome_names_it(opener: Opener):
    assert opener.open("node--1", sealed(generation=3, key=KEYS[3])) == DISPATCH
    assert declines(opener, sealed(generation=2)) == "unreadable"


def test_a_newer_key_than_the_welcome_named_is_a_reason_to_join_again_and_a_wild_number_is_none(opener: Opener):
    with pytest.raises(Behind):
        opener.open("node--1", sealed(generation=5, key=b"5" * 32))
    assert declines(opener, sealed(generation=0xDEADBEEF)) == "unreadable"


def test_what_a_member_that_knows_the_target_s_key_made_is_refused(opener: Opener):
    stranger = Ed25519PrivateKey.generate()
    assert declines(opener, sealed(signing=stranger)) == "unsigned"
    plain = (4).to_bytes(4, "big") + Box(KEYS[4]).seal(pack_dispatch(DISPATCH), dispatch_place("node--1"))
    assert declines(opener, plain) == "unsigned"


def test_what_lies_under_another_id_or_was_meant_for_another_target_is_refused(opener: Opener):
    assert declines(opener, sealed(), "node--2") == "unreadable", "it is sealed for its place"
    assert declines(opener, sealed(place="node--2"), "node--2") == "foreign"
    assert declines(opener, sealed(replace(DISPATCH, target="other"))) == "foreign"


def test_it_expires_by_the_orchestrator_s_clock_as_it_has_gone_on_since_the_welcome(opener: Opener, time: Time):
    time.seconds += 0.999
    assert opener.open("node--1", sealed()) == DISPATCH
    time.seconds += 0.001
    assert declines(opener, sealed()) == "expired"
    later = iso(from_iso(DISPATCH.expires_at) + timedelta(milliseconds=1))
    assert opener.open("node--1", sealed(replace(DISPATCH, expires_at=later)))


def test_what_was_pushed_before_redis_was_last_filled_is_over_and_what_was_pushed_after_it_has_to_wait(opener: Opener):
    assert declines(opener, sealed(replace(DISPATCH, incarnation=6))) == "expired"
    with pytest.raises(Behind):
        opener.open("node--1", sealed(replace(DISPATCH, incarnation=8)))


@given(st.binary(max_size=200), st.sampled_from([b"", (4).to_bytes(4, "big")]))
def test_whatever_lies_there_the_answer_is_a_reason(data: bytes, head: bytes):
    with pytest.raises((Declines, Behind)):
        Opener(WELCOME, PUBLIC).open("node--1", head + data)


@given(st.binary(max_size=200))
def test_whatever_a_member_sealed_the_answer_is_a_reason(data: bytes):
    content = (4).to_bytes(4, "big") + Box(KEYS[4]).seal(data, dispatch_place("node--1"))
    with pytest.raises(Declines):
        Opener(WELCOME, PUBLIC).open("node--1", content)


@given(st.binary(max_size=200))
def test_whatever_the_orchestrator_signed_the_answer_is_a_reason(data: bytes):
    (signed,) = sign_batch(SIGNING, [data])
    content = (4).to_bytes(4, "big") + Box(KEYS[4]).seal(signed, dispatch_place("node--1"))
    with pytest.raises(Declines):
        Opener(WELCOME, PUBLIC).open("node--1", content)

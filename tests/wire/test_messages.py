"""Messages as values: what is packed is read back the same, and what is no message is refused, whatever it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import UnionType
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swamp.clock import iso
from swamp.data.record import Blob, Output
from swamp.models.invocation import Invocation, Outcome
from swamp.wire import messages
from swamp.wire.codec import Malformed, pack, unpack
from swamp.wire.messages import (
    BlobPart,
    BlobStored,
    Dispatch,
    Down,
    DownBody,
    Hello,
    Opening,
    OutputLines,
    Refusal,
    SessionMessage,
    Started,
    Up,
    UpBody,
    Welcome,
)

numbers = st.integers(0, (1 << 63) - 1)
moments = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC)).map(iso)
checksums = st.text("0123456789abcdef", min_size=64, max_size=64)
texts = st.text(max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
st.register_type_strategy(float, st.floats(allow_nan=False))
st.register_type_strategy(int, numbers)
st.register_type_strategy(str, texts)

outputs = st.builds(
    Output,
    spec_name=texts,
    name=texts,
    data_type=st.sampled_from(["resource", "file"]),
    content_type=texts,
    content=st.binary(max_size=20) | st.builds(Blob, checksums, numbers),
    tags=st.dictionaries(texts, texts, max_size=3),
)
outcomes = st.builds(
    Outcome,
    status=st.sampled_from(["succeeded", "failed", "canceled"]),
    error=st.none() | texts,
    outputs=st.lists(outputs, max_size=3).map(tuple),
    started_at=moments,
    ended_at=moments,
    duration_ms=numbers,
)
invocations = st.builds(Invocation, arguments=st.dictionaries(texts, json_values, max_size=3))
dispatches = st.builds(Dispatch, invocation=invocations, expires_at=moments)
keys = st.binary(min_size=32, max_size=32)


def some_of(union: UnionType) -> st.SearchStrategy:
    """Any message of a union; fields of which their type says too little are given here."""
    special: dict[object, dict[str, st.SearchStrategy]] = {
        Started: {"at": moments},
        OutputLines: {"stream": st.sampled_from(["stdout", "stderr"])},
        Hello: {"clock": moments, "grace": st.floats(0, messages.LONGEST)},
        Welcome: {
            "clock": moments,
            "signing_key": keys,
            "delivers_until": st.none() | moments,
            "target_keys": st.dictionaries(st.integers(1, messages.MOST_GENERATIONS), keys, min_size=1, max_size=3),
        },
        BlobPart: {"checksum": checksums},
        BlobStored: {"checksum": checksums, "error": st.none() | texts},
    }
    return st.one_of(*(st.builds(kind, **special.get(kind, {})) for kind in union.__args__))


ups = st.builds(Up, numbers, numbers, some_of(UpBody))
downs = st.builds(Down, texts, numbers, some_of(DownBody))
sessions = some_of(SessionMessage)
openings = st.builds(Opening)

#: Each way to read, and whatever it reads, packed.
READERS: dict[str, tuple[Callable[[bytes], object], st.SearchStrategy[bytes]]] = {
    "up": (messages.unpack_up, ups.map(lambda up: messages.pack_up(up.epoch, up.number, up.body))),
    "down": (messages.unpack_down, downs.map(lambda down: messages.pack_down(down.boot, down.number, down.body))),
    "dispatch": (messages.unpack_dispatch, dispatches.map(messages.pack_dispatch)),
    "result": (messages.unpack_result, outcomes.map(messages.pack_result)),
    "session": (messages.unpack_session, sessions.map(messages.pack_session)),
    "opening": (messages.unpack_opening, openings.map(messages.pack_opening)),
    "reply": (messages.unpack_reply, st.binary(max_size=99).map(messages.pack_reply)),
    "refusal": (messages.unpack_reply, st.builds(Refusal).map(messages.pack_clear_refusal)),
}


@given(ups)
def test_what_a_worker_says_is_read_back(up: Up) -> None:
    assert messages.unpack_up(messages.pack_up(up.epoch, up.number, up.body)) == up


@given(downs)
def test_what_the_orchestrator_says_is_read_back(down: Down) -> None:
    assert messages.unpack_down(messages.pack_down(down.boot, down.number, down.body)) == down


@given(dispatches)
def test_a_dispatch_is_read_back(dispatch: Dispatch) -> None:
    assert messages.unpack_dispatch(messages.pack_dispatch(dispatch)) == dispatch


@given(outcomes)
def test_a_result_is_read_back(outcome: Outcome) -> None:
    assert messages.unpack_result(messages.pack_result(outcome)) == outcome


@given(sessions)
def test_what_is_said_in_a_session_is_read_back(message: SessionMessage) -> None:
    assert messages.unpack_session(messages.pack_session(message)) == message


@given(openings, st.binary(max_size=99), st.builds(Refusal))
def test_the_frames_before_the_handshake_are_read_back(opening: Opening, noise: bytes, refusal: Refusal) -> None:
    assert messages.unpack_opening(messages.pack_opening(opening)) == opening
    assert messages.unpack_reply(messages.pack_reply(noise)) == noise
    assert messages.unpack_reply(messages.pack_clear_refusal(refusal)) == refusal


# ---------------------------------------------------------------------- what is no message


def read_or_refused(name: str, data: bytes) -> object:
    """What was read; None if it was refused. Anything else that is raised fails the test."""
    try:
        return READERS[name][0](data)
    except Malformed:
        return None


@pytest.mark.parametrize("name", READERS)
@given(st.data())
def test_whatever_comes_is_read_or_refused_as_malformed(name: str, data: st.DataObject) -> None:
    read_or_refused(name, data.draw(st.binary(max_size=80)))
    read_or_refused(name, pack(data.draw(json_values)))
    packed = bytearray(data.draw(READERS[name][1]))
    for _ in range(data.draw(st.integers(1, 3))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    read_or_refused(name, bytes(packed))


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=50)
@given(st.data())
def test_a_message_with_a_key_missing_or_holding_something_else_is_refused(name: str, data: st.DataObject) -> None:
    """And where it is read all the same, only because what it holds is right."""
    message = unpack(data.draw(READERS[name][1]))
    assert isinstance(message, dict)
    if not message:
        return
    key = data.draw(st.sampled_from(sorted(message)))
    without = {other: value for other, value in message.items() if other != key}
    assert read_or_refused(name, pack(without)) is None
    changed = read_or_refused(name, pack({**message, key: data.draw(json_values | st.binary(max_size=9))}))
    if changed is not None:
        assert_types_hold(changed)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=20)
@given(st.data())
def test_keys_that_nobody_knows_are_ignored(name: str, data: st.DataObject) -> None:
    packed = data.draw(READERS[name][1])
    message = unpack(packed)
    assert isinstance(message, dict)
    more = pack({**message, "of a later version": data.draw(json_values)})
    assert read_or_refused(name, more) == READERS[name][0](packed)


def assert_types_hold(value: object) -> None:
    """That what was read can be relied on: it packs again."""
    again: object
    match value:
        case Up():
            again = messages.unpack_up(messages.pack_up(value.epoch, value.number, value.body))
        case Down():
            again = messages.unpack_down(messages.pack_down(value.boot, value.number, value.body))
        case Dispatch():
            again = messages.unpack_dispatch(messages.pack_dispatch(value))
        case Outcome():
            again = messages.unpack_result(messages.pack_result(value))
        case Opening():
            again = messages.unpack_opening(messages.pack_opening(value))
        case bytes():
            return
        case Refusal():
            again = messages.unpack_reply(messages.pack_clear_refusal(value))
        case _:
            again = messages.unpack_session(messages.pack_session(cast("SessionMessage", value)))
    assert again == value


HUGE = 1 << 63


@pytest.mark.parametrize("number", [-1, HUGE, (1 << 64) - 1, True, 1.0, "1", None])
@pytest.mark.parametrize("key", ["epoch", "number", "slots", "said"])
def test_a_number_that_has_no_room_in_the_database_is_no_number(key: str, number: object) -> None:
    message = {"kind": "heartbeat", "epoch": 1, "number": 1, "boot": "b", "running": 0, "slots": 1, "holding": []}
    message |= {"said": 0, key: number}
    with pytest.raises(Malformed, match=key):
        messages.unpack_up(pack(message))


@pytest.mark.parametrize(
    "time",
    [
        "",
        "yesterday",
        "2026-06-15",
        "2026-06-15T12:00:00Z",
        "2026-06-15T12:00:00.000+00:00",
        "2026-02-30T12:00:00.000Z",
        "2026-06-15T12:00:00.000Z\n",
        "<script>",
        1781523298,
    ],
)
def test_a_time_in_another_form_is_no_time(time: object) -> None:
    with pytest.raises(Malformed, match="'at'"):
        messages.unpack_up(pack({"kind": "started", "epoch": 1, "number": 1, "dispatch": "d", "at": time}))


@pytest.mark.parametrize("grace", [-1.0, float("nan"), float("inf"), 1e10, 30, None])
def test_what_is_no_time_to_wait_is_no_grace(grace: object) -> None:
    hello = unpack(messages.pack_session(Hello(1, "0", 1, 0, "x", 1, "2026-06-15T12:00:00.000Z", "h", 1, "3", 30.0)))
    assert isinstance(hello, dict)
    with pytest.raises(Malformed, match="'grace'"):
        messages.unpack_session(pack({**hello, "grace": grace}))


@pytest.mark.parametrize("checksum", ["", "ab", "g" * 64, "AB" * 32, "../" + "a" * 61, "ab" * 33])
def test_what_could_name_another_file_is_no_checksum(checksum: str) -> None:
    with pytest.raises(Malformed):
        messages.unpack_session(pack({"kind": "blob", "checksum": checksum, "data": b"", "last": True}))
    content = {"checksum": checksum, "size": 1}
    output = {"spec": "s", "name": "n", "type": "file", "contentType": "t", "content": content, "tags": {}}
    result = {"status": "succeeded", "error": None, "startedAt": "2026-06-15T12:00:00.000Z", "outputs": [output]}
    with pytest.raises(Malformed):
        messages.unpack_result(pack({**result, "endedAt": result["startedAt"], "durationMs": 1}))


@given(st.binary(max_size=6000), st.booleans())
def test_a_stranger_is_not_listened_to_for_long(noise: bytes, reply: bool) -> None:
    """Before the handshake anybody may speak: frames are short."""
    read: Callable[[bytes], object] = messages.unpack_reply if reply else messages.unpack_opening
    packed = messages.pack_reply(noise) if reply else messages.pack_opening(Opening(1, "name", noise))
    if len(packed) > 4096:
        with pytest.raises(Malformed):
            read(packed)
    else:
        read(packed)

from __future__ import annotations

import struct

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from swamp.wire import codec
from swamp.wire.codec import Malformed, pack, unpack

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(max_size=300)
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5), max_leaves=30
)


def nested(depth: int) -> object:
    value: object = []
    for _ in range(depth - 1):
        value = [value]
    return value


@given(VALUES)
def test_a_value_comes_back_as_it_went(value: object) -> None:
    assert unpack(pack(value)) == value


@given(st.binary(max_size=400))
@example(b"")
@example(b"\xdd\xff\xff\xff\xff")  # an array that claims four billion items
@example(b"\xdf\xff\xff\xff\xff")  # a map of that size
@example(b"\xc6\xff\xff\xff\xff")  # bytes of that size
@example(b"\xd9\x01\xff")  # text that is not UTF-8
@example(b"\xc1")  # the one byte that msgpack never uses
@example(b"\x91" * 5000)
@example(b"\xdd\x00\x00\x0f\xff" * 1000)
def test_any_bytes_are_read_or_refused_and_nothing_else(data: bytes) -> None:
    try:
        value = unpack(data)
    except Malformed:
        return
    assert unpack(pack(value)) == value or value != value  # NaN


@given(VALUES, st.data())
def test_a_cut_or_lengthened_message_is_refused(value: object, data: st.DataObject) -> None:
    packed = pack(value)
    with pytest.raises(Malformed):
        unpack(packed[: data.draw(st.integers(0, len(packed) - 1))])
    with pytest.raises(Malformed):
        unpack(packed + b"\xc0")


def test_nesting_goes_to_the_limit_and_not_beyond() -> None:
    deepest, too_deep = nested(codec.MAX_DEPTH), nested(codec.MAX_DEPTH + 1)
    assert unpack(pack(deepest)) == deepest
    with pytest.raises(Malformed, match="deeper than 32"):
        pack(too_deep)
    with pytest.raises(Malformed, match="deeper than 32"):
        unpack(msgpack.packb(too_deep))


@pytest.mark.parametrize(
    "data",
    [
        msgpack.packb(msgpack.ExtType(5, b"code")),
        msgpack.packb(msgpack.ExtType(5, b"")),
        msgpack.packb(msgpack.Timestamp(1, 2)),
        b"\xd4\xff\x00",
    ],
)
def test_extension_types_are_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        unpack(data)


def test_a_map_with_a_key_twice_or_a_key_that_is_no_text_is_refused() -> None:
    for data in (b"\x82\xa1a\x01\xa1a\x02", msgpack.packb({1: 2}), msgpack.packb({b"a": 2}), b"\x81\x90\x01"):
        with pytest.raises(Malformed):
            unpack(data)


def test_what_has_no_form_is_refused_before_it_is_sent() -> None:
    for value in (2**64, object(), {"a": {1, 2}}, "\ud800"):
        with pytest.raises(Malformed):
            pack(value)


def test_longer_than_the_limit_is_refused_on_both_sides() -> None:
    packed = pack(b"x" * 100)
    assert unpack(packed, limit=len(packed)) == b"x" * 100
    with pytest.raises(Malformed, match="longer than"):
        unpack(packed, limit=len(packed) - 1)
    with pytest.raises(Malformed, match="longer than"):
        pack(b"x" * 100, limit=50)


def test_too_many_items_in_one_array_are_refused() -> None:
    count = codec.MAX_LENGTH + 1
    with pytest.raises(Malformed):
        unpack(b"\xdd" + struct.pack(">I", count) + b"\xc0" * count)

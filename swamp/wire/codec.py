"""Values as bytes: msgpack, and nothing that a stranger could use against the reader.

On the wire: null, booleans, integers of 64 bits, doubles, UTF-8 text, bytes, arrays, and maps whose keys are text and
differ from each other. No extension types. Arrays arrive as lists.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeAlias

import msgpack

from swamp.errors import Invalid
from swamp.packer import Packer

MAX_SIZE = 64 << 20  # bytes of one packed value
MAX_DEPTH = 32  # arrays and maps inside each other, the outermost counted
MAX_LENGTH = 1 << 20  # items of one array or map

_Container: TypeAlias = "dict[Any, Any] | list[Any] | tuple[Any, ...]"
_CONTAINERS = (dict, list, tuple)
_PACKER = Packer()

#: Every byte that does not open an array or a map: fixmap 80-8f, fixarray 90-9f, array 16 and 32, map 16 and 32.
_NO_CONTAINER = bytes(byte for byte in range(256) if not (0x80 <= byte <= 0x9F or 0xDC <= byte <= 0xDF))


class Malformed(Invalid):
    """A value that has no form on the wire, or bytes that are no such form."""

    default_code = "malformed"


def pack(value: object, *, limit: int = MAX_SIZE) -> bytes:
    """The bytes of `value`, whose maps must have text for keys. Raises `Malformed` for whatever else `unpack` would
    refuse to read back."""
    try:
        packed = _PACKER.pack(value)
        if _may_be_deep(packed):
            _check(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise Malformed(f"a value cannot be written as a message: {error}") from error
    if len(packed) > limit:
        raise Malformed(f"a message of {len(packed)} bytes is longer than {limit}")
    return packed


def unpack(data: bytes, *, limit: int = MAX_SIZE) -> object:
    """The value that `data`, all of it, stands for. Raises `Malformed` and nothing else, whatever the bytes."""
    if len(data) > limit:
        raise Malformed(f"a message of {len(data)} bytes is longer than {limit}")
    # A header may claim a length that the rest of the message cannot hold, and memory is set aside by what it claims.
    length = min(len(data), MAX_LENGTH)
    try:
        value: object = msgpack.unpackb(
            data,
            object_pairs_hook=_distinct,
            ext_hook=_no_extension,
            max_array_len=length,
            max_map_len=length,
            max_ext_len=0,
        )
        if _may_be_deep(data):
            _check(value)
    except (ValueError, TypeError, MemoryError, msgpack.UnpackException) as error:
        raise Malformed(f"a message cannot be read: {error or type(error).__name__}") from error
    return value


def _may_be_deep(packed: bytes) -> bool:
    """Whether there are enough bytes that could open an array or map for it to be deeper or longer than allowed.

    Looking costs a small part of what walking through the value does, and nearly every message passes.
    """
    return len(packed) > MAX_LENGTH or len(packed.translate(None, _NO_CONTAINER)) > MAX_DEPTH


def _distinct(pairs: list[tuple[object, object]]) -> dict[object, object]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("a key appears twice in a map")
    try:
        "".join(mapping)  # type: ignore[arg-type]  # the quickest way to ask whether all keys are text
    except TypeError:
        raise ValueError("a key of a map is no text") from None
    return mapping


def _no_extension(kind: int, _data: bytes) -> object:
    raise ValueError(f"extension type {kind}")


def _check(value: object) -> None:
    """Level by level, so that a deep value cannot exhaust the stack."""
    level: list[_Container] = [value] if isinstance(value, _CONTAINERS) else []
    depth = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        below: list[_Container] = []
        for container in level:
            if isinstance(container, dict) and any(type(key) is not str for key in container):
                raise ValueError("a key of a map is no text")
            items: Collection[object] = container.values() if isinstance(container, dict) else container
            if len(items) > MAX_LENGTH:
                raise ValueError(f"more than {MAX_LENGTH} items in one place")
            below += [item for item in items if isinstance(item, _CONTAINERS)]
        level = below

"""What a message may hold, taken out of it: each raises `Malformed` where something else stands there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from operator import itemgetter
from typing import Any, TypeVar, cast

from swamp.clock import from_iso
from swamp.wire.codec import Malformed, unpack
from swamp.wire.envelope import KEY_SIZE

T = TypeVar("T")

LONGEST = 1e9  #: seconds that anybody may ask for

_ROOM = 1 << 63  # the first number for which SQLite has no room

#: Times as `clock.iso` writes them: they go to tools that read nothing else.
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)


def take(message: Mapping[str, object], key: str, kind: type[T]) -> T:
    """A value of this kind; a whole number is one from 0 that SQLite can hold."""
    value = message.get(key)
    if not isinstance(value, kind):
        raise Malformed(f"a message holds no {kind.__name__} under '{key}'")
    # bool is an int to isinstance, and no number to us; nor is there room in the database for more than 63 bits.
    if kind is int and (isinstance(value, bool) or not 0 <= cast("int", value) < _ROOM):
        raise Malformed(f"a message holds no number from 0 under '{key}'")
    return value


class Fields:
    """Several values at once: looked at together, because nearly every message holds what it should."""

    def __init__(
        self, **kinds: type[str] | type[int] | type[bool] | type[list[object]] | type[dict[str, object]]
    ) -> None:
        """The kind of each, by key; two or more."""
        self._kinds = kinds
        self._get = itemgetter(*kinds)
        self._types = tuple(kinds.values())
        self._numbers = [place for place, kind in enumerate(kinds.values()) if kind is int]

    def of(self, message: Mapping[str, object]) -> tuple[Any, ...]:
        """In the order of the kinds, what `take` gives for each, and raises."""
        try:
            values: tuple[Any, ...] = self._get(message)
        except KeyError:
            values = ()
        if tuple(map(type, values)) == self._types and all(0 <= values[place] < _ROOM for place in self._numbers):
            return values
        return tuple(take(message, key, kind) for key, kind in self._kinds.items())


def text_or_null(message: Mapping[str, object], key: str) -> str | None:
    """A text, or null, which has to stand there."""
    return None if key in message and message[key] is None else take(message, key, str)


def moment(message: Mapping[str, object], key: str) -> str:
    """A time as `clock.iso` writes it."""
    text = take(message, key, str)
    if not is_moment(text):
        raise Malformed(f"a message holds no time under '{key}'")
    return text


@lru_cache(maxsize=1024)  # what travels together was made together
def is_moment(text: str) -> bool:
    """Whether it is a time as `clock.iso` writes it."""
    try:
        return _MOMENT.fullmatch(text) is not None and from_iso(text) is not None
    except ValueError:
        return False


def moment_or_null(message: Mapping[str, object], key: str) -> str | None:
    """A time, or null, which has to stand there."""
    return None if key in message and message[key] is None else moment(message, key)


def seconds(message: Mapping[str, object], key: str) -> float:
    """A length of time, at most `LONGEST`."""
    length = take(message, key, float)
    if not 0 <= length <= LONGEST:
        raise Malformed(f"a message holds no number of seconds under '{key}'")
    return length


def texts(message: Mapping[str, object], key: str) -> tuple[str, ...]:
    """A list of texts."""
    values = take(message, key, list)
    if not all(isinstance(value, str) for value in values):
        raise Malformed(f"a message holds no list of texts under '{key}'")
    return tuple(values)


def text_map(message: Mapping[str, object], key: str) -> dict[str, str]:
    """A map of texts to texts."""
    values = take(message, key, dict)
    if not all(isinstance(name, str) and isinstance(value, str) for name, value in values.items()):
        raise Malformed(f"a message holds no map of texts under '{key}'")
    return values


def as_map(data: bytes) -> dict[str, object]:
    """A whole message."""
    message = unpack(data)
    if not isinstance(message, dict):
        raise Malformed("a message is no map")
    return message


def checksum(message: Mapping[str, object]) -> str:
    """The SHA-256 of content, in hexadecimal."""
    checksum = take(message, "checksum", str)
    # It becomes the name of a file.
    if len(checksum) != 64 or any(digit not in "0123456789abcdef" for digit in checksum):
        raise Malformed("a checksum is 64 hex digits")
    return checksum


def key(message: Mapping[str, object], name: str) -> bytes:
    """A key of `KEY_SIZE` bytes."""
    key = take(message, name, bytes)
    if len(key) != KEY_SIZE:
        raise Malformed(f"a message holds no key under '{name}'")
    return key

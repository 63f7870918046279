"""Ids of versions: UUIDs that begin with the time, so that rows that are made together lie together in the index.

With ids that are random from the first digit on, every insert changes another page of the index, and a transaction of a
few hundred of them writes the whole of it.
"""

from __future__ import annotations

import os
import time


def new_version_id() -> str:
    """An id that nobody else makes."""
    return uuid7(time.time_ns() // 1_000_000, os.urandom(10))


def uuid7(milliseconds: int, noise: bytes) -> str:
    """A UUID of version 7 (RFC 9562, section 5.7) of a unix time and 10 random bytes, of which 74 bits are used."""
    low = int.from_bytes(noise, "big")
    value = milliseconds << 80 | 0x7 << 76 | (low >> 64 & 0xFFF) << 64 | 0b10 << 62 | low & (1 << 62) - 1
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

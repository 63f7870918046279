"""Ids of versions."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from swamp.data.ids import new_version_id, uuid7

MOMENTS = st.integers(0, (1 << 48) - 1)
NOISE = st.binary(min_size=10, max_size=10)


@given(MOMENTS, NOISE)
def test_they_are_uuids_of_version_7(moment: int, noise: bytes) -> None:
    text = uuid7(moment, noise)
    made = uuid.UUID(text)
    assert (str(made), made.version, made.variant, made.int >> 80) == (text, 7, uuid.RFC_4122, moment)


@given(MOMENTS, MOMENTS, NOISE, NOISE)
def test_later_ones_sort_behind_earlier_ones(one: int, other: int, noise: bytes, other_noise: bytes) -> None:
    if one < other:
        assert uuid7(one, noise) < uuid7(other, other_noise)


@given(MOMENTS, NOISE, st.integers(0, 79))
def test_of_the_noise_all_bits_but_those_of_version_and_variant_count(moment: int, noise: bytes, bit: int) -> None:
    other = (int.from_bytes(noise, "big") ^ 1 << bit).to_bytes(10, "big")
    assert (uuid7(moment, noise) != uuid7(moment, other)) == (bit < 62 or 64 <= bit < 76)


def test_none_is_made_twice() -> None:
    assert len({new_version_id() for _ in range(1000)}) == 1000

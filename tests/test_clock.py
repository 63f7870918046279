"""Time as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from swamp.clock import Timepiece, duration_text, from_iso, iso, parse_duration

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
microseconds = st.integers(0, 200 * 366 * 86400 * 10**6)


@given(st.lists(microseconds, min_size=1))
def test_a_timepiece_writes_the_present_as_everybody_does(moments: list[int]):
    asked = iter(moments)
    now = Timepiece(lambda: next(asked) * 1000)
    for moment in moments:
        assert now() == iso(EPOCH + timedelta(microseconds=moment))


@given(microseconds)
def test_what_is_written_is_read_as_the_same_millisecond(moment: int):
    text = iso(EPOCH + timedelta(microseconds=moment))
    assert from_iso(text) == EPOCH + timedelta(milliseconds=moment // 1000)
    assert iso(from_iso(text)) == text


@given(st.integers(1, 100 * 365 * 86400))
def test_a_duration_is_written_so_that_it_can_be_read(seconds: int):
    assert parse_duration(duration_text(timedelta(seconds=seconds))) == timedelta(seconds=seconds)

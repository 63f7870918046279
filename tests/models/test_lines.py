"""Cutting a stream into lines loses nothing, and never holds back much."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from swamp.models.lines import LONGEST_PART, LineCutter

chunks = st.lists(st.one_of(st.binary(max_size=20), st.sampled_from([b"\n", b"a\n", "é€𝄞".encode(), b"x" * 70_000])))


@given(chunks)
def test_the_pieces_joined_are_what_went_in(given_chunks: list[bytes]) -> None:
    cutter = LineCutter()
    pieces = [cutter.feed(chunk) for chunk in given_chunks]
    assert b"".join([*pieces, cutter.rest()]) == b"".join(given_chunks)


@given(st.lists(st.binary(max_size=20)))
def test_a_piece_ends_with_a_newline(given_chunks: list[bytes]) -> None:
    cutter = LineCutter()
    for chunk in given_chunks:
        piece = cutter.feed(chunk)
        assert not piece or piece.endswith(b"\n")
        assert bool(piece) == (b"\n" in chunk)


@given(st.text(alphabet="aé€𝄞", min_size=1, max_size=5), st.integers(2_000, 80_000))
def test_a_long_line_is_let_go_in_parts_between_characters(text: str, size: int) -> None:
    data = (text * 40_000).encode()
    cutter = LineCutter()
    for start in range(0, len(data), size):
        cutter.feed(data[start : start + size]).decode()
        assert cutter._held <= LONGEST_PART
    cutter.rest().decode()


def test_a_line_of_many_megabytes_in_small_chunks_takes_linear_time() -> None:
    def seconds(count: int) -> float:
        cutter = LineCutter()
        start = time.perf_counter()
        for _ in range(count):
            cutter.feed(b"x" * 64)
        return time.perf_counter() - start

    small = min(seconds(10_000) for _ in range(3))
    large = min(seconds(80_000) for _ in range(3))
    assert large < 8 * small * 4

"""One packer for many values: nothing of one gets into the next."""

from __future__ import annotations

import threading

import msgpack
import pytest

from swamp.packer import KEPT, Packer


def test_values_are_packed_as_by_a_packer_of_their_own() -> None:
    packer = Packer()
    for value in (None, "a", {"b": [1, 2.5, b"c"]}, "x" * (KEPT + 1), ["d"] * 100_000, "e"):
        assert packer.pack(value) == msgpack.packb(value)


def test_what_cannot_be_packed_leaves_nothing_behind() -> None:
    packer = Packer()
    for value in (["before", object()], ["before", 1 << 70], ["before", "\ud800"], {"before": {1, 2}}):
        with pytest.raises((TypeError, ValueError, OverflowError)):
            packer.pack(value)
        assert packer.pack("after") == msgpack.packb("after")


def test_the_first_version_has_one_type_for_bytes_and_text() -> None:
    assert Packer(use_bin_type=False).pack(b"a") == Packer().pack("a")


def test_threads_do_not_meet_in_it() -> None:
    packer, wrong = Packer(use_bin_type=False), list[object]()

    def pack(value: bytes) -> None:
        for _ in range(2_000):
            if packer.pack([value]) != msgpack.packb([value], use_bin_type=False):
                wrong.append(value)

    threads = [threading.Thread(target=pack, args=(bytes([65 + number]) * 5_000,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong

"""A request to stop is noticed through a descriptor, and can be repeated with less patience."""

from __future__ import annotations

import os
import select

from swamp.models.surroundings import Cancellation


def readable(cancellation: Cancellation) -> bool:
    return bool(select.select([cancellation.wait_fd()], [], [], 0)[0])


def test_the_descriptor_is_quiet_until_somebody_asks() -> None:
    with Cancellation() as cancellation:
        assert not cancellation.is_set()
        assert not readable(cancellation)
        cancellation.set("enough")
        assert cancellation.is_set()
        assert readable(cancellation)


def test_the_first_reason_stays_and_the_grace_only_shrinks() -> None:
    with Cancellation() as cancellation:
        cancellation.set("first", grace=30)
        cancellation.set("second", grace=2)
        cancellation.set("third", grace=60)
        assert (cancellation.reason, cancellation.grace) == ("first", 2)


def test_a_second_request_wakes_again_after_the_first_was_taken() -> None:
    with Cancellation() as cancellation:
        cancellation.set("first")
        cancellation.take()
        assert not readable(cancellation)
        cancellation.set("second")
        assert readable(cancellation)


def test_no_number_of_requests_blocks_the_one_who_asks() -> None:
    with Cancellation() as cancellation:
        for _ in range(100_000):
            cancellation.set("again")


def test_a_request_after_the_end_touches_no_descriptor() -> None:
    cancellation = Cancellation()
    cancellation.close()
    reader, writer = os.pipe()  # gets the numbers that were given back
    try:
        cancellation.set("too late")
        cancellation.close()
        assert not select.select([reader], [], [], 0)[0]
        os.write(writer, b"still open")
    finally:
        os.close(reader)
        os.close(writer)


def test_what_is_withdrawn_before_it_waits_for_its_turn_does_not_wait() -> None:
    for ask in (Cancellation.withdraw, lambda cancellation: cancellation.set("enough")):
        with Cancellation() as cancellation:
            asked: list[str] = []
            ask(cancellation)
            cancellation.waits(lambda: asked.append("withdraw"))  # noqa: B023
            assert asked == ["withdraw"]
            cancellation.waits(None)
            cancellation.withdraw()
            assert asked == ["withdraw"], "it waits no more"

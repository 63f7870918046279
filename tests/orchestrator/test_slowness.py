"""Failures are answered later and later; what is right is never asked to wait."""

from __future__ import annotations

import asyncio

from swamp.orchestrator.slowness import LONGEST, MOST_WAITING, WINDOW, Slowness, wait_of


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


def test_each_failure_waits_twice_as_long_up_to_a_limit():
    assert [wait_of(n) for n in (1, 2, 3)] == [0.1, 0.2, 0.4]
    assert wait_of(7) == wait_of(16) == LONGEST


def test_failures_of_one_name_slow_no_other():
    clock = Clock()
    slow = Slowness(lambda: clock.now, clock.sleep)

    async def fail() -> None:
        for name in ("a", "a", "a", "b"):
            assert await slow.failed(name)

    asyncio.run(fail())
    assert clock.slept == [0.1, 0.2, 0.4, 0.1]


def test_old_failures_are_forgotten():
    clock = Clock()
    slow = Slowness(lambda: clock.now, clock.sleep)

    async def fail() -> None:
        await slow.failed("a")
        await slow.failed("a")
        clock.now += WINDOW + 1
        await slow.failed("a")

    asyncio.run(fail())
    assert clock.slept == [0.1, 0.2, 0.1]


def test_only_so_many_failures_of_a_name_wait_at_once():
    async def scenario() -> None:
        go = asyncio.Event()

        async def sleep(_seconds: float) -> None:
            await go.wait()

        slow = Slowness(sleep=sleep)
        waiting = [asyncio.create_task(slow.failed("a")) for _ in range(MOST_WAITING)]
        await asyncio.sleep(0)
        assert not await slow.failed("a")
        other = asyncio.create_task(slow.failed("b"))
        go.set()
        assert await asyncio.gather(*waiting, other) == [True] * (MOST_WAITING + 1)
        assert await slow.failed("a")

    asyncio.run(scenario())

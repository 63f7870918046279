"""Programs start in the order of their numbers, in whatever order they are asked for."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swamp.models.spawner import NotStarted, Program
from workers.turns import InTurn, Turns


class Log:
    """A spawner that starts nothing, and knows what it was to start."""

    has_a_queue = False

    def __init__(self) -> None:
        self.asked: list[str] = []

    def start(self) -> None: ...

    def close(self, *, leave: bool = False) -> None: ...

    def spawn(
        self, command: Sequence[str], executable: str, directory: Path, environment: Mapping[str, str]
    ) -> Program:
        self.asked.append(executable)
        raise NotStarted(executable)


def ask(spawner: InTurn, name: str) -> None:
    with pytest.raises(NotStarted):
        spawner.spawn((), name, Path(), {})


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(8)), st.sets(st.integers(0, 7)))
def test_each_waits_for_those_before_it_that_start_something(order: list[int], starts_nothing: set[int]):
    log, turns = Log(), Turns()
    threads = []
    for number in order:
        if number in starts_nothing:
            turns.over(number)
            continue
        thread = threading.Thread(target=ask, args=(InTurn(log, turns, number), str(number)))
        threads.append(thread)
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert log.asked == [str(number) for number in range(8) if number not in starts_nothing]


def test_a_step_that_starts_more_than_one_waits_for_the_first_alone():
    log, turns = Log(), Turns()
    first = InTurn(log, turns, 0)
    for name in ("a", "b"):
        ask(first, name)
    ask(InTurn(log, turns, 1), "c")
    ask(first, "d")
    turns.over(0)
    assert log.asked == ["a", "b", "c", "d"]

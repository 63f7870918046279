"""Programs are started in the order of the steps, whichever of the slots' threads is quicker."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from swamp.models.spawner import Program, Spawner


class Turns:
    """Each number, from 0, has its turn when all before it are over."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._next = 0
        self._over: set[int] = set()  # those whose turn was over before it came

    def wait(self, number: int) -> None:
        """Until it is the turn of this number, or that was some time ago."""
        with self._condition:
            while self._next < number:
                self._condition.wait()

    def over(self, number: int) -> None:
        """The turn of this number is over, and would be if it had not come; to say so twice does nothing."""
        with self._condition:
            if number < self._next:
                return
            self._over.add(number)
            while self._next in self._over:
                self._over.remove(self._next)
                self._next += 1
            self._condition.notify_all()


class InTurn:
    """A spawner that starts its first program when it is its turn."""

    def __init__(self, spawner: Spawner, turns: Turns, number: int) -> None:
        self._spawner = spawner
        self._turns = turns
        self._number = number

    @property
    def has_a_queue(self) -> bool:
        return self._spawner.has_a_queue

    def start(self) -> None:
        self._spawner.start()

    def spawn(
        self, command: Sequence[str], executable: str, directory: Path, environment: Mapping[str, str]
    ) -> Program:
        self._turns.wait(self._number)
        try:
            return self._spawner.spawn(command, executable, directory, environment)
        finally:
            self._turns.over(self._number)

    def close(self, *, leave: bool = False) -> None:
        self._spawner.close(leave=leave)

"""Who starts the programs of a step, and ends all that came of them. There are two: `direct` and `kept`."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol


class NotStarted(Exception):
    """The program could not be started; the text says why, for people."""


class NotBegun(Exception):
    """The program was withdrawn while it waited for its turn: nothing was started, and nothing will be."""


class Program(Protocol):
    """A program that was started, as the leader of a session of its own, with all that it started in its turn."""

    began: float  #: when it was started, by the monotonic clock; 0.0 until that is known
    printed: tuple[bytes, bytes]  #: what is known already of its outputs, `stdout` and `stderr`
    outputs: tuple[int, int] | None  #: where to read the rest of them; the reader closes these. None: that is all
    exit_code: int | None  #: as the program gave it, minus the signal's number if a signal ended it; None: it runs
    fault: str | None  #: why it was ended, if that was neither asked for nor its own doing

    @property
    def exit_fd(self) -> int | None:
        """Readable when there is something to `look` at; None: look now and then, or `watch`."""

    def ends_soon(self) -> bool:
        """Whether it has ended in the moment that most programs need, with all that it printed in `printed`; waits that
        long at most behind its beginning. To be asked first. Raises `NotStarted`, `NotBegun`."""

    def withdraw(self) -> None:
        """If it waits for its turn, do not start it."""

    def look(self) -> None:
        """Take note of what happened to it, without waiting. Raises `NotStarted` if that is what happened."""

    def watch(self) -> None:
        """Get an `exit_fd`, where the system has such a thing: this is going to take time."""

    def lives(self) -> bool:
        """Whether anything of it is left after it has exited; known of what was signaled only."""

    def signal(self, number: int) -> None:
        """Send TERM to all that belongs to it, or KILL until nothing is left."""

    def close(self) -> None:
        """Give back what it holds here; ends it first, if it runs."""


class Spawner(Protocol):
    """All its methods may be called from any thread."""

    @property
    def has_a_queue(self) -> bool:
        """Whether programs that are too many to run at once wait for their turn."""

    def start(self) -> None:
        """Get ready, so that the first program need not wait for that."""

    def close(self, *, leave: bool = False) -> None:
        """Start nothing more, and end what is left of what was started, as far as this spawner can.

        With `leave`, which is for when all programs have ended, what they left in the background lives on.
        """

    def spawn(
        self, command: Sequence[str], executable: str, directory: Path, environment: Mapping[str, str]
    ) -> Program:
        """Start `executable` with the arguments `command` and no input.

        Raises `NotStarted`, now or when one looks at the program.
        """


def why_not_started(number: int, executable: str, directory: Path, *, of_directory: bool) -> str:
    """The text of `NotStarted` for an `errno`; `of_directory` says that the directory could not be entered."""
    if number == errno.E2BIG:
        return "The command cannot be started: it is longer than this system allows, or its environment is"
    if not of_directory:
        return f"The command cannot be started with {executable}: {os.strerror(number)}"
    if number == errno.ENOENT:
        return f"The working directory {directory} does not exist"
    return f"The working directory {directory} cannot be used: {os.strerror(number)}"

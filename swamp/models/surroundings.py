"""What a method gets from the machine it runs on, the request to stop included, and what it gives back."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from swamp.data.record import Output
from swamp.models.direct import DIRECT
from swamp.models.spawner import Spawner
from swamp.values import value

_REQUEST = (1).to_bytes(8, sys.byteorder)  # what an eventfd takes; a pipe takes anything


class Cancellation:
    """A request to stop, that any thread or signal handler may make and a waiting loop notices at once.

    It holds a file descriptor once somebody waits for it (two where there is no eventfd: not Linux); `close` it (or use
    it in a `with`) when the invocation has ended. A request that comes after that does nothing.
    """

    def __init__(self) -> None:
        self.reason: str | None = None  #: of the first request, for people; None until there is one
        self._withdraw: Callable[[], None] | None = None
        self._withdrawn = False
        self.grace = 0.0  #: seconds between TERM and KILL that the newest request leaves; it can only shrink
        self._descriptors: tuple[int, int] | None = None  # to read from and to write to; None: nobody waits
        # Re-entrant: a signal handler may interrupt the very thread that is inside `set`.
        self._lock = threading.RLock()
        self._closed = False

    def set(self, reason: str, grace: float = 5.0) -> None:
        """Ask for the end: TERM now, KILL after `grace` seconds. Asking again may only bring the KILL forward."""
        with self._lock:
            if self._closed:
                return
            self.grace = grace if self.reason is None else min(self.grace, grace)
            self.reason = self.reason or reason or "canceled"
            self.withdraw()
            if self._descriptors is not None:
                _ring(self._descriptors[1])

    def withdraw(self) -> None:
        """Ask for this alone: that it does not begin, if it has not."""
        with self._lock:
            self._withdrawn = True
            if self._withdraw is not None:
                self._withdraw()

    def waits(self, withdraw: Callable[[], None] | None) -> None:
        """What is under way waits for its turn, and `withdraw` keeps it from beginning; None: it waits no more."""
        with self._lock:
            self._withdraw = withdraw
            if self._withdraw is not None and self._withdrawn:
                self._withdraw()

    def is_set(self) -> bool:
        """Whether anybody asked."""
        return self.reason is not None

    def wait_fd(self) -> int:
        """A descriptor that becomes readable with each request, until `take` empties it. Not for reading from."""
        with self._lock:
            if self._descriptors is None:
                self._descriptors = _bell()
                if self.reason is not None:
                    _ring(self._descriptors[1])
            return self._descriptors[0]

    def take(self) -> None:
        """Make `wait_fd` quiet until the next request. Call it only when the descriptor is readable."""
        os.read(self.wait_fd(), 4096)

    def close(self) -> None:
        """Give the descriptors back."""
        with self._lock:
            if not self._closed:
                self._closed = True
                for descriptor in {*(self._descriptors or ())}:
                    os.close(descriptor)

    def __enter__(self) -> Cancellation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _bell() -> tuple[int, int]:
    """Descriptors to read from and to write to; nobody waits to write."""
    if sys.platform == "linux":
        reader = writer = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    else:
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
    return reader, writer


def _ring(writer: int) -> None:
    with suppress(BlockingIOError):  # full of earlier requests, so it is readable, which is all that matters
        os.write(writer, _REQUEST)


@value
class Surroundings:
    """Where and how a method runs. Whoever makes it decides what a method may see: nothing is added to it."""

    directory: Path  #: an absolute path; relative paths of a method start here
    environment: Mapping[str, str]  #: the whole environment of its processes, cleaned by the caller
    #: Hears (`stdout` or `stderr`, whole lines with their newlines) while the method runs; only the last line, and a
    #: part of one longer than 64 KiB, come without. While it blocks, the output, time limit and cancellation wait.
    emit: Callable[[str, bytes], None]
    cancellation: Cancellation  #: the caller keeps it, to ask for the end, and closes it afterwards
    machine: str = ""  #: the id of the machine; empty beside the engine
    spawner: Spawner = DIRECT  #: starts its programs
    #: Is called when it has begun: before that it may have waited for its turn.
    begun: Callable[[], None] = lambda: None


@value
class Ending:
    """How a method ended. Its outputs are kept however it ended."""

    status: str  #: `succeeded`, `failed` or `canceled`
    error: str | None = None  #: why it is not `succeeded`, for people
    outputs: tuple[Output, ...] = ()
    waited: float = 0.0  #: seconds that it had to wait for its turn

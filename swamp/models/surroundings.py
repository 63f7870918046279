"""What a method gets from the machine it runs on, the request to stop included, and what it gives back."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from swamp.data.record import Output
from swamp.models.direct import DIRECT
from swamp.models.spawner import Spawner

_REQUEST = (1).to_bytes(8, sys.byteorder)  # what an eventfd takes; a pipe takes anything


class Cancellation:
    """A request to stop, that any thread or signal handler may make and a waiting loop notices at once.

    It holds a file descriptor (two where there is no eventfd: not Linux); `close` it (or use it in a `with`) when the
    invocation has ended. A request that comes after that does nothing.
    """

    def __init__(self) -> None:
        self.reason: str | None = None  #: of the first request, for people; None until there is one
        self.grace = 0.0  #: seconds between TERM and KILL that the newest request leaves; it can only shrink
        if sys.platform == "linux":
            self._reader = self._writer = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        else:
            self._reader, self._writer = os.pipe()
            os.set_blocking(self._writer, False)
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
            with suppress(BlockingIOError):  # full of earlier requests, so it is readable, which is all that matters
                os.write(self._writer, _REQUEST)

    def is_set(self) -> bool:
        """Whether anybody asked."""
        return self.reason is not None

    def wait_fd(self) -> int:
        """A descriptor that becomes readable with each request, until `take` empties it. Not for reading from."""
        return self._reader

    def take(self) -> None:
        """Make `wait_fd` quiet until the next request. Call it only when the descriptor is readable."""
        os.read(self._reader, 4096)

    def close(self) -> None:
        """Give the descriptors back."""
        with self._lock:
            if not self._closed:
                self._closed = True
                for descriptor in {self._reader, self._writer}:
                    os.close(descriptor)

    def __enter__(self) -> Cancellation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Ending:
    """How a method ended. Its outputs are kept however it ended."""

    status: str  #: `succeeded`, `failed` or `canceled`
    error: str | None = None  #: why it is not `succeeded`, for people
    outputs: tuple[Output, ...] = ()

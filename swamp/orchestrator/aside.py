"""Events read in a thread of their own, so that who shows them can be told something else meanwhile."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from swamp.workflows.events import Event

STUCK = 2.0
"""Seconds that a signal waits to be taken until the next one ends the process all the same."""

_AHEAD = 1_000  #: events that may be read before those that came so many earlier were shown


@dataclass(frozen=True, slots=True)
class _Over:
    """Nothing more comes."""

    error: Exception | None  #: None: these were all events


class Aside:
    """Iterating gives the events of a source, and the signals that were put between them; raises what the source does.
    Whoever breaks off leaves the thread behind, in whatever it waits for: to be used by a command before it ends."""

    def __init__(self, source: Iterator[Event]) -> None:
        self._source = source
        self._inbox: queue.SimpleQueue[Event | signal.Signals | _Over] = queue.SimpleQueue()
        self._untaken: deque[float] = deque()  #: when the signals came that nobody has taken yet
        self._room = threading.Semaphore(2)

    def put(self, number: signal.Signals) -> None:
        """For the thread that hears signals. When the one before was not taken for `STUCK` seconds, what the events are
        shown on takes nothing more, the last words neither: then the process ends here."""
        now = time.monotonic()
        if self._untaken and now > self._untaken[0] + STUCK:
            os._exit(128 + number)
        self._untaken.append(now)
        self._inbox.put(number)

    def fail(self, error: Exception) -> None:
        """To be raised instead of what would come next; from any thread."""
        self._inbox.put(_Over(error))

    def __iter__(self) -> Iterator[Event | signal.Signals]:
        threading.Thread(target=self._read, name="events", daemon=True).start()
        shown = 0
        while True:
            match self._inbox.get():
                case _Over(error):
                    if error is not None:
                        raise error
                    return
                case signal.Signals() as number:
                    self._untaken.popleft()
                    yield number
                case event:
                    yield event
                    shown += 1
                    if shown % _AHEAD == 0:
                        self._room.release()

    def _read(self) -> None:
        try:
            for count, event in enumerate(self._source, 1):
                self._inbox.put(event)
                if count % _AHEAD == 0:
                    self._room.acquire()
        except Exception as error:
            self._inbox.put(_Over(error))
        else:
            self._inbox.put(_Over(None))

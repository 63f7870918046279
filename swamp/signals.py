"""Signals as messages: none breaks off what is being done, and none is missed in front of a read that waits.

Python calls a handler only between two of its own instructions. A signal that comes behind the last of them, and before
the system's read begins to wait, is therefore seen when that read has got something, which may be never; and an
exception raised by a handler lands anywhere, also where Python drops it. What the system's handler writes to a pipe,
and a thread that does nothing else reads from it, is neither late nor in the wrong place.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def heard(numbers: Collection[signal.Signals], hear: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Inside the block each of the signals is told to `hear`, from a thread of its own, and does nothing else.

    One that is not handled as by default stays as it is: a command started with `nohup` or `&` is not meant to hear it.
    Outside of the main thread all of them do, as only that one can change it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    by_default = (signal.default_int_handler, signal.SIG_DFL)
    previous = {it: handler for it in numbers if (handler := signal.getsignal(it)) in by_default}
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    teller = threading.Thread(target=_tell, args=(reading, set(previous), hear), name="signals", daemon=True)
    teller.start()
    outer = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in previous:
        signal.signal(number, _passing)
    try:
        yield
    finally:
        for number, handler in previous.items():
            if signal.getsignal(number) is _passing:
                signal.signal(number, handler)
        signal.set_wakeup_fd(outer)
        os.write(writing, b"\0")
        teller.join()
        os.close(reading)
        os.close(writing)


def _passing(number: int, frame: FrameType | None) -> None:
    """The pipe has it already; without a handler in Python nothing would be written there."""


def _tell(reading: int, numbers: Collection[int], hear: Callable[[signal.Signals], None]) -> None:
    while True:
        for number in os.read(reading, 512):
            if number == 0:
                return
            if number in numbers:
                hear(signal.Signals(number))

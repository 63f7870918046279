"""What was typed and is secret, wiped from where other processes of the machine can read it.

A process's arguments are there for everybody (`ps`), its first environment for all processes of its user, the steps of
a worker among them. Linux says where in its memory both lie. Elsewhere nothing is wiped: give secrets in files there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_ARGUMENTS_BEGIN = 45  # among the fields of /proc/self/stat behind the program's name; then arguments' end, and
# begin and end of the environment


def wipe(*secrets: str) -> None:
    """Put `*` for every character of these texts in this process's arguments and first environment.

    What Python has read of both before (`sys.argv`, `os.environ`) stays as it was, but for `getenv` of C code.
    """
    if sys.platform != "linux":
        return
    import ctypes  # half a megabyte of a worker that is given its token in another way

    with suppress(OSError, ValueError, IndexError):  # no /proc: then nobody reads it either
        for begin, end in _areas():
            content = ctypes.string_at(begin, end - begin)
            for secret in filter(None, map(os.fsencode, secrets)):
                at = content.find(secret)
                while at >= 0:
                    ctypes.memset(begin + at, ord("*"), len(secret))
                    at = content.find(secret, at + len(secret))


def _areas() -> Iterator[tuple[int, int]]:
    # The program's name comes before, in brackets, and may itself hold anything.
    fields = Path("/proc/self/stat").read_bytes().rpartition(b") ")[2].split()
    for first in (_ARGUMENTS_BEGIN, _ARGUMENTS_BEGIN + 2):
        begin, end = int(fields[first]), int(fields[first + 1])
        if 0 < begin < end:  # zeros for whoever may not know
            yield begin, end

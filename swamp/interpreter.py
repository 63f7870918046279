"""How the interpreter runs a process that lives long and does many small things."""

from __future__ import annotations

import gc
import sys
from contextlib import suppress

#: Seconds that a thread keeps the interpreter while another one waits for it. Python's own 5 ms are longer than a step
#: takes from thread to thread through a whole process: each of its stages would wait for whoever has the turn.
TURN = 0.0005

#: New objects between two searches for cycles among them; Python's own 700 are a few steps' worth. Hardly anything here
#: is in a cycle, and searching took a seventh of the orchestrator's processor time.
YOUNG = 20_000


#: Arenas of glibc's malloc. It makes one for each thread (up to 8 a processor), and what was freed in one is of no use
#: to another. Only one thread runs Python at a time, so hardly any waits for another's arena.
ARENAS = 2
_M_ARENA_MAX = -8

#: Bytes from which on a block is given back to the system as soon as it is freed. glibc raises this limit when it sees
#: bigger ones freed, to save calls; then the plan of a big run leaves a hole that is never filled. Nothing that long is
#: to be asked for at every step: a call of the system takes ten times as long as what it is for.
BIG_BLOCK = 128 * 1024
_M_MMAP_THRESHOLD = -3


def give_memory_back() -> None:
    """For a process in which much comes and goes. To be called before its threads are started; elsewhere than with
    glibc this does nothing."""
    import ctypes  # half a megabyte for those who do not call this

    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, ARENAS)
        mallopt(_M_MMAP_THRESHOLD, BIG_BLOCK)


def settle_in() -> None:
    """For a process that has imported what it needs, whose threads pass work on to each other."""
    sys.setswitchinterval(TURN)
    gc.collect()
    gc.freeze()  # modules and what they hold live as long as we: nobody needs to search them
    gc.set_threshold(YOUNG, 10, 10)

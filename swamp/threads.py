"""How the threads of a process take turns."""

from __future__ import annotations

import sys

#: Seconds that a thread keeps the interpreter while another one waits for it. Python's own 5 ms are longer than a step
#: takes from thread to thread through a whole process: each of its stages would wait for whoever has the turn.
TURN = 0.0005


def hand_over_soon() -> None:
    """For a process whose threads pass work on to each other and wait most of the time."""
    sys.setswitchinterval(TURN)

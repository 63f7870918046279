"""How the interpreter runs a process that lives long and does many small things."""

from __future__ import annotations

import gc
import sys

#: Seconds that a thread keeps the interpreter while another one waits for it. Python's own 5 ms are longer than a step
#: takes from thread to thread through a whole process: each of its stages would wait for whoever has the turn.
TURN = 0.0005

#: New objects between two searches for cycles among them; Python's own 700 are a few steps' worth. Hardly anything here
#: is in a cycle, and searching took a seventh of the orchestrator's processor time.
YOUNG = 20_000


def settle_in() -> None:
    """For a process that has imported what it needs, whose threads pass work on to each other."""
    sys.setswitchinterval(TURN)
    gc.collect()
    gc.freeze()  # modules and what they hold live as long as we: nobody needs to search them
    gc.set_threshold(YOUNG, 10, 10)

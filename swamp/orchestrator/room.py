"""What is done while Redis is short of memory: a decision, without effects.

Of what fills it, only the queues are the orchestrator's. They leave room for what workers say, so that whatever waits
can be taken, and room comes back. Workers that cannot say anything cannot give a sign of life either.
"""

from __future__ import annotations

PUSH_BELOW = 0.8  #: of the memory that Redis may use
SILENT_FROM = 0.95


def may_push(used: float) -> bool:
    """Whether more work may go into the queues. `used`: 1.0 is all that there is."""
    return used < PUSH_BELOW


def may_be_silent(used: float) -> bool:
    """Whether a machine that says nothing may not be able to."""
    return used >= SILENT_FROM

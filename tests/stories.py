"""How many stories the state machines tell: the same every time, so that a change is judged by what it changes; or, in
the long chaos run, as many as it wants, from its seed."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

WANTED = int(os.environ.get("STORIES", "0"))


def stories(count: int, steps: int) -> settings:
    """For the state machine of a test: `count` stories of `steps` steps."""
    return settings(
        max_examples=WANTED or count,
        stateful_step_count=steps,
        deadline=None,
        derandomize=not WANTED,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )

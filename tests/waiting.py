"""Waiting for facts instead of seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Fact = TypeVar("Fact")

PAUSE = 0.005
"""Seconds between two looks. Short: most facts come true within a few milliseconds."""


def wait_until(predicate: Callable[[], Fact], what: str, timeout: float = 10.0) -> Fact:
    """Look again and again until `predicate()` is true, and hand back what it gave.

    `what` completes the sentence "waited 10 s for …"; `timeout` is in seconds. Raises AssertionError when time is up.
    """
    deadline = time.monotonic() + timeout
    while not (fact := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s for {what}")
        time.sleep(PAUSE)
    return fact

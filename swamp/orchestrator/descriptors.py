"""Room for the open files of many workers.

A worker on another machine takes seven: its session, three tunnels, and their connections to Redis. Most systems give a
program 1,024 at first, and more when it asks.
"""

from __future__ import annotations

import resource
from contextlib import suppress

ENOUGH = 65_536  #: more, and programs that close all they may have inherited take long over it


def make_room() -> None:
    """Ask the system for as many as it gives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if resource.RLIM_INFINITY != soft < most:
        with suppress(OSError, ValueError):  # as it is, then
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))

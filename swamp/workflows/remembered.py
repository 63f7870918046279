"""Plans that were made lately, for as long as the files that they were made of have not changed.

Whoever starts the same workflow again and again has it read once. Whether a file has changed is seen by its stamps
(times, size, inode), as git does it, and with git's caution: a file that changed just before it was read may change
again within the same tick of its file system's clock, so its stamps mean nothing before it has rested for a while.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from swamp.models.catalog import model_directories, model_place
from swamp.models.resolve import secrets_of
from swamp.repo import Repo
from swamp.workflows.apart import plan_apart
from swamp.workflows.catalog import workflow_place
from swamp.workflows.plan import Plan

MOST = 32  #: plans
MOST_STEPS = 1000  #: of a plan; those of bigger ones take long to run, and much memory
MOST_FILES = 100  #: and directories that a plan may be made of, or looking at them is no faster than reading them

TICK = 100_000_000  #: nanoseconds; file systems' clocks are finer, on Linux a hundredth of a second at most
COARSE_TICK = 3_000_000_000  #: nanoseconds, for one that seems to know whole seconds only

_Stamps = tuple[int, int, int, int, int]  # device, inode, size, modified, changed (unix nanoseconds)


class RememberedPlans:
    """May be used from any thread. `clock` gives unix nanoseconds."""

    def __init__(self, repo: Repo, clock: Callable[[], int] = time.time_ns) -> None:
        self._repo = repo
        self._clock = clock
        self._lock = threading.Lock()
        self._plans: dict[str, tuple[Plan, dict[str, _Stamps]]] = {}

    def find(self, name: str) -> Plan | None:
        """The plan of the workflow as it stands in the repository now, if that is known without reading it."""
        plan, stamps = self._plans.get(name, (None, {}))
        return plan if all(_stamps(path) == known for path, known in stamps.items()) else None

    def make(self, name: str) -> Plan:
        """The same, read anew. Raises what is wrong with the workflow or its models."""
        begin = self._clock()
        plan = plan_apart(self._repo, name)
        stamps = self._made_of(name, plan)
        with self._lock:
            self._plans.pop(name, None)
            if stamps is not None and all(_rested(of, begin) for of in stamps.values()):
                self._plans[name] = (plan, stamps)
                while len(self._plans) > MOST:
                    del self._plans[next(iter(self._plans))]
        return plan

    def _made_of(self, name: str, plan: Plan) -> dict[str, _Stamps] | None:
        """What the plan depends on; None if that is too much, or more than files tell."""
        if len(plan.steps) > MOST_STEPS or any(secrets_of(call) for call in plan.calls):
            return None  # a secret may be deleted from its vault
        # No file is called as an id, by which a workflow can be asked for as well: the id may come to stand in another
        # one. The directories, because a model may appear a second time, of another type.
        paths = [workflow_place(self._repo, name), *model_directories(self._repo)]
        paths += {model_place(self._repo, call.model_type, call.model_name) for call in plan.calls}
        if len(paths) > MOST_FILES:
            return None
        stamps = {str(path): _stamps(path) for path in paths}
        return {path: found for path, found in stamps.items() if found} if all(stamps.values()) else None


def _stamps(path: str | Path) -> _Stamps | None:
    """None where there is nothing. Opened first, which is when a file system of the net asks its server."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _rested(stamps: _Stamps, begin: int) -> bool:
    """Whether the last change was long enough before `begin` (unix nanoseconds) that another one would be seen."""
    changed = max(stamps[3:])
    return changed + (TICK if changed % 1_000_000_000 else COARSE_TICK) < begin

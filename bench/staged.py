"""Swamp's command with a clock around the stages of a step: `python -m bench.staged <file> serve …`.

Named functions of the running program are wrapped, so nothing of this is in Swamp. What a stage takes is its own: the
stages that it calls count for themselves. Only threads that pass through a stage are looked at. The times are written
into the file when the process gets SIGUSR1 (which also begins anew), as JSON: stage to [seconds passed, seconds of
processor time, how often].
"""

from __future__ import annotations

import importlib
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: (stage, module, class or "", function): in the order of a step's way.
STAGES = (
    ("plan the run", "swamp.workflows.remembered", "RememberedPlans", "make"),
    ("find its plan again", "swamp.workflows.remembered", "RememberedPlans", "find"),
    ("read what machines said", "swamp.orchestrator.incoming", "Incoming", "collect"),
    ("open, order and apply it", "swamp.orchestrator.intake", "Intake", "apply"),
    ("write rows and events", "swamp.orchestrator.core", "Core", "_save"),
    ("commit", "swamp.data.store", "Store", "write"),
    ("wake who watches", "swamp.orchestrator.core", "Core", "_follow"),
    ("free and acknowledge", "swamp.orchestrator.outgoing", "Outgoing", "tell"),
    ("seal and push", "swamp.orchestrator.dispatcher", "Dispatcher", "push"),
    ("keep RQ's books", "swamp.orchestrator.outgoing", "Outgoing", "_keep_books"),
    ("the rest of the cycle", "swamp.orchestrator.core", "Core", "_cycle"),
    ("tell events to the command", "swamp.data.journal", "", "read_event_lines"),
    ("exchange with Redis", "workers.link", "Link", "exchange"),
    ("seal what is said", "workers.worker", "Worker", "_request"),
    ("open dispatches", "workers.worker", "Worker", "_open"),
    ("note them as seen", "workers.seen", "SeenList", "add"),
    ("note them as begun", "workers.seen", "SeenList", "begin"),
    ("start steps, run instant ones", "workers.starter", "Starter", "began"),
    ("run a program", "swamp.models.process", "", "run_program"),
    ("make its result", "workers.slots", "", "invoke"),
    ("store results in the outbox", "workers.results", "Results", "store"),
    ("take acknowledgements", "workers.worker", "Worker", "_said"),
)


class Clock:
    """Times by stage, of all threads together."""

    def __init__(self) -> None:
        self._times: dict[str, list[float]] = {}
        self._local = threading.local()

    def begin(self, stage: str) -> None:
        stack = getattr(self._local, "stack", None)
        if stack is None:
            stack = self._local.stack = []
        self._count(stack)
        stack.append(stage)
        self._times.setdefault(stage, [0.0, 0.0, 0])[2] += 1

    def end(self) -> None:
        self._count(self._local.stack)
        self._local.stack.pop()

    def _count(self, stack: list[str]) -> None:
        """What passed since the last change belongs to the stage that is on top."""
        wall, cpu = time.perf_counter(), time.thread_time()
        if stack:
            times = self._times[stack[-1]]
            times[0] += wall - self._local.wall
            times[1] += cpu - self._local.cpu
        self._local.wall, self._local.cpu = wall, cpu

    def take(self) -> dict[str, list[float]]:
        """What there is; the count begins anew. Stages under way keep counting."""
        taken = {stage: list(times) for stage, times in self._times.items()}
        for times in self._times.values():
            times[:] = [0.0, 0.0, 0]
        return taken


def _wrap(clock: Clock) -> None:
    for stage, module, owner, name in STAGES:
        holder = importlib.import_module(module)
        holder = getattr(holder, owner) if owner else holder
        wrapped = _commit(clock, getattr(holder, name)) if stage == "commit" else _timed(clock, stage, holder, name)
        setattr(holder, name, wrapped)
    # Names that were imported before they were wrapped here.
    shell = importlib.import_module("swamp.models.shell")
    vars(shell)["run_program"] = importlib.import_module("swamp.models.process").run_program


def _timed(clock: Clock, stage: str, holder: object, name: str) -> Callable[..., object]:
    original: Callable[..., object] = getattr(holder, name)

    def timed(*arguments: object, **named: object) -> object:
        clock.begin(stage)
        try:
            return original(*arguments, **named)
        finally:
            clock.end()

    return timed


def _commit(clock: Clock, original: Callable[..., Any]) -> Callable[..., Any]:
    @contextmanager
    def write(store: object) -> Iterator[Any]:
        block = original(store)
        yielded = block.__enter__()
        try:
            yield yielded
        except BaseException:
            if not block.__exit__(*sys.exc_info()):
                raise
        else:
            clock.begin("commit")
            try:
                block.__exit__(None, None, None)
            finally:
                clock.end()

    return write


def main() -> None:
    out = Path(sys.argv[1])
    clock = Clock()
    _wrap(clock)

    def write(*_: object) -> None:
        beside = out.with_suffix(".new")
        beside.write_text(json.dumps(clock.take()))
        beside.rename(out)

    signal.signal(signal.SIGUSR1, write)
    sys.argv[1:] = sys.argv[2:]
    sys.argv[0] = "swamp"
    swamp = importlib.import_module("swamp.cli.main")
    sys.exit(swamp.main())


if __name__ == "__main__":
    main()

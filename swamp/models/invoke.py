"""Runs one method on this machine: all that a worker needs of the models."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from swamp.clock import later
from swamp.models import probe, shell
from swamp.models.invocation import Invocation, Outcome
from swamp.models.redaction import RedactedLines, Redactor
from swamp.models.spawner import NotBegun
from swamp.models.surroundings import Cancellation, Ending, Surroundings

__all__ = ["Cancellation", "Surroundings", "invoke"]

#: (model type, method) -> the function that does it.
_RUNNERS: Mapping[tuple[str, str], Callable[[Invocation, Surroundings, str], Ending]] = {
    ("command/shell", "execute"): shell.execute,
    ("swamp/probe", "echo"): probe.echo,
}

#: Methods that answer at once, from memory: not worth a thread of their own.
INSTANT = frozenset({("swamp/probe", "echo")})


def invoke(invocation: Invocation, surroundings: Surroundings, now: Callable[[], str]) -> Outcome:
    """Run the method to its end, or until `surroundings.cancellation` ends it, and say what came of it. `now` tells the
    time as `clock.iso` writes it.

    What it says and what comes of it holds none of the invocation's secrets. Whatever goes wrong in the method is in
    the outcome and raises nothing. Only what is aimed at this very process, such as a `KeyboardInterrupt`, passes
    through, after the method's processes were ended; and `NotBegun`, when it was withdrawn while it waited for its
    turn.
    """
    if not invocation.secrets:
        return _invoke(invocation, surroundings, now)
    redactor = Redactor(invocation.secrets)
    lines = {stream: RedactedLines(redactor) for stream in ("stdout", "stderr")}

    def emit(stream: str, data: bytes) -> None:
        if said := lines[stream].feed(data):
            surroundings.emit(stream, said)

    outcome = _invoke(invocation, replace(surroundings, emit=emit), now)
    for stream, held in lines.items():
        if said := held.rest():
            surroundings.emit(stream, said)
    return redactor.outcome(outcome)


def _invoke(invocation: Invocation, surroundings: Surroundings, now: Callable[[], str]) -> Outcome:
    started_at = now()
    clock = time.monotonic()
    ending = _ending(invocation, surroundings, started_at)
    return Outcome(
        status=ending.status,
        error=ending.error,
        outputs=ending.outputs,
        started_at=later(started_at, ending.waited),
        ended_at=now(),
        duration_ms=round((time.monotonic() - clock - ending.waited) * 1000),
    )


def _ending(invocation: Invocation, surroundings: Surroundings, started_at: str) -> Ending:
    if surroundings.cancellation.is_set():
        return Ending("canceled", surroundings.cancellation.reason)
    run = _RUNNERS.get((invocation.model_type, invocation.method))
    if run is None:
        return Ending(
            "failed", f"This machine cannot run method '{invocation.method}' of model type '{invocation.model_type}'"
        )
    try:
        return run(invocation, surroundings, started_at)
    except NotBegun:
        raise
    except Exception as error:
        # A method is foreign ground: its mistakes end the step, never the worker that runs it.
        return Ending("failed", f"{type(error).__name__}: {error}")

"""The model type `command/shell`: what its method `execute` does."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Mapping

from swamp.clock import later
from swamp.data.record import Output
from swamp.models.invocation import Invocation
from swamp.models.process import Finished, run_program
from swamp.models.spawner import NotStarted
from swamp.models.surroundings import Ending, Surroundings

# Made once: `json.dumps` with these options makes a new one for every call.
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def execute(invocation: Invocation, surroundings: Surroundings, started_at: str) -> Ending:
    """Run `sh -c <run>` and keep what it printed, also if it fails, is stopped or runs out of time."""
    arguments = invocation.arguments
    command = str(arguments["run"])
    timeout = arguments.get("timeout")
    limit_ms = timeout if isinstance(timeout, int) else None
    directory = surroundings.directory
    if below := arguments.get("workingDir"):
        directory /= str(below)
    clock = time.monotonic()
    try:
        finished = run_program(
            ("sh", "-c", command),
            executable="/bin/sh",
            directory=directory,
            environment=_environment(surroundings.environment, arguments.get("env")),
            spawner=surroundings.spawner,
            emit=surroundings.emit,
            cancellation=surroundings.cancellation,
            timeout=None if limit_ms is None else limit_ms / 1000,
            begun=surroundings.begun,
        )
    except NotStarted as error:
        return Ending("failed", str(error))
    waited = max(0.0, finished.began - clock)
    started_at = later(started_at, waited)
    duration_ms = round((time.monotonic() - clock - waited) * 1000)
    outputs = (_result(finished, command, started_at, duration_ms, invocation.tags), _log(finished, invocation.tags))
    if finished.ended_by == "canceled":
        return Ending("canceled", surroundings.cancellation.reason, outputs, waited)
    if finished.ended_by == "timeout":
        return Ending("failed", f"Command timed out after {limit_ms} ms", outputs, waited)
    if finished.fault is not None:
        return Ending("failed", finished.fault, outputs, waited)
    if finished.exit_code == 0 or arguments.get("ignoreExitCode") is True:
        return Ending("succeeded", None, outputs, waited)
    return Ending("failed", _failure(finished.exit_code), outputs, waited)


def _environment(surrounding: Mapping[str, str], declared: object) -> Mapping[str, str]:
    if not isinstance(declared, Mapping) or not declared:
        return surrounding
    # YAML lets people write `RETRIES: 3` or `DEBUG: true`; a process only knows text.
    texts = {str(name): value if isinstance(value, str) else json.dumps(value) for name, value in declared.items()}
    return {**surrounding, **texts}


def _failure(exit_code: int) -> str:
    if exit_code >= 0:
        return f"Command exited with code {exit_code}"
    try:
        return f"Command was ended by signal {signal.Signals(-exit_code).name}"
    except ValueError:  # the real-time signals have no names
        return f"Command was ended by signal {-exit_code}"


def _result(finished: Finished, command: str, started_at: str, duration_ms: int, tags: Mapping[str, str]) -> Output:
    attributes = {
        "stdout": finished.stdout.removesuffix(b"\n").decode("utf-8", "replace"),
        "stderr": finished.stderr.decode("utf-8", "replace"),
        "exitCode": finished.exit_code,
        "command": command,
        "executedAt": started_at,
        "durationMs": duration_ms,
    }
    content = _JSON.encode(attributes).encode()
    return Output("result", "result", "resource", "application/json", content, tags)


def _log(finished: Finished, tags: Mapping[str, str]) -> Output:
    """Both outputs as the very bytes that were printed, each under its heading."""
    gap = b"" if finished.stdout.endswith(b"\n") or not finished.stdout else b"\n"
    content = b"".join((b"[stdout]\n", finished.stdout, gap, b"[stderr]\n", finished.stderr))
    return Output("log", "log", "file", "text/plain", content, tags)

"""Steps without a target: they run beside the engine, in threads of its own process."""

from __future__ import annotations

import resource
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from swamp.clock import iso_now
from swamp.errors import SwampError
from swamp.models.direct import DIRECT
from swamp.models.invocation import Outcome
from swamp.models.invoke import Cancellation, Surroundings, invoke
from swamp.models.resolve import ReadSecret, resolve
from swamp.models.spawner import Spawner
from swamp.workflows.engine import Start

#: Steps beside the engine at once. A workflow says its own limit with `concurrency`; this one only keeps a fan-out of
#: thousands from exhausting the machine's threads and processes.
AT_ONCE = 256
_DESCRIPTORS = 8  # of a step that is being started; then 5


@dataclass(frozen=True, slots=True)
class LocalOutput:
    run_id: str
    position: int
    stream: str
    text: str


@dataclass(frozen=True, slots=True)
class LocalFinished:
    run_id: str
    position: int
    outcome: Outcome


class LocalSteps:
    """Runs steps and hands what they say and how they end to `deliver`, from threads of its own.

    `directory` is where they run (the repository); `environment` is what they see; `secret` tells the secrets that they
    name; `spawner` starts their programs, and belongs to the caller.
    """

    def __init__(
        self,
        directory: Path,
        environment: Mapping[str, str],
        deliver: Callable[[LocalOutput | LocalFinished], None],
        secret: ReadSecret,
        spawner: Spawner = DIRECT,
    ) -> None:
        self._directory = directory
        self._environment = environment
        self._deliver = deliver
        self._secret = secret
        self._spawner = spawner
        # Half of what a process may open is left to everything else in it.
        self._at_once = max(1, min(AT_ONCE, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 // _DESCRIPTORS))
        self._lock = threading.Lock()
        self._waiting: deque[Start] = deque()
        self._running: dict[tuple[str, int], Cancellation] = {}

    def start(self, start: Start) -> None:
        """Begin the step now, or as soon as fewer than may run at once do. A step that cannot be started fails."""
        with self._lock:
            self._waiting.append(start)
        self._start_more()

    def cancel(self, run_id: str, position: int, reason: str, grace: float) -> None:
        """TERM to the step's processes now, KILL after `grace` seconds. It ends through `deliver`, as ever."""
        with self._lock:
            cancellation = self._running.get((run_id, position))
            waiting = [start for start in self._waiting if (start.run_id, start.position) == (run_id, position)]
            for start in waiting:
                self._waiting.remove(start)
        if cancellation is not None:
            cancellation.set(reason, grace)
        for start in waiting:
            self._deliver_without_running(start, "canceled", reason)

    def cancel_all(self, reason: str, grace: float) -> None:
        with self._lock:
            keys = [*self._running, *((start.run_id, start.position) for start in self._waiting)]
        for run_id, position in keys:
            self.cancel(run_id, position, reason, grace)

    @property
    def idle(self) -> bool:
        with self._lock:
            return not self._running and not self._waiting

    def _start_more(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or len(self._running) >= self._at_once:
                    return
                start = self._waiting.popleft()
                error = self._start_thread(start)
            if error is not None:
                self._deliver_without_running(start, "failed", f"The step cannot be started: {error}")

    def _start_thread(self, start: Start) -> Exception | None:
        """What kept it from starting, if anything did. Inside the lock: whoever cancels finds it waiting or running."""
        key = (start.run_id, start.position)
        self._running[key] = cancellation = Cancellation()
        thread = threading.Thread(target=self._run, args=(start, cancellation), name=f"step {start.step}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._running.pop(key).close()
            return error
        return None

    def _deliver_without_running(self, start: Start, status: str, error: str) -> None:
        self._deliver(LocalFinished(start.run_id, start.position, _not_run(status, error)))

    def _run(self, start: Start, cancellation: Cancellation) -> None:
        def emit(stream: str, lines: bytes) -> None:
            text = lines.decode("utf-8", "replace").removesuffix("\n")
            self._deliver(LocalOutput(start.run_id, start.position, stream, text))

        with cancellation:
            surroundings = Surroundings(self._directory, self._environment, emit, cancellation, spawner=self._spawner)
            try:
                outcome = invoke(resolve(start.invocation, self._secret), surroundings, iso_now)
            except (SwampError, OSError) as error:  # of the vault; those of the step are in its outcome
                outcome = _not_run("failed", str(error))
        with self._lock:
            del self._running[(start.run_id, start.position)]
        self._deliver(LocalFinished(start.run_id, start.position, outcome))
        self._start_more()


def _not_run(status: str, error: str) -> Outcome:
    now = iso_now()
    return Outcome(status, error, (), now, now, 0)

"""The slots of a worker: threads that run one step at a time, the line before them, and what they tell its loop."""

from __future__ import annotations

import hashlib
import itertools
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from swamp.clock import iso_now
from swamp.data.record import Blob
from swamp.models.invocation import Outcome
from swamp.models.invoke import Cancellation, Surroundings, invoke
from swamp.models.kept import spawner_that_leaves_nothing
from swamp.models.spawner import NotBegun
from swamp.values import value
from swamp.wire.messages import LARGEST_CONTENT, Dispatch
from workers.turns import InTurn, Turns

#: Bytes of an output above which it travels by itself instead of in the result.
BIG = 64 * 1024

#: Steps that wait for their turn where programs are started, and not here.
AHEAD = 4


@value
class StepSaid:
    dispatch: str
    stream: str
    lines: bytes


@value
class StepNotBegun:
    """It was given back while it waited for a slot: it was not started."""

    dispatch: str


@value
class StepEnded:
    dispatch: Dispatch
    outcome: Outcome  #: big outputs are `Blob`s
    contents: Mapping[str, bytes]  #: the content of those, by checksum


class Slots:
    """`tell` is called from the slots' threads. `environment` is all that a step sees."""

    def __init__(
        self,
        count: int,
        machine: str,
        directory: Path,
        environment: Mapping[str, str],
        tell: Callable[[StepSaid | StepEnded | StepNotBegun], None],
    ) -> None:
        self.count = count
        self._machine = machine
        self._directory = directory
        self._environment = environment
        self._tell = tell
        # No more than `count` programs run at once: the spawner sees to that. With a few threads more the next ones
        # wait there already when one ends, so that no processor waits for this process.
        self._spawner = spawner_that_leaves_nothing(count)
        self._most_threads = count + (min(count, AHEAD) if self._spawner.has_a_queue else 0)
        self._line: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
        self._numbers = itertools.count()  # of what is put in line
        self._turns = Turns()
        # In line and not started. Whoever takes a step out of it, a slot or the loop, has it: `pop` is one operation.
        self._unstarted: dict[str, tuple[Dispatch, Cancellation]] = {}
        self._asked: dict[str, Cancellation] = {}  # of these the spawner knows; some of them run
        self._begun: set[str] = set()  # these run, as far as is known
        self._threads = 0
        self.running: dict[str, Cancellation] = {}  #: by dispatch, those in line too; belongs to the loop's thread
        self.started_at = 0.0  #: monotonic seconds; when a slot last took a step

    @property
    def unstarted(self) -> int:
        """How many steps stand in line."""
        free = max(0, self.count - len(self._begun))
        return len(self._unstarted) + max(0, len(self._asked) - free)

    @property
    def busy(self) -> bool:
        """Whether every slot has a step."""
        return len(self.running) - self.unstarted >= self.count

    def start(self, dispatch: Dispatch) -> None:
        """Run the step as soon as a slot is free."""
        cancellation = Cancellation()
        self.running[dispatch.id] = cancellation
        if not self._unstarted and not self._asked:
            self.started_at = time.monotonic()  # nothing had to wait until now
        self._unstarted[dispatch.id] = (dispatch, cancellation)
        if self._threads < self._most_threads:
            self._threads += 1
            threading.Thread(target=self._serve, name=f"slot {self._threads}", daemon=True).start()
        self._line.put((next(self._numbers), dispatch.id))

    def give_back(self) -> list[str]:
        """Take out of the line whatever no slot has taken yet; it will never be started here. Of what the spawner knows
        already it is told (`StepNotBegun`) if it was not too late for it."""
        given = [dispatch for dispatch in list(self._unstarted) if self._unstarted.pop(dispatch, None)]
        for dispatch in given:
            self.ended(dispatch)
        for cancellation in list(self._asked.values()):
            cancellation.withdraw()
            self.started_at = time.monotonic()  # not asked for again before there was time to answer
        return given

    def answer(self, dispatch: Dispatch) -> StepEnded:
        """Run a step that answers at once, here and now."""
        with Cancellation() as cancellation:
            surroundings = Surroundings(
                self._directory, self._environment, lambda *_: None, cancellation, self._machine
            )
            outcome, contents = _lighten(invoke(dispatch.invocation, surroundings, iso_now))
        return StepEnded(dispatch, outcome, contents)

    def ended(self, dispatch: str) -> None:
        """The loop has taken note of the end of the step."""
        cancellation = self.running.pop(dispatch, None)
        if cancellation is not None:
            cancellation.close()

    def cancel(self, dispatch: str, reason: str, grace: float) -> None:
        """TERM to the step's processes, KILL after `grace` seconds; it ends through `tell`, as ever."""
        cancellation = self.running.get(dispatch)
        if cancellation is not None:
            cancellation.set(reason, grace)

    def get_ready(self) -> None:
        """Start now what the first step would have to wait for."""
        self._spawner.start()

    def close(self) -> None:
        """End what still runs, what steps have left behind included, and start nothing more."""
        self._spawner.close()

    def _serve(self) -> None:
        while True:
            number, identifier = self._line.get()
            taken = self._unstarted.pop(identifier, None)
            if taken is None:
                self._turns.over(number)
                continue
            dispatch, cancellation = taken
            self._asked[dispatch.id] = cancellation
            surroundings = Surroundings(
                self._directory,
                self._environment,
                partial(self._emit, dispatch.id),
                cancellation,
                self._machine,
                InTurn(self._spawner, self._turns, number),
                partial(self._has_begun, dispatch.id),
            )
            try:
                outcome, contents = _lighten(invoke(dispatch.invocation, surroundings, iso_now))
            except NotBegun:
                if cancellation.is_set():  # as if it had been canceled in the line
                    now = iso_now()
                    self._tell(StepEnded(dispatch, Outcome("canceled", cancellation.reason, (), now, now, 0), {}))
                else:
                    self._tell(StepNotBegun(dispatch.id))
            else:
                self._tell(StepEnded(dispatch, outcome, contents))
            finally:
                self._turns.over(number)  # it may have started nothing
                self._asked.pop(dispatch.id, None)
                self._begun.discard(dispatch.id)

    def _emit(self, dispatch: str, stream: str, lines: bytes) -> None:
        self._tell(StepSaid(dispatch, stream, lines))

    def _has_begun(self, dispatch: str) -> None:
        self._begun.add(dispatch)
        self._asked.pop(dispatch, None)
        self.started_at = time.monotonic()


def _lighten(outcome: Outcome) -> tuple[Outcome, dict[str, bytes]]:
    """The outcome with its big outputs replaced by their checksums, and those outputs. With one that is too big for the
    orchestrator the step has failed."""
    contents: dict[str, bytes] = {}
    outputs = []
    for output in outcome.outputs:
        content = output.content
        if isinstance(content, bytes) and len(content) > LARGEST_CONTENT:
            why = f"The output '{output.name}' has {len(content)} bytes; {LARGEST_CONTENT} can be kept"
            outcome = replace(outcome, status="failed", error=outcome.error or why)
            continue
        if isinstance(content, bytes) and len(content) > BIG:
            checksum = hashlib.sha256(content).hexdigest()
            contents[checksum] = content
            output = replace(output, content=Blob(checksum, len(content)))
        outputs.append(output)
    as_it_was = not contents and len(outputs) == len(outcome.outputs)
    return (outcome if as_it_was else replace(outcome, outputs=tuple(outputs))), contents

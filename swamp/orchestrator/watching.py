"""Watching a run of the orchestrator, by somebody who may want it to end, or to leave it.

One thread reads what the orchestrator tells, one hears signals, one asks for the cancel. The one that shows the run
only takes messages, so nothing that it does is ever broken off, and whatever it is held up by (a pager that does not
go on reading, an orchestrator that does not answer), a run that shall be canceled is.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from typing import Self

from swamp.errors import HungUp, Interrupted, NotFound, SwampError, Terminated, Unreachable
from swamp.orchestrator.aside import Aside
from swamp.orchestrator.client import Client
from swamp.signals import heard
from swamp.workflows.events import Event

PATIENCE = 2.0
"""Seconds that who leaves waits until the orchestrator has heard of the cancel."""

ENDINGS: Mapping[signal.Signals, type[SwampError]] = {
    signal.SIGINT: Interrupted,
    signal.SIGTERM: Terminated,
    signal.SIGHUP: HungUp,
}
"""What a command ends with that leaves a run because of the signal."""


class Watching:
    """The run that `wanted` asks for (`workflow`, `run`: its id), from when the block is entered.

    Iterating gives its events, and between them the signals INT, TERM and HUP. With `ctrl_c_cancels`, the first Ctrl-C
    has the orchestrator asked, once, to cancel the run, as soon as it has accepted it. Raises what the orchestrator
    refuses, and `Unreachable` when it goes away.
    """

    def __init__(self, orchestrator: Client, wanted: Mapping[str, str], *, ctrl_c_cancels: bool) -> None:
        self.run = wanted["run"]
        self._orchestrator = orchestrator
        self._wanted = wanted
        self._ctrl_c_cancels = ctrl_c_cancels
        self._messages = Aside(self._events())
        self._lock = threading.Lock()  # around these three
        self._accepted = self._unwanted = self._asked = False
        self._canceled = threading.Event()  #: the orchestrator has said so
        self._block = ExitStack()

    def __enter__(self) -> Self:
        self._block.enter_context(heard(ENDINGS, self._hear))
        return self

    def __exit__(self, *_: object) -> None:
        self._block.close()

    def __iter__(self) -> Iterator[Event | signal.Signals]:
        return iter(self._messages)

    def leave(self, number: signal.Signals) -> SwampError:
        """The error to end with because of the signal. From now on Ctrl-C does nothing: all that is left to do is to
        say how to come back, and who goes on pressing it wants to read that, too."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        kind = ENDINGS[number]
        with self._lock:
            accepted, asked = self._accepted, self._asked
        if not accepted:
            return kind(
                f"left before the orchestrator had answered; it may have accepted run {self.run}",
                hint=f"look for it with: swamp workflow logs {self.run}\n"
                f"cancel it with: swamp workflow cancel {self.run}",
            )
        if not asked:
            return kind(
                f"left run {self.run}, which goes on",
                hint=f"follow it again with: swamp workflow logs -f {self.run}\n"
                f"cancel it with: swamp workflow cancel {self.run}",
            )
        if not self._canceled.wait(PATIENCE):
            return kind(
                f"left run {self.run}; the orchestrator has not said that it cancels it",
                hint=f"see whether it does with: swamp workflow logs -f {self.run}\n"
                f"ask once more with: swamp workflow cancel {self.run}",
            )
        return kind(
            f"left run {self.run}, which is being canceled",
            hint=f"watch it end with: swamp workflow logs -f {self.run}",
        )

    # ------------------------------------------------------------------ what the other threads do

    def _hear(self, number: signal.Signals) -> None:
        self._messages.put(number)
        if number == signal.SIGINT and self._ctrl_c_cancels:
            self._cancel_if(unwanted=True)

    def _events(self) -> Iterator[Event]:
        try:
            with closing(self._orchestrator.run(self._wanted)) as events:
                for event in events:
                    if not self._accepted:
                        self.run = str(event.get("run", self.run))
                        self._cancel_if(accepted=True)
                    yield event
        except Unreachable as error:
            if self._accepted:
                raise
            raise Unreachable(
                f"{error.message}; it may have accepted the run before",
                hint=f"{error.hint or ''}\nthen look for it with: swamp workflow logs {self.run}",
                code=error.code,
            ) from error

    def _cancel_if(self, *, accepted: bool = False, unwanted: bool = False) -> None:
        """Ask for the cancel when both are true for the first time."""
        with self._lock:
            self._accepted |= accepted
            self._unwanted |= unwanted
            if self._asked or not (self._accepted and self._unwanted):
                return
            self._asked = True
        threading.Thread(target=self._cancel, name="cancel", daemon=True).start()

    def _cancel(self) -> None:
        try:
            self._orchestrator.cancel(self.run)
        except NotFound:
            pass  # it has just ended: its last events are on their way
        except Exception as error:
            self._messages.fail(error)
            return
        self._canceled.set()

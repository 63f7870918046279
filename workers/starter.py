"""The beginning of steps: what the server let begin is noted and started, of the rest it is said that it was not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import zip_longest

from swamp.broker.client import RedisTrouble
from swamp.broker.functions import Exchange
from swamp.clock import iso_now
from swamp.models.invocation import Outcome
from swamp.wire.messages import Dispatch, Dropped
from workers.appetite import is_instant
from workers.claims import Claims
from workers.disk import DiskTrouble
from workers.link import Link
from workers.names import StepNames
from workers.results import Results
from workers.slots import Slots, StepEnded
from workers.voice import Beginning, Voice

log = logging.getLogger("swamp.worker")


class Starter:
    """Belongs to the worker's loop. `allowed` are the model types that may run here, None for every type; `worker`
    tells what this worker is called."""

    def __init__(
        self,
        claims: Claims,
        slots: Slots,
        voice: Voice,
        results: Results,
        names: StepNames,
        disk: DiskTrouble,
        allowed: frozenset[str] | None,
        worker: Callable[[], str],
    ) -> None:
        self._claims = claims
        self._slots = slots
        self._voice = voice
        self._results = results
        self._names = names
        self._disk = disk
        self._allowed = allowed
        self._worker = worker

    def begin_rest(self, link: Link, beginning: list[Beginning], answered: list[int | bytes]) -> list[int | bytes]:
        """The server stops behind a claim that was taken back: say that it is dropped, and go on, before anything else
        is said. What became of each that was tried."""
        statuses = list(answered)
        while statuses and statuses[-1] == 0:
            started, gone = beginning[len(statuses) - 1]
            rest = beginning[len(statuses) :]
            request = Exchange(say=[self._voice.keep(started.number, Dropped(gone.id)).sealed])
            request.begin = [(dispatch.id, sent.sealed) for sent, dispatch in rest]
            try:
                answer = link.exchange(request)
            except RedisTrouble as error:
                return [*statuses, str(error).encode()]
            if not rest or answer.say != [1]:
                return statuses + [status for status in answer.say if status != 1]
            statuses += answer.begin
        return statuses

    def began(self, beginning: list[Beginning], statuses: list[int | bytes]) -> None:
        """Start what the server let begin. Of what it did not answer for, one thing is known: it was not started."""
        begun = [dispatch.id for (_, dispatch), status in zip(beginning, statuses, strict=False) if status == 1]
        try:
            self._claims.seen.begin(begun)
        except OSError as error:
            for dispatch_id in begun:
                self._voice.say(Dropped(dispatch_id))
            self._disk.cannot_write(f"cannot note what is to start: {error}; it goes back")
            begun = []
        for (started, dispatch), status in zip_longest(beginning, statuses[: len(beginning)]):
            if status == 1 and not begun:
                continue
            if status == 1 and not self._allows(dispatch):
                self._results.ended.append(StepEnded(dispatch, self._not_allowed(dispatch), {}))
            elif status == 1 and is_instant(dispatch):
                self._results.ended.append(self._slots.answer(dispatch))
            elif status == 1:
                self._slots.start(dispatch)
            else:
                self._voice.keep(started.number, Dropped(dispatch.id))
                name = self._names.of(dispatch.id)
                log.info("step %s was taken back before it began", name, extra=self._names.about(dispatch.id))

    def _allows(self, dispatch: Dispatch) -> bool:
        return self._allowed is None or dispatch.invocation.model_type in self._allowed

    def _not_allowed(self, dispatch: Dispatch) -> Outcome:
        """An end like any other: nothing was started, and the step fails with the reason."""
        kind, allowed = dispatch.invocation.model_type, ", ".join(sorted(self._allowed or ()))
        now = iso_now()
        reason = f"worker '{self._worker()}' does not run models of type '{kind}' (it allows: {allowed})"
        return Outcome("failed", reason, (), now, now, 0)

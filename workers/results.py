"""What came of the steps that ended here: stored first, then said, and kept until the orchestrator has it."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial

from swamp.data.record import Blob
from swamp.pace import Pace
from swamp.wire.messages import pack_result, unpack_result
from workers.appetite import moved
from workers.contents import ContentLost, Contents
from workers.courier import Courier, Undeliverable, blobs_of
from workers.disk import DiskTrouble
from workers.names import StepNames
from workers.outbox import Outbox
from workers.output import LiveOutput
from workers.session import Session
from workers.slots import Slots, StepEnded
from workers.unacknowledged import Sent
from workers.voice import Voice

log = logging.getLogger("swamp.worker")

STORE_AGAIN = 1.0  #: seconds until results that could not be stored are tried again


class Results:
    """Belongs to the worker's loop."""

    def __init__(
        self,
        outbox: Outbox,
        contents: Contents,
        courier: Courier,
        slots: Slots,
        voice: Voice,
        output: LiveOutput,
        names: StepNames,
        disk: DiskTrouble,
        pace: Pace,
    ) -> None:
        self._outbox = outbox
        self._contents = contents
        self._courier = courier
        self._slots = slots
        self._voice = voice
        self._output = output
        self._names = names
        self._disk = disk
        self._pace = pace
        self.ended: list[StepEnded] = []  #: not in the outbox yet
        self.store_at = 0.0  #: monotonic seconds; not before, because the last time there was no room
        self.finished = 0  #: steps that ended here
        self.recent_ms = float("inf")  #: how long steps took lately; none has run yet

    def take_up(self) -> None:
        """Send what an earlier process has left."""
        left = {dispatch: blobs_of(content) for dispatch, content in self._outbox.items()}
        self._contents.take_up(left)
        for dispatch, content in self._outbox.items():
            self._ready(dispatch, content, big=bool(left[dispatch]))

    def store(self, *, cutting: bool) -> None:
        """Results go to the outbox, all that came in with one sync, before anything is told of them.

        `cutting`: we end steps ourselves, to stop. Of a step that ended so there is no result; our farewell says that
        none will come, and the step's `onWorkerLost` decides.
        """
        if not self.ended or time.monotonic() < self.store_at:
            return
        if cutting:
            self._leave_out_what_was_cut_off()
        packed = []
        try:
            for ended in self.ended:
                self._contents.put(ended.dispatch.id, ended.contents)
                packed.append((ended.dispatch.id, pack_result(ended.outcome)))
            self._outbox.put_many(packed)
        except OSError as error:
            self.store_at = time.monotonic() + STORE_AGAIN
            self._disk.cannot_write(f"results cannot be stored: {error}; they wait until there is room")
            return
        self._disk.can_write()
        for ended, (dispatch, content) in zip(self.ended, packed, strict=True):
            self._slots.ended(dispatch)
            self._output.tell_what_was_withheld(dispatch)
            self.finished += 1
            outcome = ended.outcome
            self.recent_ms = moved(self.recent_ms, outcome.duration_ms)
            self._pace.info(
                "step %s executed %s: %s in %dms",
                self._names.of(dispatch),
                ended.dispatch.invocation.model_name,
                outcome.status if outcome.error is None else f"{outcome.status}, {outcome.error}",
                outcome.duration_ms,
                about=partial(self._names.about, dispatch),
            )
            self._ready(dispatch, content, big=bool(ended.contents))
        self.ended = []

    def brought(self, dispatch: str) -> None:
        """The orchestrator has the big content of this result: the result can follow."""
        content = self._outbox.get(dispatch)
        if content is not None:
            self._voice.send(dispatch, content)

    def content_lost(self, lost: Undeliverable) -> None:
        content = self._outbox.get(lost.dispatch)
        if content is not None:
            self._voice.send(lost.dispatch, self._without_content(lost.dispatch, content, lost.reason))

    def behind_its_content(self, session: Session, sent: Sent) -> Sent:
        """What is to be said again, once the orchestrator has the content that it speaks of, which it may be missing.
        Raises `NotReached`, and `OSError` when the content cannot be read now."""
        content = self._outbox.get(sent.dispatch)
        if content is None:
            return sent
        try:
            self._courier.bring(session, content)
        except ContentLost as lost:
            failed = self._without_content(sent.dispatch, content, str(lost))
            return self._voice.keep(sent.number, sent.body, sent.dispatch, failed)
        return sent

    def acknowledged(self, number: int) -> None:
        """The orchestrator has what was said up to this number, and the results with it, on its disk."""
        delivered = []
        for sent in self._voice.sent.acknowledged(number):
            if sent.dispatch:
                delivered.append(sent.dispatch)
                about = partial(self._names.about, sent.dispatch)
                self._pace.info("step %s: result returned", self._names.of(sent.dispatch), about=about)
                self._names.forget(sent.dispatch)
        if delivered:
            self._outbox.remove(delivered)
            self._contents.delivered(delivered)

    def _leave_out_what_was_cut_off(self) -> None:
        for ended in self.ended:
            if ended.outcome.status == "canceled":
                dispatch = ended.dispatch.id
                about = self._names.about(dispatch)
                log.warning("step %s was ended, because the worker stops", self._names.of(dispatch), extra=about)
                self._output.tell_what_was_withheld(dispatch)
                self._slots.ended(dispatch)
        self.ended = [ended for ended in self.ended if ended.outcome.status != "canceled"]

    def _ready(self, dispatch: str, content: bytes, *, big: bool) -> None:
        """A stored result: send it, after the big content that it speaks of."""
        if big:
            self._courier.send(dispatch)
        else:
            self._voice.send(dispatch, content)

    def _without_content(self, dispatch: str, content: bytes, reason: str) -> bytes:
        """The result of a step whose output is lost: it has failed. Else it would be waited for for ever."""
        why = f"the output of the step was lost on its worker: {reason}"
        log.error("step %s: %s", self._names.of(dispatch), why, extra=self._names.about(dispatch))
        outcome = unpack_result(content)
        outputs = tuple(output for output in outcome.outputs if not isinstance(output.content, Blob))
        failed = pack_result(replace(outcome, status="failed", error=why, outputs=outputs))
        with suppress(OSError):  # from what is there the same follows again
            self._outbox.put(dispatch, failed)
        return failed

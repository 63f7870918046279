"""What this machine has claimed and not begun: opened, noted as seen, and waiting for a grant or for its turn."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from swamp.wire.messages import Declined, Dispatch, UpBody, Wants
from workers.opener import Declines, Opener
from workers.seen import SeenList

log = logging.getLogger("swamp.worker")


@dataclass(slots=True)
class Claims:
    """`say` takes what the orchestrator is to be told; `about` gives what a log line about a dispatch carries."""

    seen: SeenList
    say: Callable[[UpBody], None]
    about: Callable[[str], dict[str, str]]
    opener: Opener | None = None  #: of the session
    opened: list[Dispatch] = field(default_factory=list)  #: readable, noted as seen; to be begun
    asking: dict[str, Dispatch] = field(default_factory=dict)  #: as those, but waiting for their grant
    release: list[str] = field(default_factory=list)  #: to be given up: another machine has the grant

    @property
    def count(self) -> int:
        return len(self.opened) + len(self.asking)

    @property
    def held(self) -> tuple[str, ...]:
        return (*(dispatch.id for dispatch in self.opened), *self.asking)

    def open(self, work: list[tuple[str, bytes]], under_way: Callable[[str], bool]) -> list[Dispatch]:
        """Read what was claimed, and note it as seen before anything else is done with it; what may be run here.

        Raises `Behind`, and `OSError` when it could not be noted: then all of it goes back.
        """
        readable = []
        held = {dispatch.id for dispatch in self.opened} | self.asking.keys()
        for dispatch_id, sealed in work:
            if under_way(dispatch_id) or dispatch_id in held:
                self.release.append(dispatch_id)  # it was queued once more while we have it
                continue
            dispatch = self._read(dispatch_id, sealed)
            if dispatch is not None:
                readable.append(dispatch)
                held.add(dispatch_id)
        if not readable:
            return []
        try:
            new = self.seen.add([dispatch.id for dispatch in readable])
        except OSError:
            self.seen.was_not_started(dispatch.id for dispatch in readable)
            for dispatch in readable:
                self.say(Declined(dispatch.id, "unstarted"))
                self.release.append(dispatch.id)
            raise
        received = []
        for dispatch in readable:
            if dispatch.id not in new:
                self.say(self._not_again(dispatch.id))
                continue
            received.append(dispatch)
            if dispatch.grant:
                self.asking[dispatch.id] = dispatch
                self.say(Wants(dispatch.id))
            else:
                self.opened.append(dispatch)
        return received

    def granted(self, dispatch: str, *, here: bool) -> None:
        """The orchestrator has decided who may begin it."""
        granted = self.asking.pop(dispatch, None)
        if granted is not None and here:
            self.opened.append(granted)

    def canceled(self, dispatch: str) -> bool:
        """Whether it was waiting for its grant, and is given up."""
        if dispatch not in self.asking:
            return False
        del self.asking[dispatch]
        self.release.append(dispatch)
        return True

    def decline_opened(self) -> None:
        """Leave to others what could begin next."""
        for waiting in self.opened:
            self.say(Declined(waiting.id, "unstarted"))
        self.opened = []

    def forget(self) -> None:
        """All of it goes back to the orchestrator, which takes it or has taken it already."""
        self.opened, self.asking, self.release = [], {}, []

    def _read(self, dispatch_id: str, sealed: bytes) -> Dispatch | None:
        """None for what is not to be run; the orchestrator is told why. Raises `Behind`."""
        if not sealed:
            self.say(Declined(dispatch_id, "gone"))
            return None
        if self.opener is None:
            return None
        try:
            return self.opener.open(dispatch_id, sealed)
        except Declines as declined:
            reason, about = declined.reason, self.about(dispatch_id)
            log.warning("dispatch %s was refused (%s): %s", dispatch_id, reason, declined, extra=about)
            self.say(self._not_again(dispatch_id) if dispatch_id in self.seen else Declined(dispatch_id, reason))
            return None

    def _not_again(self, dispatch_id: str) -> Declined:
        return Declined(dispatch_id, "seen" if self.seen.may_have_started(dispatch_id) else "unstarted")

"""The courier: a thread that brings content too big for a queue to the orchestrator, ahead of the result it is of."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from swamp.data.record import Blob
from swamp.wire.messages import unpack_result
from workers.contents import ContentLost, Contents
from workers.outbox import Outbox
from workers.session import NotReached, Session

AGAIN = 0.5  #: seconds until what could not be delivered is tried again


@dataclass(frozen=True, slots=True)
class Delivered:
    """The orchestrator has the big content of this result."""

    dispatch: str


@dataclass(frozen=True, slots=True)
class Undeliverable:
    """The big content of this result is lost; why."""

    dispatch: str
    reason: str


class Courier:
    """`session` gives the present one, if there is one; `tell` is called from the thread."""

    def __init__(
        self,
        outbox: Outbox,
        contents: Contents,
        session: Callable[[], Session | None],
        tell: Callable[[Delivered | Undeliverable], None],
    ) -> None:
        self._outbox = outbox
        self._contents = contents
        self._session = session
        self._tell = tell
        self._errands: queue.SimpleQueue[str] = queue.SimpleQueue()

    def start(self) -> None:
        threading.Thread(target=self._carry, name="courier", daemon=True).start()

    def send(self, dispatch: str) -> None:
        """Deliver the content of a result that is in the outbox, however often that takes."""
        self._errands.put(dispatch)

    def bring(self, session: Session, content: bytes) -> None:
        """Deliver, here and now, the content that a packed result speaks of. Raises `NotReached`, `ContentLost`, and
        `OSError` when it cannot be read now."""
        for checksum in blobs_of(content):
            session.store(checksum, self._contents.get(checksum))

    def _carry(self) -> None:
        while True:
            dispatch = self._errands.get()
            while (content := self._outbox.get(dispatch)) is not None:
                session = self._session()
                try:
                    if session is None:
                        raise NotReached("no session")
                    self.bring(session, content)
                    self._tell(Delivered(dispatch))
                    break
                except ContentLost as lost:
                    self._tell(Undeliverable(dispatch, str(lost)))
                    break
                except (NotReached, OSError):
                    time.sleep(AGAIN)


def blobs_of(content: bytes) -> list[str]:
    """The checksums of the big content that a packed result speaks of."""
    return [output.content.checksum for output in unpack_result(content).outputs if isinstance(output.content, Blob)]

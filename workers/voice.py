"""What this machine has to say: numbered, sealed, in the order it is to be heard in, and kept until acknowledged."""

from __future__ import annotations

from swamp.broker.functions import Exchange
from swamp.wire.envelope import Box, MachineKeys
from swamp.wire.messages import (
    UP,
    Declined,
    Dispatch,
    Finished,
    Heartbeat,
    OutputLines,
    Started,
    UpBody,
    pack_up,
    result_place,
)
from workers.unacknowledged import Sent, Unacknowledged

SAY_AT_ONCE = 200  #: messages in one round trip, besides results

#: Bytes said and not acknowledged above which no more live output is sent (the result has all of it), and no more
#: work taken.
UNACKNOWLEDGED_LIMIT = 8 << 20

#: Messages not acknowledged above which no more work is taken: what the orchestrator reads at once. A worker that is
#: further ahead is not done sooner, and has to keep it all.
UNACKNOWLEDGED_MESSAGES = 2_000

#: What the server was asked to let begin: the `started` that it then says, and of what.
Beginning = tuple[Sent, Dispatch]


class Voice:
    """`epoch` is this process's: the numbers of its messages count within it."""

    def __init__(self, epoch: int) -> None:
        self.sent = Unacknowledged()
        self._epoch = epoch
        self._say: list[UpBody] = []
        self._unsaid = 0  # characters of output in it
        self._to_send: dict[str, bytes] = {}  # results, by dispatch
        self._beat = 0  # number of the last heartbeat
        self._up: Box | None = None
        self._results: Box | None = None

    @property
    def has_joined(self) -> bool:
        return self._up is not None

    @property
    def has_more(self) -> bool:
        """Whether anything waits to be said."""
        return bool(self._say or self._to_send)

    @property
    def size(self) -> int:
        """Bytes that were said and not acknowledged, or that wait."""
        return self.sent.size + self._unsaid

    @property
    def is_far_ahead(self) -> bool:
        """Whether what is not acknowledged is enough for now."""
        return self.sent.size >= UNACKNOWLEDGED_LIMIT or len(self.sent) >= UNACKNOWLEDGED_MESSAGES

    @property
    def last_to_come(self) -> int:
        """The number that the last of what waits, results aside, will have."""
        return self.sent.last + len(self._say)

    def use(self, keys: MachineKeys) -> None:
        self._up, self._results = Box(keys.up), Box(keys.results)

    def say(self, body: UpBody) -> None:
        if isinstance(body, OutputLines):
            self._unsaid += len(body.text)
        self._say.append(body)

    def send(self, dispatch: str, content: bytes) -> None:
        """A result, packed and in the outbox."""
        self._to_send[dispatch] = content

    def beat(self, heartbeat: Heartbeat) -> bytes:
        """Sealed; heartbeats have numbers of their own and are never sent again."""
        self._beat += 1
        return self._sealed(self._beat, heartbeat)

    def into(self, request: Exchange, begin: list[Dispatch], now: str) -> list[Beginning]:
        """As much as one round trip holds. Numbers follow the order in which the server says things: say, finish,
        begin."""
        say, self._say = self._say[:SAY_AT_ONCE], self._say[SAY_AT_ONCE:]
        for body in say:
            if isinstance(body, OutputLines):
                self._unsaid -= len(body.text)
            elif isinstance(body, Declined):
                request.release.append(body.dispatch)
            request.say.append(self.keep(self.sent.next_number(), body).sealed)
        to_send: dict[str, bytes] = {}
        if not self._say:  # what a step printed comes before its end
            to_send, self._to_send = self._to_send, {}
        for finished, content in to_send.items():
            sent = self.keep(self.sent.next_number(), Finished(finished), finished, content)
            request.finish.append((finished, sent.result, sent.sealed))
        beginning = []
        for dispatch in begin:
            started = self.keep(self.sent.next_number(), Started(dispatch.id, now))
            request.begin.append((dispatch.id, started.sealed))
            beginning.append((started, dispatch))
        return beginning

    def keep(self, number: int, body: UpBody, dispatch: str = "", content: bytes = b"") -> Sent:
        """Seal a message, and keep it until it is acknowledged; in the place of the one that had this number."""
        result = b""
        if dispatch and self._results is not None:
            result = self._results.seal(content, result_place(dispatch))
        sent = Sent(number, body, self._sealed(number, body), dispatch, result)
        self.sent.keep(sent)
        return sent

    def _sealed(self, number: int, body: UpBody) -> bytes:
        if self._up is None:
            raise RuntimeError("nothing can be sealed before the first join")
        return self._up.seal(pack_up(self._epoch, number, body), UP)

"""What was said and is not acknowledged: numbered, kept, and sent again after every join. Pure.

Numbers run 1, 2, 3 … within a boot epoch and have no gaps, because the orchestrator applies nothing behind a gap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from swamp.wire.messages import UpBody


@dataclass(frozen=True, slots=True)
class Sent:
    """A message as it went into the stream; with its sealed result, if it has one."""

    number: int
    body: UpBody
    sealed: bytes
    dispatch: str = ""
    result: bytes = b""

    @property
    def size(self) -> int:
        return len(self.sealed) + len(self.result)


class Unacknowledged:
    """In order of their numbers."""

    def __init__(self) -> None:
        self._last = 0
        self.forgotten = 0  #: the last number that was acknowledged
        self._sent: dict[int, Sent] = {}
        self.size = 0  #: bytes

    def __len__(self) -> int:
        return len(self._sent)

    def __iter__(self) -> Iterator[Sent]:
        return iter(self._sent.values())

    @property
    def last(self) -> int:
        """The last number given."""
        return self._last

    def next_number(self) -> int:
        self._last += 1
        return self._last

    def keep(self, sent: Sent) -> None:
        """Remember a message; one of the same number is replaced in its place."""
        replaced = self._sent.get(sent.number)
        if replaced is not None:
            self.size -= replaced.size
        self._sent[sent.number] = sent
        self.size += sent.size

    def acknowledged(self, number: int) -> list[Sent]:
        """Forget everything up to this number; what was forgotten comes back."""
        done = []
        self.forgotten = max(self.forgotten, min(number, self._last))
        while self._sent and (first := next(iter(self._sent))) <= number:
            sent = self._sent.pop(first)
            self.size -= sent.size
            done.append(sent)
        return done

from __future__ import annotations

import threading
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest

from swamp.wire import messages
from swamp.wire.messages import BlobPart
from workers.joining import Joining
from workers.session import PART, NotReached, Session


class Wire:
    """Both ends of a connection in one: keeps what is sent, and answers each content as stored."""

    def __init__(self) -> None:
        self.sent: list[BlobPart] = []
        self._answers: list[bytes] = []
        self._changed = threading.Condition()
        self._together = threading.Barrier(2)

    def send(self, data: bytes) -> None:
        part = messages.unpack_session(data)
        assert isinstance(part, BlobPart)
        with self._changed:
            self.sent.append(part)
            if part.last:
                self._answers.append(messages.pack_session(messages.BlobStored(part.checksum, None)))
                self._changed.notify_all()
        # Whoever could send at the same time does so now.
        with suppress(threading.BrokenBarrierError):
            self._together.wait(timeout=0.05)

    def recv(self) -> bytes:
        with self._changed:
            if not self._changed.wait_for(lambda: self._answers, timeout=10):
                raise OSError("the connection is over")
            return self._answers.pop(0)


PLAIN = cast(Any, SimpleNamespace(encrypt=lambda data: data, decrypt=lambda data: data))


class LastWords:
    """A connection at whose end content is taken, and answered with another message: the last that is listened to."""

    def __init__(self, message: messages.SessionMessage) -> None:
        self._message = messages.pack_session(message)
        self._sent = threading.Event()

    def send(self, _data: bytes) -> None:
        self._sent.set()

    def recv(self) -> bytes:
        assert self._sent.wait(timeout=10)
        return self._message

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "message", [messages.Rejoin(), messages.Refusal("revoked", "it was revoked")], ids=lambda one: type(one).__name__
)
def test_whoever_stores_content_is_told_when_nobody_listens_any_more(message: messages.SessionMessage):
    """The worker's loop and its courier would wait for ever for an answer that nobody reads."""
    session = Session(cast(Any, LastWords(message)), PLAIN, cast(Any, None), cast(Any, None), near=True)
    failures: list[NotReached] = []

    def store() -> None:
        try:
            session.store("a" * 64, b"content")
        except NotReached as failure:
            failures.append(failure)

    courier = threading.Thread(target=store, daemon=True)
    courier.start()
    said: list[object] = []
    Joining("", cast(Any, None), None, cast(Any, None), cast(Any, None), lambda: None, said.append)._attend(session)
    courier.join(timeout=10)
    assert len(failures) == 1


def test_content_that_two_threads_store_is_not_mixed():
    wire = Wire()
    session = Session(cast(Any, wire), PLAIN, cast(Any, None), cast(Any, None), near=True)

    def listen() -> None:
        with suppress(NotReached):
            session.receive()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    contents = {"a" * 64: b"a" * PART * 4, "b" * 64: b"b" * PART * 4}
    writers = [threading.Thread(target=session.store, args=item, daemon=True) for item in contents.items()]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=10)
        assert not writer.is_alive()

    order = [part.checksum for part in wire.sent]
    assert order in (sorted(order), sorted(order, reverse=True))
    for checksum, content in contents.items():
        assert b"".join(part.data for part in wire.sent if part.checksum == checksum) == content

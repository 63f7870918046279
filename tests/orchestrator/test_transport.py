"""How the orchestrator comes to its Redis: without waiting for one that does not answer."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from swamp.broker.client import NoConnection
from swamp.broker.location import parse_server
from swamp.errors import Unreachable
from swamp.orchestrator.transport import Owner, RedisAddress, Transport


@pytest.fixture
def silent() -> Iterator[RedisAddress]:
    """A server that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield RedisAddress(parse_server(f"redis://:password@127.0.0.1:{listener.getsockname()[1]}"), "")


def test_nobody_waits_for_a_server_that_is_silent(silent: RedisAddress) -> None:
    transport, found = Transport(Owner("me", "here"), lambda: silent), queue.SimpleQueue[None]()
    begin = time.monotonic()
    while time.monotonic() < begin + 0.3:
        assert not transport.seek(lambda: found.put(None))
        assert time.monotonic() < begin + 3, "an answer is waited for 5 seconds"
    assert not transport.up
    assert found.empty()


def test_who_looks_for_a_server_is_told_when_the_search_is_over_and_why_it_failed() -> None:
    answers, asked = iter([Unreachable("it does not start"), NoConnection("nobody knows")]), threading.Event()

    def locate() -> RedisAddress:
        asked.wait(10)
        raise next(answers)

    transport, found = Transport(Owner("me", "here"), locate), queue.SimpleQueue[None]()
    for error in (Unreachable, NoConnection):
        asked.clear()
        assert not transport.seek(lambda: found.put(None))
        asked.set()
        found.get(timeout=10)
        with pytest.raises(error):
            transport.seek(lambda: found.put(None))
    with pytest.raises(NoConnection, match="not looked for"):
        transport.connect([])

"""A response that goes on until its end or until its reader leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from starlette.types import Message

from swamp.orchestrator.streaming import EventStream, Reader

SCOPE = {"type": "http", "asgi": {"spec_version": "2.3"}}


async def told(stream: EventStream, leaves: asyncio.Event) -> list[Message]:
    """What is sent to a reader who leaves then."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        await leaves.wait()
        return {"type": "http.disconnect"}

    await asyncio.wait_for(stream(SCOPE, receive, send), 5)
    return sent


def test_everything_is_told_to_a_reader_who_stays():
    async def pieces(reader: Reader) -> AsyncIterator[bytes]:
        yield b"one\n"
        yield b"two\n"
        assert not reader.gone

    sent = asyncio.run(told(EventStream(pieces), asyncio.Event()))
    assert [message["type"] for message in sent] == ["http.response.start"] + 3 * ["http.response.body"]
    assert b"".join(message.get("body", b"") for message in sent) == b"one\ntwo\n"
    assert not sent[-1]["more_body"]


def test_who_waits_to_tell_more_hears_that_the_reader_has_left():
    leaves = asyncio.Event()
    heard = []

    async def pieces(reader: Reader) -> AsyncIterator[bytes]:
        yield b"one\n"
        leaves.set()
        await reader.woken.wait()
        heard.append(reader.gone)

    asyncio.run(told(EventStream(pieces), leaves))
    assert heard == [True]


def test_nothing_is_left_of_a_response_that_has_ended():
    async def all_tasks() -> set[asyncio.Task[Any]]:
        async def pieces(_: Reader) -> AsyncIterator[bytes]:
            yield b"one\n"

        await told(EventStream(pieces), asyncio.Event())
        left = asyncio.all_tasks() - {asyncio.current_task()}
        return (await asyncio.wait(left, timeout=5))[1] if left else set()

    assert asyncio.run(all_tasks()) == set()

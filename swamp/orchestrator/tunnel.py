"""Connections of workers to the embedded Redis server, through the orchestrator's port: a WebSocket each.

Whoever opens one has shaken hands as a machine that joined, and shows the ticket of its live session. What the
connection may do in Redis is decided there: the worker logs in with its own user. Nothing is kept of what passes, so
whoever does not read holds up only the one connection.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from starlette.websockets import WebSocket, WebSocketDisconnect

from swamp.broker.client import NoConnection, RedisTrouble
from swamp.orchestrator.transport import RedisAddress
from swamp.wire import messages, tunnel
from swamp.wire.messages import Opened, Refusal, SessionMessage
from swamp.wire.noise import MessageRefused, Responder

MOST = 3  #: connections of one session: a worker has no use for more


@dataclass(slots=True)
class Passage:
    """The right of one session to reach Redis. Belongs to the loop's thread."""

    machine: bytes  #: its static public key
    ticket: str = field(default_factory=lambda: secrets.token_hex(16))
    over: asyncio.Event = field(default_factory=asyncio.Event)
    used: int = 0

    def end(self) -> None:
        """Cuts every connection."""
        self.over.set()


class Tunnels:
    """Belongs to the loop's thread."""

    def __init__(self, address: Callable[[], RedisAddress]) -> None:
        """`address` tells where Redis is now; it may raise `NoConnection`."""
        self._address = address
        self._passages: dict[str, Passage] = {}

    def open(self, passage: Passage) -> None:
        self._passages[passage.ticket] = passage

    def close(self, passage: Passage) -> None:
        passage.end()
        self._passages.pop(passage.ticket, None)

    async def serve(self, websocket: WebSocket, noise: Responder, ticket: str, machine: bytes) -> None:
        """From the end of the handshake to the end of the connection."""
        passage = self._passages.get(ticket)
        # The ticket alone is no proof: it is the machine's own.
        if passage is None or passage.machine != machine or passage.over.is_set():
            await _say(websocket, noise, Refusal("try_later", "no session of this machine has such a ticket"))
        elif passage.used >= MOST:
            await _say(websocket, noise, Refusal("try_later", f"a session has at most {MOST} connections to Redis"))
        else:
            passage.used += 1
            try:
                await self._connect(websocket, noise, passage)
            finally:
                passage.used -= 1

    async def _connect(self, websocket: WebSocket, noise: Responder, passage: Passage) -> None:
        try:
            address = self._address()
            if address.socket is None:
                raise NoConnection("there is no server of its own")
            reader, writer = await asyncio.open_unix_connection(address.socket, limit=tunnel.LONGEST)
        except (RedisTrouble, OSError):
            await _say(websocket, noise, Refusal("try_later", "the orchestrator has no connection to Redis"))
            return
        try:
            await _say(websocket, noise, Opened())
            ways = [_up(websocket, noise, writer), _down(websocket, noise, reader), passage.over.wait()]
            tasks = [asyncio.ensure_future(way) for way in ways]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            writer.transport.abort()


async def _up(websocket: WebSocket, noise: Responder, redis_end: asyncio.StreamWriter) -> None:
    """What the worker says, as fast as Redis takes it."""
    with suppress(WebSocketDisconnect, MessageRefused, OSError):
        while True:
            redis_end.write(tunnel.unseal(noise, await frame(websocket)))
            await redis_end.drain()


async def _down(websocket: WebSocket, noise: Responder, redis_end: asyncio.StreamReader) -> None:
    """What Redis says, as fast as the worker takes it."""
    with suppress(WebSocketDisconnect, RuntimeError, OSError):
        while data := await redis_end.read(tunnel.LONGEST):
            await websocket.send_bytes(tunnel.seal(noise, data))


async def frame(websocket: WebSocket) -> object:
    """The next frame: bytes, unless a stranger speaks. Raises `WebSocketDisconnect`."""
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1006))
    return message.get("bytes")


async def _say(websocket: WebSocket, noise: Responder, message: SessionMessage) -> None:
    await websocket.send_bytes(noise.encrypt(messages.pack_session(message)))

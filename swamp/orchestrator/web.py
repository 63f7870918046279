"""The web server: uvicorn, without its own ideas about signals, and with less patience."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from swamp.errors import Unreachable
from swamp.orchestrator.strangers import Strangers

FAREWELL = 1  #: seconds that open requests get when the orchestrator stops; what they watch goes on without them
REQUEST_SECONDS = 15.0  #: for the head of a request, from the connection or its first byte on
CLOSE_SECONDS = 0.25  #: until a closed WebSocket is cut, when the other side does not answer
MOST_STRANGERS = 256  #: connections on which no request has come yet
LONGEST_FIRST_FRAME = 1 << 16  #: bytes of one WebSocket message, as long as nobody knows whose it is
LONGEST_FRAME = 1 << 20  #: bytes of one WebSocket message; big content comes in pieces


class _ImpatientProtocol(H11Protocol):
    """Closes a connection that takes too long over a request's head: uvicorn would keep it for ever."""

    _patience: asyncio.TimerHandle | None = None

    _strangers = Strangers(MOST_STRANGERS)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        is_websocket = self.transport.get_protocol() is not self
        if is_websocket or (self.cycle is not None and not self.cycle.response_complete):
            self._be_content()
        else:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._be_content()
        super().connection_lost(exc)

    def _wait(self) -> None:
        """From the first byte on, however the others drip."""
        if self._patience is None:
            self._patience = self.loop.call_later(REQUEST_SECONDS, self.transport.close)
            self._strangers.come(self, self.transport.abort)

    def _be_content(self) -> None:
        self._strangers.leave(self)
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


class _ImpatientWebSocket(WebSocketsSansIOProtocol):
    """Does not wait long for the other side to agree that it is over: who is put out need not agree. Reads little until
    the application calls `state.admitted`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.close_timeout = CLOSE_SECONDS
        self.conn.max_message_size = LONGEST_FIRST_FRAME

    async def run_asgi(self) -> None:
        self.scope["state"]["admitted"] = self._admitted
        await super().run_asgi()

    def _admitted(self) -> None:
        self.conn.max_message_size = LONGEST_FRAME


class WebServer(uvicorn.Server):
    def __init__(self, app: ASGIApp, tls: ssl.SSLContext | None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_ImpatientProtocol,
                lifespan="off",
                log_config=None,
                log_level=logging.WARNING,
                access_log=False,
                ws=_ImpatientWebSocket,
                ws_per_message_deflate=False,
                ws_max_size=LONGEST_FRAME,
                timeout_graceful_shutdown=FAREWELL,
                server_header=False,
                proxy_headers=False,
            )
        )
        self.config.load()
        self.config.ssl = tls

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    @asynccontextmanager
    async def running(self, listener: socket.socket) -> AsyncIterator[None]:
        serving = asyncio.create_task(self.serve(sockets=[listener]))
        try:
            while not self.started:
                if serving.done():
                    await serving
                    raise Unreachable("the web server did not start")
                await asyncio.sleep(0.001)
            yield
        finally:
            self.should_exit = True
            await serving

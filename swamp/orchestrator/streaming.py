"""A response that goes on for as long as a run does, to a reader who may leave before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


@dataclass
class Reader:
    """Somebody at the other end of a response."""

    woken: asyncio.Event = field(default_factory=asyncio.Event)  #: there may be something new, or nobody to tell it to
    gone: bool = False

    def leave(self) -> None:
        self.gone = True
        self.woken.set()


class EventStream(StreamingResponse):
    """What `pieces` gives for a reader, which hears when the reader leaves. Starlette's own is canceled then, by groups
    of tasks and scopes that cost a tenth of what the web server does for a short run."""

    def __init__(self, pieces: Callable[[Reader], AsyncIterator[bytes]]) -> None:
        self._reader = Reader()
        super().__init__(pieces(self._reader), media_type="application/x-ndjson")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        leaving = asyncio.create_task(self._wait_for_the_end(receive))
        try:
            await self.stream_response(send)
        finally:
            leaving.cancel()

    async def _wait_for_the_end(self, receive: Receive) -> None:
        await self.listen_for_disconnect(receive)
        self._reader.leave()

"""`/health` and `/ready`: whether the orchestrator lives, and whether work can flow through it.

Anybody who reaches the port may ask, without a secret: a container engine or a load balancer has none. So the answers
name nothing but the part that stands still, and however often they are asked for, the work that it takes to know is
done once a second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

FRESH = 1.0  #: seconds for which an answer is given again


class Readiness:
    """`probe` says why work cannot flow, None if it can; it is asked at most once in `FRESH` seconds."""

    def __init__(
        self, probe: Callable[[], Awaitable[str | None]], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._probe = probe
        self._monotonic = monotonic
        self._asking = asyncio.Lock()
        self._known_at = float("-inf")
        self._known: str | None = None

    async def why_not(self) -> str | None:
        """Why work cannot flow now, None if it can."""
        async with self._asking:  # who comes meanwhile gets the same answer
            if self._monotonic() - self._known_at >= FRESH:
                self._known = await self._probe()
                self._known_at = self._monotonic()
            return self._known


def health_routes(alive: Callable[[], bool], readiness: Readiness) -> list[Route]:
    """Both paths, to be mounted as they are."""

    async def health(_request: Request) -> Response:
        return _answer("alive", None if alive() else "core")

    async def ready(_request: Request) -> Response:
        return _answer("ready", await readiness.why_not())

    return [Route("/health", health), Route("/ready", ready)]


def _answer(state: str, reason: str | None) -> Response:
    if reason is None:
        return JSONResponse({"status": state})
    return JSONResponse({"status": f"not {state}", "reason": reason}, status_code=503)

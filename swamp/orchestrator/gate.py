"""What every request to the orchestrator's port has to pass: its Host, its Origin, its length, and who asks.

Browsers are kept out altogether, because no page is served here: a page of somebody else's that a person has open must
not reach the orchestrator through that person's browser. Such a request bears an `Origin`, or, after the page's name
was made to point here (DNS rebinding), the page's name as `Host`.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from swamp.clock import utc_now
from swamp.data.store import Store
from swamp.errors import Busy, Invalid, NotAllowed, SwampError
from swamp.orchestrator.slowness import STRANGERS, Slowness
from swamp.tokens import access

log = logging.getLogger("swamp.orchestrator")

OPEN_PATHS = frozenset({"/health", "/ready"})  #: they tell nothing but yes or no, to whoever keeps machines alive
LONGEST_BODY = 1 << 20  #: bytes

_STATUS = {1: 422, 2: 400, 3: 404, 4: 403, 5: 503, 75: 409}


@dataclass(frozen=True)
class Guest:
    """Who asks: the repository's own command line (None), or the holder of the client token of this name."""

    token: str | None

    @classmethod
    def of(cls, request: Request) -> Guest:
        guest = request.scope["swamp.guest"]
        assert isinstance(guest, Guest)  # noqa: S101 - the gate lets nobody by without
        return guest


class Reception:
    """Knows the repository's own secret and the client tokens."""

    def __init__(self, store: Store, secret: str, slowness: Slowness) -> None:
        self._store = store
        self._secret = secret.encode()
        self._slowness = slowness

    async def admit(self, authorization: str) -> Guest:
        """Raises `NotAllowed`, after a while if it comes often; `Busy` for too many failures at once."""
        given = authorization.removeprefix("Bearer ")
        if hmac.compare_digest(given.encode(), self._secret):
            return Guest(None)
        try:
            name, secret = access.parse(given)
        except Invalid:
            name, secret = "", b""
        token = self._find(name)
        if token is None or not access.knows(token, secret):
            if not await self._slowness.failed(STRANGERS if token is None else token.name):
                raise Busy("too many wrong secrets were shown here", hint="wait a minute")
            # Nothing of it is repeated: somebody may have pasted another secret.
            log.warning("a client was refused: %s", "no token" if not given else "an unknown token or a wrong one")
            raise NotAllowed(
                "the orchestrator does not accept this token" if given else "the orchestrator wants a token",
                hint="in its repository no token is needed; from elsewhere use one that is printed there by: "
                "swamp access token create <name> --duration 30d",
                code="bad_token",
            )
        state = access.state(token, utc_now())
        if state != access.LIVE:
            ended = "was revoked" if token.revoked_at else "has expired"
            raise NotAllowed(
                f"client token '{token.name}' {ended}",
                hint="ask for a new one: swamp access token create <name> --duration 30d",
                code=state,
            )
        return Guest(token.name)

    def still_admits(self, guest: Guest) -> bool:
        """Whether a guest who came in may go on listening."""
        token = self._find(guest.token) if guest.token else None
        return guest.token is None or (token is not None and access.state(token, utc_now()) == access.LIVE)

    def _find(self, name: str) -> access.AccessToken | None:
        if not name:
            return None
        with self._store.read() as tx:
            return access.find(tx, name)


class Gate:
    """Stands before the application."""

    def __init__(
        self, app: ASGIApp, reception: Reception, hosts: Collection[str], open_paths: Collection[str] = ()
    ) -> None:
        self._app = app
        self._reception = reception
        self._hosts = frozenset(host.lower() for host in hosts)
        self._open_paths = OPEN_PATHS.union(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            # Who may join is decided by the handshake inside. Workers are not browsers, and name the orchestrator as
            # they like.
            if "origin" in Headers(scope=scope):
                log.warning("a WebSocket was refused that a page in a browser opened")
                await WebSocketClose(1008)(scope, receive, send)
            else:
                await self._app(scope, receive, send)
        elif scope["type"] == "http":
            try:
                guest = await self._let_in(Headers(scope=scope), scope["path"])
            except SwampError as error:
                # What comes behind is not read.
                await refusal(error, {"connection": "close"})(scope, receive, send)
                return
            await self._app({**scope, "swamp.guest": guest}, _limited(receive), send)

    async def _let_in(self, headers: Headers, path: str) -> Guest | None:
        if not names_us(headers.get("host", ""), self._hosts):
            raise NotAllowed(
                "the orchestrator is not known by the name in this request",
                hint="start it with --allowed-host <name>, or use its address",
                code="wrong_host",
            )
        if "origin" in headers:
            raise NotAllowed("the orchestrator answers no page in a browser", code="wrong_origin")
        if path in self._open_paths:
            return None
        guest = await self._reception.admit(headers.get("authorization", ""))
        if not headers.get("content-length", "0").isdecimal() or int(headers.get("content-length", "0")) > LONGEST_BODY:
            raise _too_long()
        return guest


def refusal(error: SwampError, headers: dict[str, str] | None = None) -> Response:
    """The error as the client reads it."""
    return JSONResponse(
        {**error.as_dict(), "exitCode": error.exit_code},
        status_code=_STATUS.get(error.exit_code, 500),
        headers=headers,
    )


def names_us(host: str, hosts: Collection[str]) -> bool:
    """Whether a request with this `Host` header was meant for us: `hosts` are names, `*.` before one stands for any
    first part. Every address is taken: it is names that somebody else can make point here."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    if not name or "@" in host:
        return False
    if name == "localhost" or name in hosts or f"*.{name.partition('.')[2]}" in hosts:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _limited(receive: Receive) -> Receive:
    """Bodies whose length was not told in advance."""
    size = 0

    async def limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > LONGEST_BODY:
            raise _too_long()
        return message

    return limited


def _too_long() -> Invalid:
    return Invalid(f"the request is longer than {LONGEST_BODY} bytes", code="too_long")

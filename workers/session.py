"""The session with the orchestrator, at the worker's end: one WebSocket, a handshake, then sealed messages both ways.

Work and results go through Redis. The session carries what has to be said outside of it: the welcome, the end of the
membership, and content too big for a queue.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect

from swamp.addresses import bracketed, is_loopback
from swamp.errors import Invalid
from swamp.tls import client_context
from swamp.wire import messages
from swamp.wire.codec import Malformed
from swamp.wire.messages import (
    BlobPart,
    BlobStored,
    Farewell,
    Hello,
    Opened,
    Opening,
    Refusal,
    SessionMessage,
    Welcome,
)
from swamp.wire.noise import HandshakeRefused, Initiator, MessageRefused
from workers.identity import Identity, Orchestrator
from workers.tunnel import Tunnel

CONNECT_SECONDS = 10.0
PING_SECONDS = 20.0
#: What goes wrong with a connection is told by who uses it.
_NO_LOG = logging.getLogger("swamp.worker.connection")
_NO_LOG.setLevel(logging.CRITICAL + 1)
PART = 256 * 1024  #: bytes of big content per message


class NotReached(Exception):
    """The orchestrator could not be reached, or what answered there is not (yet) to be taken seriously. Try again."""


class TurnedAway(Exception):
    """The orchestrator says that this machine may not work: final."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


#: What a machine says that it wants, once it knows whom it speaks to.
Wanted = Callable[[], SessionMessage]


@dataclass(frozen=True)
class _Met:
    """Hands are shaken; what the orchestrator said then."""

    websocket: ClientConnection
    noise: Initiator
    answer: SessionMessage
    near: bool  #: the connection ends on this machine, as far as can be seen from here


class Session:
    """A joined session. `receive` belongs to one thread, which says in the end that it will `listen_no_more`; `store`,
    `tunnel` and `close` may be called from others."""

    def __init__(
        self,
        websocket: ClientConnection,
        noise: Initiator,
        welcome: Welcome,
        meet: Callable[[Wanted], _Met],
        *,
        near: bool,
    ) -> None:
        """`meet` shakes hands once more, for a tunnel; it raises `NotReached`. `near`: the orchestrator seems to be on
        this machine."""
        self.welcome = welcome
        self.near = near
        self._meet = meet
        self._websocket = websocket
        self._noise = noise
        self._sending = threading.Lock()
        self._storing = threading.Lock()
        self._answers: dict[str, str | None] = {}
        self._answered = threading.Condition()
        self._over = False

    def receive(self) -> SessionMessage:
        """The next message that is not an answer to `store`. Raises `NotReached` when the session is over."""
        while True:
            try:
                data = self._websocket.recv()
                if isinstance(data, str):
                    raise Malformed("a session message is text")
                message = messages.unpack_session(self._noise.decrypt(data))
            except (ConnectionClosed, OSError, Malformed, MessageRefused) as error:
                self.listen_no_more()
                raise NotReached(str(error)) from error
            if not isinstance(message, BlobStored):
                return message
            with self._answered:
                self._answers[message.checksum] = message.error
                self._answered.notify_all()

    def listen_no_more(self) -> None:
        """Nobody calls `receive` again: whoever waits in `store` waits in vain, and is told so."""
        with self._answered:
            self._over = True
            self._answered.notify_all()

    def tunnel(self) -> Tunnel:
        """A connection to Redis through the orchestrator's port. Raises `NotReached`."""
        met = self._meet(lambda: messages.Tunnel(self.welcome.tunnel or ""))
        if isinstance(met.answer, Opened):
            return Tunnel(met.websocket, met.noise)
        met.websocket.close()
        raise NotReached(met.answer.message if isinstance(met.answer, Refusal) else "the tunnel does not open")

    def store(self, checksum: str, content: bytes) -> None:
        """Have the orchestrator keep big content; returns when it is on its disk. Raises `NotReached`."""
        # Parts carry no number: two contents at once would become one.
        with self._storing:
            self._store(checksum, content)

    def _store(self, checksum: str, content: bytes) -> None:
        with self._answered:
            self._answers.pop(checksum, None)
        for begin in range(0, max(1, len(content)), PART):
            self._send(BlobPart(checksum, content[begin : begin + PART], begin + PART >= len(content)))
        with self._answered:
            self._answered.wait_for(lambda: checksum in self._answers or self._over)
            if checksum not in self._answers:
                raise NotReached("the session ended while content was stored")
            error = self._answers.pop(checksum)
        if error is not None:
            raise NotReached(f"the orchestrator could not store content: {error}")

    def _send(self, message: SessionMessage) -> None:
        try:
            with self._sending:
                self._websocket.send(self._noise.encrypt(messages.pack_session(message)))
        except (ConnectionClosed, OSError) as error:
            raise NotReached(str(error)) from error

    def say_farewell(self) -> None:
        """The worker stops; nothing comes after this."""
        with suppress(NotReached):
            self._send(Farewell())
        self.close()

    def close(self) -> None:
        with suppress(OSError, WebSocketException):
            self._websocket.close()


def session_url(url: str) -> str:
    """The WebSocket address for what a person typed. Raises `Invalid`."""
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError:
        split, port = urlsplit(""), None
    if split.scheme not in ("ws", "wss") or not split.hostname or split.query or split.fragment or split.username:
        raise Invalid(
            f"'{url}' is not the address of an orchestrator"
            if "@" not in url
            else "an address holds no user or password",
            hint="write for example ws://localhost:9090, as `swamp serve` shows it",
        )
    path = messages.SESSION_PATH if split.path in ("", "/") else split.path
    return urlunsplit((split.scheme, f"{bracketed(split.hostname)}:{port or 9090}", path, "", ""))


def join(
    url: str,
    token: str,
    secret: bytes,
    identity: Identity,
    hello: Callable[[], Hello],
    ca_certificate: Path | None = None,
) -> Session:
    """Shake hands and be welcomed. Raises `NotReached`, or `TurnedAway` with a refusal that can be believed: any before
    the first join, afterwards only one said by the pinned orchestrator inside the handshake."""

    meet = partial(_meet, url, token, secret, identity, ca_certificate)
    met = meet(hello)
    answer = met.answer
    try:
        if isinstance(answer, Refusal):
            if answer.code == "try_later":
                raise NotReached(answer.message)
            raise TurnedAway(answer)
        if not isinstance(answer, Welcome):
            raise NotReached("the handshake is not followed by a welcome")
        identity.pin(Orchestrator(met.noise.peer_static, answer.signing_key))
    except BaseException:
        met.websocket.close()
        raise
    # What is sent through a tunnel misses its answer by itself when the network is gone: it needs no pings.
    return Session(met.websocket, met.noise, answer, partial(meet, ping=None), near=met.near)


def _meet(
    url: str,
    token: str,
    secret: bytes,
    identity: Identity,
    ca_certificate: Path | None,
    wanted: Wanted,
    *,
    ping: float | None = PING_SECONDS,
) -> _Met:
    """Raises `NotReached` and `TurnedAway`, as `join`."""
    try:
        with ExitStack() as closing:
            websocket = closing.enter_context(
                connect(
                    session_url(url),
                    ssl=client_context(ca_certificate) if urlsplit(url).scheme == "wss" else None,
                    open_timeout=CONNECT_SECONDS,
                    close_timeout=2,
                    ping_interval=ping,
                    ping_timeout=PING_SECONDS,
                    compression=None,
                    max_size=None,
                    user_agent_header=None,
                    logger=_NO_LOG,
                    proxy=None if is_loopback(urlsplit(url).hostname or "") else True,
                )
            )
            met = _shake_hands(websocket, token, secret, identity, wanted)
            closing.pop_all()  # it stays open
            return met
    except (OSError, WebSocketException, Malformed, HandshakeRefused, MessageRefused) as error:
        raise NotReached(str(error) or type(error).__name__) from error


def _shake_hands(websocket: ClientConnection, token: str, secret: bytes, identity: Identity, wanted: Wanted) -> _Met:
    # Asked before anything is said: of a connection that has ended, with an answer that is still to be read, the system
    # tells nothing any more.
    local = is_loopback(str(websocket.remote_address[0]))
    noise = Initiator(identity.private, secret, messages.prologue(token))
    websocket.send(messages.pack_opening(Opening(messages.PROTOCOL, token, noise.write())))
    reply = messages.unpack_reply(_binary(websocket))
    if isinstance(reply, Refusal):
        if identity.pinned is None and reply.code != "try_later":
            raise TurnedAway(reply)
        raise NotReached(f"refused, without proof that it was the orchestrator: {reply.message}")
    noise.read(reply)
    pinned = identity.pinned
    if pinned is not None and pinned.static != noise.peer_static:
        raise NotReached("what answers is not the orchestrator that this machine joined")
    websocket.send(noise.write(messages.pack_session(wanted())))
    answer = messages.unpack_session(noise.decrypt(_binary(websocket)))
    return _Met(websocket, noise, answer, local)


def _binary(websocket: ClientConnection) -> bytes:
    data = websocket.recv(timeout=CONNECT_SECONDS)
    if isinstance(data, str):
        raise Malformed("a frame of the handshake is text")
    return data

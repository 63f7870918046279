"""A client of Redis for processes that have to stay small: a socket, and hiredis for what goes through it.

A worker sends five commands, and the orchestrator a dozen more. `import redis` would take a third of a worker's memory
for the hundreds of others (its asyncio half, clusters, `importlib.metadata` and `email` come with it); hiredis is what
parses for it anyway.

A client never heals: once the connection is broken, every command says so.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote_to_bytes, urlsplit

import hiredis

from swamp.broker.location import PORT, parse_server
from swamp.broker.patience import BLOCKING_REPLY_TIMEOUT, CONNECT_TIMEOUT, REPLY_TIMEOUT
from swamp.errors import SwampError
from swamp.tls import client_context

Word = bytes | str | int
_PIECE = 64 * 1024  # bytes that are read at once


class RedisTrouble(Exception):
    """The server is away, silent, or does not do what it was asked."""


class NoConnection(RedisTrouble):
    """There is no connection to it, or none any more."""


class Garbled(NoConnection):
    """What is at the other end says something that no server says."""


class Refused(RedisTrouble):
    """It answered with an error."""

    @property
    def code(self) -> str:
        """The first word of the error: `NOPERM`, `WRONGPASS`, `LOADING`, …"""
        return str(self).partition(" ")[0]


class Client:
    """One connection (RESP 2), for one thread at a time; `cut` may be called from any."""

    def __init__(
        self,
        dial: Callable[[], socket.socket],
        username: str | None,
        password: str | None,
        *,
        blocking: bool = False,
        patience: float | None = None,
    ) -> None:
        """`dial` makes the socket; it may raise `OSError`. An answer must come within 5 seconds, or within as many as
        a command may wait on the server, if `blocking`, or within `patience`.

        Raises `RedisTrouble` when the server does not let us in.
        """
        self._reader = hiredis.Reader(protocolError=Garbled, replyError=Refused)
        try:
            self._socket = dial()
        except (OSError, ValueError, SwampError) as error:  # a name that can be none is a UnicodeError
            raise NoConnection(f"no connection: {_why(error)}") from error
        self._socket.settimeout(patience or (BLOCKING_REPLY_TIMEOUT if blocking else REPLY_TIMEOUT))
        try:
            if username or password:  # a user without a password is still not the default user
                self.execute_command("AUTH", *([username] if username else []), password or "")
        except BaseException:
            self.cut()
            raise

    def execute_command(self, *words: Word) -> Any:  # noqa: ANN401 - what a server may answer
        """The answer, texts as bytes. Raises `RedisTrouble`, also for an answer that is an error."""
        (answer,) = self.execute_together([words])
        return answer

    def execute_together(self, commands: list[tuple[Word, ...]]) -> list[Any]:
        """The answers to commands that are sent in one piece. One that waits holds up those behind it.

        Raises `RedisTrouble` for the first that is an error; what the others did is not known then.
        """
        try:
            self._send(commands)
            answers = [self._read() for _ in commands]
        except (OSError, RedisTrouble) as error:
            self.cut()  # an answer that comes late is not taken for that of the next command
            if isinstance(error, RedisTrouble):
                raise
            raise NoConnection("no answer in time" if isinstance(error, TimeoutError) else _why(error)) from error
        for answer in answers:
            if isinstance(answer, RedisTrouble):
                raise answer
        return answers

    def say(self, *words: Word) -> None:
        """Send a command whose answer will be heard."""
        try:
            self._send([words])
        except OSError as error:
            raise NoConnection(str(error)) from error

    def hear(self, seconds: float) -> Any:  # noqa: ANN401 - what a server may say
        """What the server says without being asked, once subscribed; None when it says nothing for so long.

        Raises `RedisTrouble`, also for an error that it says.
        """
        try:
            self._socket.settimeout(seconds)
            heard = self._read()
        except TimeoutError:
            return None
        except OSError as error:
            raise NoConnection(str(error)) from error
        if isinstance(heard, RedisTrouble):
            raise heard
        return heard

    def cut(self) -> None:
        """End the connection at its socket, so that a thread that waits in it comes back."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Raises nothing; not while another thread uses it."""
        self.cut()
        self._socket.close()

    def _send(self, commands: list[tuple[Word, ...]]) -> None:
        self._socket.sendall(b"".join(_packed(command) for command in commands))

    def _read(self) -> Any:  # noqa: ANN401
        while True:
            answer = self._reader.gets()
            if answer is not False:
                return answer
            data = self._socket.recv(_PIECE)
            if not data:
                raise NoConnection("the server has ended the connection")
            self._reader.feed(data)


def dial(url: str, ca_certificate: Path | None = None, patience: float = CONNECT_TIMEOUT) -> socket.socket:
    """A connection to the server at a URL as `swamp.broker.location` describes it; its login is not looked at.

    With `rediss://` the certificate has to bear the host's name, signed by a CA in `ca_certificate` (PEM) or by one of
    the system's. Raises `OSError`, and `Invalid` for a URL that is none.
    """
    location = parse_server(url)
    split = urlsplit(location.url)
    if split.scheme == "unix":
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(patience)
        made.connect(os.fsdecode(unquote_to_bytes(split.path)))
        return made
    host = split.hostname or "localhost"
    made = socket.create_connection((host, split.port or PORT), patience)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if split.scheme == "rediss":
        return client_context(ca_certificate).wrap_socket(made, server_hostname=host)
    return made


def _why(error: Exception) -> str:
    """In the system's words, without its number; TLS has words of its own."""
    if isinstance(error, OSError) and error.strerror and "[SSL" not in str(error):
        return error.strerror
    return str(error)


def _packed(command: tuple[Word, ...]) -> bytes:
    return cast("bytes", hiredis.pack_command(command))  # type: ignore[arg-type]  # its stubs know one word only

"""Counts round trips to Redis: a TCP proxy that notes when a client speaks after the server has."""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

_MACHINE_USER = b"swamp-m-"


@dataclass(slots=True)
class _Connection:
    client: socket.socket
    server: socket.socket
    who: str = ""
    answered: bool = True  #: the server had the last word


class CountingProxy:
    """What a client sends until the server answers is one round trip, be it a command or a pipeline.

    A client is a `worker` if it gives the user name of a Swamp machine first, else `other`.
    """

    def __init__(self) -> None:
        self.trips = {"worker": 0, "other": 0}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._wake, other = socket.socketpair()
        self._selector.register(other, selectors.EVENT_READ)
        self._other = other
        self._thread = threading.Thread(target=self._pump, name="proxy", daemon=True)
        self._connections: dict[socket.socket, _Connection] = {}
        self._server_port = 0

    def listen(self, server_port: int) -> str:
        """Begin, and return the URL that leads through here to the server on `server_port`."""
        self._server_port = server_port
        self._thread.start()
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def __enter__(self) -> CountingProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wake.close()
        if self._thread.is_alive():
            self._thread.join()
        for end in self._connections:
            end.close()
        self._listener.close()
        self._other.close()
        self._selector.close()

    def _pump(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._other:
                    return
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._connections:
                    self._pass_on(key.fileobj)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", self._server_port))
        except OSError:
            client.close()
            return
        connection = _Connection(client, server)
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections[end] = connection
            self._selector.register(end, selectors.EVENT_READ)

    def _pass_on(self, end: socket.socket) -> None:
        connection = self._connections[end]
        try:
            data = end.recv(1 << 20)
            if end is connection.client and data:
                if not connection.who:
                    connection.who = "worker" if _MACHINE_USER in data else "other"
                if connection.answered:
                    connection.answered = False
                    self.trips[connection.who] += 1
                connection.server.sendall(data)
            elif data:
                connection.answered = True
                connection.client.sendall(data)
        except OSError:
            data = b""
        if not data:
            for each in (connection.client, connection.server):
                self._selector.unregister(each)
                del self._connections[each]
                with suppress(OSError):
                    each.close()

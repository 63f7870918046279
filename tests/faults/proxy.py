"""A TCP proxy between a client and a server that can be told to misbehave as networks do."""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
from contextlib import suppress

from tests.processes import free_port

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset


class FaultProxy:
    """Listens on `port` and passes on to `target`. With `tls` its own side is TLS.

    `heal` ends every fault for connections to come. What was half open stays so: such a connection never comes back.
    """

    def __init__(self, target: int, tls: ssl.SSLContext | None = None) -> None:
        self.port = free_port()
        self.target = target
        self.accepted = 0  #: connections that were taken
        self._tls = tls
        self._deaf = False
        self._delay = 0.0
        self._closed = False
        self._connections: list[_Connection] = []
        self._listener: socket.socket | None = None
        self.heal()

    def heal(self) -> None:
        """Take connections and pass everything on."""
        self._deaf, self._delay = False, 0.0
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def half_open(self) -> None:
        """Connections are taken and stay, and nothing passes any more, in neither direction."""
        self._deaf = True
        for connection in self._connections:
            connection.deaf = True

    def slow(self, seconds: float) -> None:
        """Whatever passes, passes that much later."""
        self._delay = seconds

    def cut(self) -> None:
        """End every connection there is, without a word."""
        connections, self._connections = self._connections, []
        for connection in connections:
            connection.reset()

    def refuse(self) -> None:
        """As `cut`, and nobody listens any more."""
        listener, self._listener = self._listener, None
        if listener is not None:
            # A thread that waits in accept would hold the port.
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self.refuse()

    @property
    def delay(self) -> float:
        return self._delay

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        try:
            if self._tls is not None:
                near = self._tls.wrap_socket(near, server_side=True)
            far = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            near.close()
            return
        self.accepted += 1
        connection = _Connection(self, near, far, self._deaf)
        self._connections.append(connection)
        if self._closed:
            connection.reset()
        connection.carry()


class _Connection:
    def __init__(self, proxy: FaultProxy, near: socket.socket, far: socket.socket, deaf: bool) -> None:
        self.deaf = deaf
        self._proxy = proxy
        self._near, self._far = near, far
        self._over = threading.Event()

    def carry(self) -> None:
        """Until one end closes; a connection that is deaf then stays as it is."""
        other = {self._near: self._far, self._far: self._near}
        try:
            while not self._over.is_set():
                waiting = [s for s in other if isinstance(s, ssl.SSLSocket) and s.pending()]
                ready = waiting or select.select(list(other), [], [], 0.1)[0]
                for source in ready:
                    data = source.recv(1 << 16)
                    if not data:
                        if self.deaf:
                            self._over.wait()
                        return
                    if self._proxy.delay:
                        self._over.wait(self._proxy.delay)
                    if not self.deaf:
                        other[source].sendall(data)
        except (OSError, ValueError):
            if self.deaf:
                self._over.wait()
        finally:
            for end in other:
                with suppress(OSError):
                    end.close()

    def reset(self) -> None:
        with suppress(OSError):
            self._near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._over.set()

"""The worker's end of a tunnel: a connection to Redis that goes through a WebSocket to the orchestrator's port.

`near` is a socket like any other, with timeouts of its own; two threads carry its bytes to the WebSocket and back. What
does not get through stays in it, so whoever writes too fast waits.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from swamp.wire import tunnel
from swamp.wire.noise import Initiator, MessageRefused


class Tunnel:
    """Ends when either side of it does, and then takes the other with it."""

    def __init__(self, websocket: ClientConnection, noise: Initiator) -> None:
        """`websocket` has shaken hands, and leads to Redis from now on."""
        self._websocket = websocket
        self._noise = noise
        self.near, self._far = socket.socketpair()
        self._upward = threading.Thread(target=self._carry_up, name="tunnel up", daemon=True)
        self._upward.start()
        threading.Thread(target=self._carry_down, name="tunnel down", daemon=True).start()

    def cut(self) -> None:
        """At the sockets: threads that wait in them come back, and no farewell waits for a network that is gone."""
        for end in (self._far, self._websocket.socket):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _carry_up(self) -> None:
        with suppress(ConnectionClosed, OSError):
            while data := self._far.recv(tunnel.LONGEST):
                self._websocket.send(tunnel.seal(self._noise, data))
        self.cut()

    def _carry_down(self) -> None:
        with suppress(ConnectionClosed, OSError, MessageRefused):
            while True:
                self._far.sendall(tunnel.unseal(self._noise, self._websocket.recv()))
        self.cut()
        self._upward.join()
        self._far.close()

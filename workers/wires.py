"""A worker's connections to Redis, and the way they go: to the server itself, or through the orchestrator's port."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

from swamp.broker.client import Client, RedisTrouble, dial
from swamp.broker.location import shown
from swamp.wire.messages import Welcome
from workers.session import NotReached, Session
from workers.tunnel import Tunnel

_Open = Callable[[bool], Client]  # for a connection that waits, or not


class Wires:
    """Three connections, of which two may wait."""

    def __init__(self, session: Session, ca_certificate: Path | None) -> None:
        """Raises `RedisTrouble` when Redis cannot be reached by any way."""
        self._clients: list[Client] = []
        self._tunnels: list[Tunnel] = []
        self.way = ""  #: for people
        url, tunneled = ways(session.welcome, near=session.near)
        if url is not None:
            try:
                self._open(_directly(url, session.welcome, ca_certificate))
                self.way = shown(url)
                return
            except RedisTrouble:
                if not tunneled:
                    raise
        self._open(self._through(session))
        self.way = "the orchestrator's port"

    @property
    def exchange(self) -> Client:
        return self._clients[0]

    @property
    def claims(self) -> Client:
        return self._clients[1]

    @property
    def down(self) -> Client:
        return self._clients[2]

    def cut(self) -> None:
        """At the sockets, so that threads that wait in them come back."""
        for client in self._clients:
            client.cut()
        for tunnel in self._tunnels:
            tunnel.cut()

    def _open(self, way: _Open) -> None:
        try:
            for waits in (False, True, True):
                self._clients.append(way(waits))
                self._clients[-1].execute_command("PING")
        except BaseException:
            self.cut()
            self._clients.clear()
            raise

    def _through(self, session: Session) -> _Open:
        def through() -> socket.socket:
            try:
                self._tunnels.append(session.tunnel())
            except NotReached as error:
                raise OSError(str(error)) from error
            return self._tunnels[-1].near

        user, password = session.welcome.redis_user, session.welcome.redis_password
        return lambda waits: Client(through, user, password, blocking=waits)


def ways(welcome: Welcome, *, near: bool) -> tuple[str | None, bool]:
    """Where Redis is tried first, if anywhere; and whether the tunnel is taken when that fails.

    An address on the orchestrator's machine is worth a try only where the orchestrator itself seems to be on this
    machine (`near`). It may seem so when it is not, behind a forwarded port: then nobody answers at the address.
    """
    tunneled = welcome.tunnel is not None
    return (welcome.redis_url if near or not tunneled else None), tunneled


def _directly(url: str, welcome: Welcome, ca_certificate: Path | None) -> _Open:
    user, password = welcome.redis_user, welcome.redis_password
    return lambda waits: Client(partial(dial, url, ca_certificate), user, password, blocking=waits)

"""The worker's end of a tunnel, with a real WebSocket and nobody of ours at its other end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from swamp.wire.noise import Responder
from swamp.wire.tunnel import seal, unseal
from tests.waiting import wait_until
from tests.wire.test_noise import joined
from workers.tunnel import Tunnel


@contextmanager
def tunnel(other_end: Callable[[ServerConnection, Responder], None]) -> Iterator[Tunnel]:
    worker, orchestrator = joined()
    with serve(lambda websocket: other_end(websocket, orchestrator), "127.0.0.1", 0, compression=None) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.socket.getsockname()[1]
        with connect(f"ws://127.0.0.1:{port}", compression=None, proxy=None) as websocket:
            one = Tunnel(websocket, worker)
            try:
                yield one
            finally:
                one.cut()
                one.near.close()
                wait_until(lambda: not running(), "the threads of the tunnel to end")
        server.shutdown()


def running() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("tunnel")]


def echo(websocket: ServerConnection, noise: Responder) -> None:
    for frame in websocket:
        websocket.send(seal(noise, unseal(noise, frame)))


def test_megabytes_go_through_both_ways_and_stay_as_they_were() -> None:
    data = bytes(range(256)) * 20_000
    with tunnel(echo) as one:
        threading.Thread(target=one.near.sendall, args=(data,), daemon=True).start()
        one.near.settimeout(10)
        back = bytearray()
        while len(back) < len(data):
            back += one.near.recv(1 << 16)
        arrived = bytes(back) == data
        assert arrived, "five megabytes came back changed"


def test_the_end_of_the_other_side_is_the_end_of_the_connection() -> None:
    with tunnel(lambda websocket, noise: websocket.send(seal(noise, b"bye"))) as one:
        one.near.settimeout(10)
        assert one.near.recv(100) == b"bye"
        assert one.near.recv(100) == b""


def test_a_frame_that_does_not_open_is_the_end_of_the_connection() -> None:
    def sham(websocket: ServerConnection, _noise: Responder) -> None:
        websocket.send(b"+PONG\r\n")
        websocket.recv()

    with tunnel(sham) as one:
        one.near.settimeout(10)
        assert one.near.recv(100) == b""


def test_a_cut_ends_it_though_the_other_side_takes_nothing() -> None:
    """As when the network is frozen: what sends waits in the kernel, holding the WebSocket."""
    over = threading.Event()

    def deaf(_websocket: ServerConnection, _noise: Responder) -> None:
        over.wait(30)

    with tunnel(deaf) as one:
        one.near.settimeout(1)
        try:
            while True:
                one.near.send(bytes(1 << 20))
        except TimeoutError:
            pass
        one.cut()
        wait_until(lambda: not running(), "the threads of the tunnel to end")
        over.set()
        one.near.setblocking(False)
        assert _is_over(one.near)


def _is_over(near: socket.socket) -> bool:
    try:
        return near.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True

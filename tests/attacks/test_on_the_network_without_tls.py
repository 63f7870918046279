"""The attacker sees and changes everything between a worker and an orchestrator that serves without TLS."""

# ruff: noqa: F401, F811 - fixtures of the end-to-end tests
from __future__ import annotations

import hashlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from websockets.sync.server import ServerConnection, serve

from swamp.broker.server_program import find_server
from swamp.wire import messages
from swamp.wire.messages import Refusal
from tests.e2e.apart import Apart, apart
from tests.e2e.conftest import initialized, runtime, stage
from tests.e2e.stage import Stage
from tests.processes import free_port
from tests.waiting import wait_until

_HEX = frozenset(b"0123456789abcdef")


class Wire:
    """A port before the orchestrator's, whose owner keeps all that passes."""

    def __init__(self, port: int) -> None:
        self.seen = bytearray()
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=pair, daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self.seen += data
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


def unmasked(seen: bytes) -> bytes:
    """A WebSocket client's frames are masked, which hides nothing; so what is looked for would have to be looked for
    in every place with the mask before it."""
    out = bytearray()
    for start in range(len(seen) - 6):
        if seen[start] == 0x82 and seen[start + 1] & 0x80:
            size = seen[start + 1] & 0x7F
            head = start + 2
            if size == 126:
                size, head = int.from_bytes(seen[head : head + 2]), head + 2
            elif size == 127:
                size, head = int.from_bytes(seen[head : head + 8]), head + 8
            mask = seen[head : head + 4]
            out += bytes(byte ^ mask[i % 4] for i, byte in enumerate(seen[head + 4 : head + 4 + size]))
    return bytes(out)


@pytest.fixture
def wire(stage: Stage) -> Iterator[Wire]:
    opened = Wire(stage.port)
    yield opened
    opened.close()


def test_a_capture_of_joining_holds_no_token_and_no_password_of_redis(stage: Stage, wire: Wire):
    token = stage.token()
    stage.serve()
    worker = stage.start(
        "worker", "connect", f"ws://127.0.0.1:{wire.port}", "--token", token, "--cache-dir", stage.scratch / "cache"
    )
    worker.wait_for_line("enrolled as node and waiting for work")
    big = "x" * 100_000
    stage.task("big", f"echo {big}-the-payload")  # too long for a queue: travels in the session
    stage.run("big")

    seen = bytes(wire.seen)
    seen += unmasked(seen)
    assert b"node" in seen, "the token's name goes ahead in clear, so the capture can be read"
    secret = token.rpartition(".")[2]
    welcome_words = (b"redisPassword", b"swamp-m-", b"targetKey", b"the-payload", b"xxxxxxxx")
    for hidden in (secret.encode(), bytes.fromhex(secret), *welcome_words):
        assert hidden not in seen, hidden


#: What can only be read where somebody speaks to Redis in clear.
WORDS = (
    b"AUTH",
    b"FCALL",
    b"BLMOVE",
    b"XREAD",
    b"PING",
    b"+OK\r\n",
    b"+PONG\r\n",
    b"swamp1_exchange",
    b"rq:queue:",
    b"swamp-m-",
)
ARGUMENT, OUTPUT = "the-argument-f00d", "the-output-cafe"


def test_a_capture_of_a_tunnel_holds_no_secret_and_no_word_of_redis(apart: Apart):
    stage = apart.stage
    token = stage.token()
    with apart.far.captured() as seen:
        apart.serve()
        worker = apart.worker(token)
        _work(stage)
        worker.stop()
    assert "Redis by the orchestrator's port" in worker.output
    everything = bytes(seen) + unmasked(bytes(seen))
    assert b"node" in everything, "the token's name goes ahead in clear, so the capture can be read"
    assert len(everything) > 200_000
    secret = token.rpartition(".")[2]
    for hidden in (secret.encode(), bytes.fromhex(secret), *WORDS, ARGUMENT.encode(), OUTPUT.encode(), b"yyyyyyyy"):
        assert hidden not in everything, hidden
    assert not passwords(stage, everything)


def test_without_a_tunnel_and_without_tls_a_capture_shows_what_the_warning_says_and_no_more(apart: Apart):
    """`--insecure-redis`: the passwords of Redis can be read on the network, and steps and results stay sealed."""
    stage = apart.stage
    token = stage.token()
    with _open_redis(apart) as url, apart.far.captured() as seen:
        orchestrator = apart.serve("--redis-url", url, "--insecure-redis")
        orchestrator_says = orchestrator.output
        worker = apart.worker(token)
        _work(stage)
        worker.stop()
        orchestrator.stop()
    assert (
        "can learn the passwords of Redis, and with them stop work; steps and results stay sealed" in orchestrator_says
    )
    assert "Redis by redis://" in worker.output
    everything = bytes(seen) + unmasked(bytes(seen))
    assert passwords(stage, everything)
    assert all(word in everything for word in (b"AUTH", b"BLMOVE", b"swamp1_exchange"))
    secret = token.rpartition(".")[2]
    for hidden in (secret.encode(), bytes.fromhex(secret), ARGUMENT.encode(), OUTPUT.encode(), b"yyyyyyyy"):
        assert hidden not in everything, hidden


def _work(stage: Stage) -> None:
    """A step with an argument, an output, and content too big for a queue."""
    stage.task("told", f"echo {ARGUMENT} >/dev/null; echo {OUTPUT} | tr a-z a-z; head -c 100000 /dev/zero | tr '\\0' y")
    done = stage.run("told")
    assert OUTPUT in done.stdout


def passwords(stage: Stage, seen: bytes) -> list[bytes]:
    """Those of the machines' Redis users that can be read in there. Only their hashes are kept anywhere."""
    hashes = {row[0] for row in stage.rows("SELECT redis_password_hash FROM machines")}
    assert hashes != {None}
    found = (seen[at : at + 64] for at in range(len(seen) - 63) if _hexadecimal(seen, at))
    return [word for word in found if hashlib.sha256(word).hexdigest() in hashes]


def _hexadecimal(seen: bytes, at: int) -> bool:
    return seen[at] in _HEX and seen[at + 63] in _HEX and all(byte in _HEX for byte in seen[at : at + 64])


@contextmanager
def _open_redis(apart: Apart) -> Iterator[str]:
    """A server that listens on the orchestrator's machine for others, without TLS."""
    port, password = free_port(), "open-sesame"
    listening = ("--bind", apart.near.address, "--port", str(port), "--requirepass", password)
    server = subprocess.Popen(
        [*apart.near.inside, find_server(), *listening, "--save", "", "--set-proc-title", "no"],
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: apart.reachable(port), "the Redis server to listen")
        yield f"redis://:{password}@{apart.near.address}:{port}/0"
    finally:
        server.terminate()
        server.wait()


def test_a_stranger_in_the_orchestrators_place_does_not_make_a_worker_give_up(stage: Stage):
    """It joined before; now something else answers and says that its token was revoked."""
    token = stage.token()
    orchestrator = stage.serve()
    stage.worker(token).stop()
    orchestrator.stop()
    refusal = messages.pack_clear_refusal(Refusal("revoked", "go home"))
    with _impostor(stage.port, refusal):
        worker = stage.connect(token)
        worker.wait_for_line("cannot join at .*without proof that it was the orchestrator: go home")
        assert worker.running
    stage.serve()
    worker.wait_for_line("enrolled as node and waiting for work", timeout=30)


@contextmanager
def _impostor(port: int, answer: bytes) -> Iterator[None]:
    def handle(websocket: ServerConnection) -> None:
        websocket.recv()
        websocket.send(answer)

    with serve(handle, "127.0.0.1", port, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield
        server.shutdown()
        thread.join()

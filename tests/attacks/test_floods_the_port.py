"""Strangers in a crowd: they open connections and handshakes by the thousand and end none. Whoever belongs here goes on
working, and new machines join."""

# ruff: noqa: F401, F811 - fixtures of the end-to-end tests
from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from swamp.orchestrator import enrollment, web
from swamp.wire import messages
from tests.attacks.frames import announce
from tests.attacks.test_holds_a_token import attempt
from tests.e2e.conftest import initialized, runtime, stage
from tests.e2e.stage import Stage, step
from tests.waiting import wait_until
from workers.session import Session

#: Opens some hundred connections a second and holds the newest 900: silent ones, half of a request, WebSockets that
#: say nothing, and openings under a name that exists and under one that does not.
CROWD = """
import socket, sys, time, msgpack
from collections import deque
port, held, opened = int(sys.argv[1]), deque(maxlen=900), 0
upgrade = (b"GET /worker HTTP/1.1\\r\\nHost: localhost\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
           b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\\r\\nSec-WebSocket-Version: 13\\r\\n\\r\\n")
def frame(name):
    body = msgpack.packb({"protocol": 1, "token": name, "noise": bytes(48)})
    head = bytes((0x82, 0x80 | len(body))) if len(body) < 126 else bytes((0x82, 0xFE)) + len(body).to_bytes(2, "big")
    return head + bytes(4) + body
says = [b"", b"GET /health HTTP/1.1\\r\\nHost: lo", upgrade, upgrade + frame("node"), upgrade + frame("nobody")]
while True:
    time.sleep(0.003)
    try:
        connection = socket.create_connection(("127.0.0.1", port), timeout=5)
        connection.sendall(says[opened % len(says)])
        held.append(connection)
        opened += 1
        if opened % 100 == 0:
            print(opened, flush=True)
    except OSError:
        pass
"""


@pytest.fixture
def crowd(stage: Stage) -> Iterator[Callable[[], Path]]:
    """Lets it come; in the file stands a line for each hundred connections that it has opened."""
    code = [sys.executable, "-u", "-c", CROWD, str(stage.port)]
    told, come = stage.scratch / "crowd", []

    def start() -> Path:
        with told.open("w") as out:
            come.append(subprocess.Popen(code, stdout=out))
        return told

    yield start
    for process in come:
        process.kill()
        process.wait()


def descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def test_a_crowd_of_strangers_keeps_nobody_from_working_or_joining(stage: Stage, crowd: Callable[[], Path]):
    token = stage.token()
    second = stage.token("second")
    orchestrator = stage.serve()
    stage.worker(token)
    stage.model("short", "true")
    stage.workflow("fifty", *(step(f"s{number}", "short", "node") for number in range(50)))
    stage.run("fifty")
    before = descriptors(orchestrator.pid)

    told = crowd()
    wait_until(lambda: told.read_text().count("\n") >= 10, "a thousand strangers to come", timeout=60)
    stage.run("fifty")
    newcomer = stage.connect(second, "second")
    newcomer.wait_for_line("enrolled as second and waiting for work", timeout=60)
    come = told.read_text().count("\n")
    wait_until(lambda: told.read_text().count("\n") >= come + 10, "another thousand to come", timeout=60)
    held = descriptors(orchestrator.pid) - before
    assert held <= enrollment.MOST_STRANGERS + web.MOST_STRANGERS + 100, held
    assert "fault" not in orchestrator.output
    assert "Traceback" not in orchestrator.output


def test_of_a_fleet_of_ten_exactly_ten_of_a_hundred_are_bound(stage: Stage):
    made = stage.json("worker", "token", "create", "node", "--duration", "1h", "--max-enrollments", "10")
    stage.serve()
    gate = threading.Barrier(100)
    with ThreadPoolExecutor(100) as pool:
        joining = pool.map(lambda n: attempt(stage, str(made["token"]), stage.scratch / f"m-{n}", gate), range(100))
        outcomes = list(joining)
    joined = [outcome for outcome in outcomes if isinstance(outcome, Session)]
    for session in joined:
        session.close()
    assert len(joined) == 10
    assert len(stage.rows("SELECT id FROM machines")) == 10
    assert len({session.welcome.worker for session in joined}) == 10


def test_a_stranger_is_read_for_a_few_bytes_only(stage: Stage):
    stage.serve()
    url = f"ws://127.0.0.1:{stage.port}{messages.SESSION_PATH}"
    with connect(url, proxy=None, compression=None) as websocket:
        announce(websocket, (1 << 16) + 1)
        wait_until(lambda: _closed(websocket) == 1009, "the session to be closed as too long")


def test_a_joined_machine_is_read_a_mebibyte_at_a_time(stage: Stage):
    token = stage.token()
    stage.serve()
    session = attempt(stage, token, stage.scratch / "machine", threading.Barrier(1))
    assert isinstance(session, Session)
    announce(session._websocket, (1 << 20) + 1)
    wait_until(lambda: _closed(session._websocket) == 1009, "the session to be closed as too long")
    session.close()


def _closed(websocket: object) -> object:
    with suppress(ConnectionClosed, TimeoutError):  # how it ended is asked next
        websocket.recv(timeout=0.05)  # type: ignore[attr-defined]
    return getattr(websocket, "close_code", None)

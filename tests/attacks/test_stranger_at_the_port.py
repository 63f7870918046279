"""The attacker reaches the orchestrator's port and has no token: by hand, or through a browser of somebody inside."""

# ruff: noqa: F401, F811 - fixtures of the end-to-end tests
from __future__ import annotations

import http.client
import json
import socket
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from swamp.orchestrator.web import REQUEST_SECONDS
from swamp.wire import messages
from tests.attacks.frames import announce
from tests.e2e.conftest import initialized, runtime, stage
from tests.e2e.stage import Stage
from tests.waiting import wait_until

REQUESTS = [
    ("GET", "/api/ping"), ("POST", "/api/runs"), ("GET", "/api/runs/x/events"), ("POST", "/api/runs/x/cancel"),
    ("POST", "/api/tokens/node/changed"), ("POST", "/api/access/changed"), ("GET", "/api/workers"),
    ("GET", "/api/queue"), ("GET", "/api/ready"), ("GET", "/"), ("GET", "/nowhere"), ("GET", "//api/ping"),
    ("GET", "/health/../api/workers"), ("GET", "/api/workers%2f"),
]  # fmt: skip


def ask(stage: Stage, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", stage.port, timeout=30)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"{}")
    finally:
        connection.close()


def secret(stage: Stage) -> str:
    return str(json.loads((stage.root / ".swamp/serve.json").read_text())["secret"])


def test_nothing_is_done_or_told_without_a_token(stage: Stage):
    stage.serve()
    stage.task("hello", "echo hello", target="")
    for method, path in REQUESTS:
        assert ask(stage, method, path, '{"workflow": "hello"}')[0] in (403, 409), path
    for wrong in ("", "Bearer ", "Basic eDp5", "Bearer é", "Bearer " + "x" * 10_000):
        assert ask(stage, "GET", "/api/workers", Authorization=wrong)[0] in (403, 409), wrong
    assert stage.history() == []


def test_many_wrong_secrets_do_not_keep_the_owner_out(stage: Stage):
    """The attacker knows the name of a client token, and shows one wrong secret after the other under it."""
    text = str(stage.json("access", "token", "create", "laptop", "--duration", "1h")["token"])
    stage.serve()
    open_ones = []
    for _ in range(30):
        connection = http.client.HTTPConnection("127.0.0.1", stage.port, timeout=30)
        connection.request("GET", "/api/workers", headers={"Authorization": f"Bearer swamp-client.laptop.{'0' * 64}"})
        open_ones.append(connection)
    try:
        assert ask(stage, "GET", "/api/workers", Authorization=f"Bearer {text}")[0] == 200
        answers = [connection.getresponse().status for connection in open_ones]
    finally:
        for connection in open_ones:
            connection.close()
    assert set(answers) == {403, 409}
    assert answers.count(409) >= 1, "beyond a few, failures are not waited for"


def test_a_page_whose_name_was_made_to_point_here_reads_nothing(stage: Stage):
    stage.serve()
    right = f"Bearer {secret(stage)}"
    for host in ("evil.example", f"evil.example:{stage.port}", "localhost.evil.example", ""):
        status, document = ask(stage, "GET", "/api/workers", Host=host, Authorization=right)
        assert (status, document.get("code")) == (403, "wrong_host"), host
        assert ask(stage, "GET", "/health", Host=host)[0] == 403
    assert ask(stage, "GET", "/api/workers", Host=f"localhost:{stage.port}", Authorization=right)[0] == 200


def test_a_page_of_another_origin_reaches_nothing(stage: Stage):
    stage.serve()
    right = f"Bearer {secret(stage)}"
    url = f"ws://127.0.0.1:{stage.port}{messages.SESSION_PATH}"
    for origin in ("https://evil.example", "null", f"http://localhost:{stage.port}"):
        status, document = ask(stage, "GET", "/api/workers", Origin=origin, Authorization=right)
        assert (status, document.get("code")) == (403, "wrong_origin"), origin
        with pytest.raises(InvalidStatus) as refused:
            connect(url, additional_headers={"Origin": origin}, proxy=None)
        assert refused.value.response.status_code == 403


def test_long_requests_are_not_kept_in_memory(stage: Stage):
    stage.serve()
    right = f"Bearer {secret(stage)}"
    try:
        status, document = ask(stage, "POST", "/api/runs", "x" * (2 << 20), Authorization=right)
    except (BrokenPipeError, ConnectionResetError):
        pass  # answered and hung up while we were still sending: not read to its end either
    else:
        assert (status, document.get("code")) == (422, "too_long")

    with socket.create_connection(("127.0.0.1", stage.port), timeout=30) as stranger:
        stranger.sendall(b"POST /api/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n")
        assert stranger.recv(100).startswith(b"HTTP/1.1 403"), "a stranger is answered before anything is read"

    with connect(f"ws://127.0.0.1:{stage.port}{messages.SESSION_PATH}", proxy=None, compression=None) as websocket:
        announce(websocket, 2 << 20)
        wait_until(lambda: _closed(websocket) == 1009, "the session to be closed as too long")


def test_a_text_where_bytes_belong_is_an_end_and_no_error_of_the_orchestrator(stage: Stage):
    orchestrator = stage.serve()
    with connect(f"ws://127.0.0.1:{stage.port}{messages.SESSION_PATH}", proxy=None, compression=None) as websocket:
        websocket.send("hello")
        wait_until(lambda: _closed(websocket), "the session to be closed")
    assert ask(stage, "GET", "/health")[0] == 200
    assert "Traceback" not in orchestrator.output


def _closed(websocket: Any) -> Any:
    """With what code the other side closed it, if it did."""
    try:
        websocket.recv(timeout=0.05)
    except TimeoutError:
        pass
    except Exception:
        return websocket.close_code
    return None


def test_connections_that_say_nothing_or_drip_are_closed(stage: Stage):
    stage.serve()
    with (
        socket.create_connection(("127.0.0.1", stage.port)) as silent,
        socket.create_connection(("127.0.0.1", stage.port)) as dripping,
    ):
        silent.setblocking(False)
        dripping.setblocking(False)
        dripping.send(b"GET /health HTTP/1.1\r\n")
        drips = iter(f"X-{number}: y\r\n".encode() for number in range(100_000))

        def both_closed() -> bool:
            return _is_closed(silent, b"") and _is_closed(dripping, next(drips))

        wait_until(both_closed, "the orchestrator to give up", timeout=REQUEST_SECONDS * 3)
        assert ask(stage, "GET", "/health")[0] == 200


def _is_closed(connection: socket.socket, more: bytes) -> bool:
    try:
        connection.send(more)
        return connection.recv(1000) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True

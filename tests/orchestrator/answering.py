"""The far side of the client: a real HTTP server that gives the answers that a test writes down."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from swamp.repo import Repo

REPO_ID = "7d0f2a52-0c4c-4b5e-9e0a-6f2f3c1f5a01"
SECRET = "s3cret"


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        # A client may leave as soon as it has what it wants; everything else is a fault of the test.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Orchestrator:
    """An HTTP server that answers as `answers[(method, path)]` says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Callable[[BaseHTTPRequestHandler], None]] = {
            ("GET", "/api/ping"): answer({"repoId": REPO_ID})
        }
        self.asked: list[tuple[str, str, object]] = []
        self.secret = SECRET
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers["Authorization"] != f"Bearer {outer.secret}":
                    answer({"error": "wrong secret", "code": "unauthorized", "exitCode": 4}, 401)(self)
                    return
                outer.asked.append((self.command, self.path, json.loads(content) if content else None))
                outer.answers.get((self.command, self.path), answer({"detail": "Not Found"}, 404))(self)

            do_GET = do_POST = do

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def answer(document: object, status: int = 200) -> Callable[[BaseHTTPRequestHandler], None]:
    return raw(json.dumps(document).encode(), status)


def raw(content: bytes, status: int = 200) -> Callable[[BaseHTTPRequestHandler], None]:
    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return write


def stream(*chunks: bytes, ended: bool = True) -> Callable[[BaseHTTPRequestHandler], None]:
    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for chunk in chunks:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        if ended:
            handler.wfile.write(b"0\r\n\r\n")
        else:
            handler.close_connection = True

    return write


def announce(repo: Repo, url: str) -> None:
    repo.serve_info.write_text(
        json.dumps({"url": url, "secret": SECRET, "pid": 1, "repoId": REPO_ID, "startedAt": "2026-06-15T10:00:00.000Z"})
    )

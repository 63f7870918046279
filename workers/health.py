"""`--health-port`: tells others on this machine, over HTTP, whether the worker lives and whether it takes work.

`GET /health` and `GET /ready` answer 200, or 503 with a reason. Nothing that they say is a secret, and nothing can be
changed there; it listens on loopback only.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from swamp.errors import Busy

Answer = Callable[[], str | None]
"""The reason why not, None if there is none."""


class HealthServer:
    """Answers from the time it is made until `close`. `health` and `ready` are called from threads of its own."""

    def __init__(self, port: int, health: Answer, ready: Answer) -> None:
        """`port` 0 takes any free one. Raises `Busy` if the port is taken."""
        answers = {"/health": ("alive", health), "/ready": ("ready", ready)}
        try:
            self._server = _Server(("127.0.0.1", port), _handler(answers))
        except OSError as error:
            raise Busy(
                f"port {port} cannot be used: {error.strerror or error}",
                hint="stop what listens there, or choose another port with --health-port",
                code="port_in_use",
            ) from error
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Who asks may leave before the answer."""


def _handler(answers: Mapping[str, tuple[str, Answer]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5.0  # seconds that a silent connection is borne

        def do_GET(self) -> None:
            found = answers.get(self.path)
            if found is None:
                self._say(404, {"error": "there is only /health and /ready here"})
                return
            state, why_not = found
            reason = why_not()
            if reason is None:
                self._say(200, {"status": state})
            else:
                self._say(503, {"status": f"not {state}", "reason": reason})

        def _say(self, status: int, document: Mapping[str, str]) -> None:
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nobody wants a line for every look."""

    return Handler

"""How commands reach a running orchestrator: a small HTTP client.

Those of its repository find it by `.swamp/serve.json` (mode 0600): `url`, `secret`, `certificate`, `pid`, `repoId`,
`startedAt`. Those elsewhere are told its address and have a client token. Every request carries
`Authorization: Bearer <secret or token>`. Bodies are JSON:

    GET  /api/ping                      {repoId}; anything else is not this repository's orchestrator
    POST /api/runs                      {workflow or probe, run?, timeout?} -> the run's events, one JSON object a line
    GET  /api/runs/<id>/events?after=N  the events from number N + 1 on, and those still to come (not with &follow=0)
    POST /api/runs/<id>/cancel          {canceled, run, workflowName, owner, previousStatus}; false: it was not running
    POST /api/tokens/<name>/changed     {}; answered after the orchestrator acted on the change
    POST /api/access/changed            {}; a client token was revoked
    GET  /api/workers                   {workers: [WorkerDocument]}
    POST /api/workers/drained           {}; who takes no new steps has changed on disk
    GET  /api/queue?limit=N             {waiting: [WaitingDocument], total}
    GET  /api/ready                     {reason}; null: work can flow

A refusal has a status from 400 on and the body {error, code, hint, exitCode}; it is raised as the `SwampError` it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypedDict, cast
from urllib.parse import quote, urlsplit

from swamp.addresses import bracketed, crosses_the_network
from swamp.errors import Failed, Invalid, NotAllowed, SwampError, Unreachable
from swamp.repo import Repo
from swamp.tls import client_context, pinning_context
from swamp.workflows.events import Event

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

# http.client (and ssl and email behind it) is imported where a request is made: most commands find no orchestrator.

PING_SECONDS = 5.0
ANSWER_SECONDS = 30.0
_READ_BYTES = 256 * 1024

_DECODER = json.JSONDecoder()

_RESTART = "look at its terminal, or start it again with: swamp serve"


class WorkerDocument(TypedDict):
    """A worker as `GET /api/workers` and `swamp worker list --json` show it."""

    name: str
    target: str
    machine: str
    status: str  #: for example `connected` or `disconnected`
    slotsUsed: int
    slotsTotal: int
    platform: str
    lastSeenAt: str | None
    running: list[str]  #: what its slots are busy with
    drainedAt: str | None  #: since when it takes no new steps
    note: str  #: why not


class WaitingDocument(TypedDict):
    """A step that waits for a worker."""

    target: str
    dispatch: str
    run: str
    workflow: str  #: empty for a probe
    job: str
    step: str
    since: str
    why: str


class QueueDocument(TypedDict):
    """What `GET /api/queue` answers."""

    waiting: list[WaitingDocument]
    total: int  #: those that are left out included


class CancelDocument(TypedDict):
    """The answer to `POST /api/runs/<id>/cancel`."""

    canceled: bool  #: false: it was not running, or is driven by a command
    run: str
    workflowName: str
    owner: str  #: who drives it: `serve` or `command`
    previousStatus: str


@dataclass(frozen=True)
class Client:
    """A running orchestrator, as a command sees it."""

    url: str
    secret: str = field(repr=False)
    certificate: str | None = None
    """SHA-256 of the only certificate that is taken for the orchestrator's, with `https://`. None: a CA decides."""
    ca_certificate: Path | None = None
    """With `https://` and no `certificate`: whom to believe. None: the system's CAs."""
    restart: str = _RESTART
    """What to do when it does not answer."""

    def run(self, body: Mapping[str, object]) -> Generator[Event, None, None]:
        """Start a run and follow it to its end.

        Raises what the orchestrator refuses the run with, at once; `Unreachable` when it goes away before the run
        has ended (the run itself may go on).
        """
        return self._stream("POST", "/api/runs", body)

    def events(self, run_id: str, after: int = 0) -> Generator[Event, None, None]:
        """The run's events from number `after` + 1 on, to its end. Raises as `run` does."""
        return self._stream("GET", f"/api/runs/{quote(run_id, safe='')}/events?after={after}")

    def events_so_far(self, run_id: str) -> Generator[Event, None, None]:
        """The run's events up to now. Raises as `run` does."""
        path = f"/api/runs/{quote(run_id, safe='')}/events?after=0&follow=0"
        return self._events(*self._request("GET", path, None, None), follow=False)

    def cancel(self, run_id: str) -> CancelDocument:
        """Ask for the end of the run; its events tell when it has ended. Raises `NotFound`, `Unreachable`."""
        path = f"/api/runs/{quote(run_id, safe='')}/cancel"
        answer = self._ask("POST", path, {})
        if not isinstance(answer, dict):
            raise self._not_understood(path)
        return cast("CancelDocument", answer)

    def token_changed(self, name: str) -> None:
        """Have the orchestrator act on a token that was revoked or made again. Raises `Unreachable`."""
        self._ask("POST", f"/api/tokens/{quote(name, safe='')}/changed", {})

    def access_changed(self) -> None:
        """Have the orchestrator act on a client token that was revoked. Raises `Unreachable`."""
        self._ask("POST", "/api/access/changed", {})

    def workers(self) -> list[WorkerDocument]:
        """Every worker that the orchestrator knows. Raises `Unreachable`."""
        answer = self._ask("GET", "/api/workers")
        if not isinstance(answer, dict) or not isinstance(answer.get("workers"), list):
            raise self._not_understood("/api/workers")
        return cast("list[WorkerDocument]", answer["workers"])

    def drained_changed(self) -> None:
        """Have the orchestrator act on a `drain` or `resume` that is on disk. Raises `Unreachable`."""
        self._ask("POST", "/api/workers/drained", {})

    def queue(self, limit: int) -> QueueDocument:
        """What waits for workers, the first `limit` of each target. Raises `Unreachable`."""
        answer = self._ask("GET", f"/api/queue?limit={limit}")
        if not isinstance(answer, dict) or not isinstance(answer.get("waiting"), list):
            raise self._not_understood("/api/queue")
        return cast("QueueDocument", answer)

    def why_not_ready(self) -> str | None:
        """The part that keeps work from flowing, None if it flows. Raises `Unreachable`."""
        answer = self._ask("GET", "/api/ready")
        if not isinstance(answer, dict) or "reason" not in answer:
            raise self._not_understood("/api/ready")
        return cast("str | None", answer["reason"])

    def is_at_home(self, repo_id: str) -> bool:
        """Whether this repository's orchestrator answers, not nobody and not another one that took over the port.

        Raises `Unreachable` if something there takes the connection and then says nothing.
        """
        try:
            answer = self._ask("GET", "/api/ping", timeout=PING_SECONDS)
        except _NobodyThere:
            return False
        except Unreachable:
            raise
        except SwampError:
            return False  # another orchestrator refuses our secret, another program knows no /api/ping
        return isinstance(answer, dict) and answer.get("repoId") == repo_id

    def _ask(
        self, method: str, path: str, body: Mapping[str, object] | None = None, timeout: float = ANSWER_SECONDS
    ) -> object:
        from http.client import HTTPException

        connection, response = self._request(method, path, body, timeout)
        try:
            content = response.read()
        except (OSError, HTTPException) as error:
            raise self._gone("stopped answering") from error
        finally:
            connection.close()
        try:
            return json.loads(content)
        except ValueError as error:
            raise self._not_understood(path) from error

    def _stream(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Generator[Event, None, None]:
        # A run may be silent for hours, so the stream waits without a limit: a process that ends closes its sockets.
        connection, response = self._request(method, path, body, None)
        return self._events(connection, response)

    def _events(
        self, connection: HTTPConnection, response: HTTPResponse, *, follow: bool = True
    ) -> Generator[Event, None, None]:
        from http.client import HTTPException

        run_id = ""
        rest = b""
        try:
            while True:
                try:
                    # Many events come in one chunk; read1 hands them over together, and never waits for more.
                    received = response.read1(_READ_BYTES)
                except (OSError, HTTPException) as error:
                    raise self._lost(run_id) from error
                if not received and not follow and not rest:
                    return
                if not received:
                    raise self._lost(run_id)
                *lines, rest = (rest + received).split(b"\n")
                for line in lines:
                    if not line:
                        continue
                    event = self._event(line)
                    run_id = str(event.get("run", run_id))
                    yield event
                    if event.get("kind") == "run-finished":
                        return
        finally:
            connection.close()

    def _event(self, line: bytes) -> Event:
        try:
            # Without what `json.loads` does to find out in which of five encodings it is.
            text = line.decode()
            event, end = _DECODER.raw_decode(text)
            if end != len(text):
                raise ValueError("more than one value in a line")
        except ValueError as error:
            raise self._not_understood("the run's events") from error
        if not isinstance(event, dict):
            raise self._not_understood("the run's events")
        return event

    def _request(
        self, method: str, path: str, body: Mapping[str, object] | None, timeout: float | None
    ) -> tuple[HTTPConnection, HTTPResponse]:
        from http.client import HTTPException

        connection = self._connection(timeout)
        headers = {"Authorization": f"Bearer {self.secret}"}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = json.dumps(body).encode()
        try:
            connection.connect()
            self._check_certificate(connection)
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            if response.status >= 400:
                self._refused(path, response)
        except BaseException as error:
            connection.close()
            if type(error).__name__ == "SSLCertVerificationError":  # not imported, for the start's sake
                raise Unreachable(
                    f"the certificate of {self.url} is not believed: {getattr(error, 'verify_message', '')}",
                    hint="name the CA that signed it with --ca-cert, and the orchestrator as the certificate does",
                    code="bad_certificate",
                ) from error
            if isinstance(error, ConnectionRefusedError):
                raise _NobodyThere(f"no orchestrator answers at {self.url}", hint=self.restart) from error
            if isinstance(error, TimeoutError):
                raise self._gone(f"did not answer within {timeout:.0f} seconds") from error
            if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
                raise self._gone(f"cannot be reached: {error.strerror or error}") from error
            if isinstance(error, (OSError, HTTPException)):
                raise self._gone("closed the connection") from error
            raise
        return connection, response

    def _connection(self, timeout: float | None) -> HTTPConnection:
        from http.client import HTTPConnection, HTTPSConnection

        address = urlsplit(self.url)
        host, port = address.hostname or "", address.port
        if address.scheme == "http":
            return HTTPConnection(host, port, timeout=timeout)
        context = pinning_context() if self.certificate is not None else client_context(self.ca_certificate)
        return HTTPSConnection(host, port, timeout=timeout, context=context)

    def _check_certificate(self, connection: HTTPConnection) -> None:
        """Before anything is said: the certificate is the one that the orchestrator wrote down, if it did, whatever its
        name is and whoever signed it."""
        if self.certificate is None:
            return
        shown = getattr(connection.sock, "getpeercert", lambda _binary: None)(True)
        if shown is not None and hashlib.sha256(shown).hexdigest() != self.certificate:
            raise NotAllowed(
                f"what answers at {self.url} shows another certificate than this repository's orchestrator",
                hint=self.restart,
                code="bad_certificate",
            )

    def _refused(self, path: str, response: HTTPResponse) -> NoReturn:
        try:
            document = json.loads(response.read())
        except ValueError:
            document = None
        if isinstance(document, dict) and isinstance(document.get("error"), str):
            raise _as_error(document)
        raise Failed(
            f"the orchestrator at {self.url} answered '{response.status} {response.reason}' to {path}",
            hint=self.restart,
        )

    def _gone(self, what: str) -> Unreachable:
        return Unreachable(f"the orchestrator at {self.url} {what}", hint=self.restart)

    def _lost(self, run_id: str) -> Unreachable:
        what = f"run {run_id}" if run_id else "the run"
        return Unreachable(
            f"lost the orchestrator at {self.url} before {what} had ended",
            hint=f"{self.restart}\nthen see: swamp workflow logs -f {run_id or '<workflow>'}",
            code="connection_lost",
        )

    def _not_understood(self, path: str) -> Failed:
        return Failed(
            f"the orchestrator at {self.url} gave an answer to {path} that is not understood", hint=self.restart
        )


class _NobodyThere(Unreachable):
    """Nothing listens at the address."""


def find(repo: Repo) -> Client | None:
    """The repository's running orchestrator; None if none runs (also when one crashed and left its file behind).

    Raises `Unreachable` if it runs but does not answer, `NotAllowed` if the file is another user's, `Invalid` if the
    file is damaged.
    """
    try:
        content = repo.serve_info.read_bytes()
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise NotAllowed(
            f"{repo.serve_info} belongs to another user",
            hint="run this as the user who started: swamp serve",
        ) from error
    try:
        info = json.loads(content)
        url = _checked_url(str(info["url"]))
        # Without its fingerprint no certificate is right.
        client = Client(url, str(info["secret"]), str(info.get("certificate", "")))
        repo_id = str(info["repoId"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Invalid(
            f"{repo.serve_info} does not say where the orchestrator is",
            hint="if no orchestrator runs, remove the file; else stop it and start it again with: swamp serve",
        ) from error
    return client if client.is_at_home(repo_id) else None


def remote(url: str, token: str, ca_certificate: Path | None) -> Client:
    """The orchestrator at an address that a person typed. Raises `Invalid`, `NotAllowed` for one that would show the
    token to the network."""
    try:
        address = urlsplit(url)
        port = address.port
    except ValueError:
        address, port = urlsplit(""), None
    if "@" in url or address.query or address.fragment:
        # Not repeated: it may hold a secret.
        raise Invalid(
            "the server's address holds a user, a password or a token",
            hint="write for example https://swamp.example:9090, and give the token with --server-token-file or "
            "SWAMP_SERVER_TOKEN",
            code="secret_in_url",
        )
    if address.scheme not in ("http", "https") or not address.hostname or address.path not in ("", "/"):
        meant = {"ws": "http", "wss": "https"}.get(address.scheme)
        raise Invalid(
            f"'{url}' is not the address of an orchestrator",
            hint=f"write {meant}://{address.netloc}" if meant else "write for example https://swamp.example:9090",
        )
    url = f"{address.scheme}://{bracketed(address.hostname)}:{port or 9090}"
    if crosses_the_network(url):
        raise NotAllowed(
            f"{url} is on another machine, and without TLS the token would be shown to the network",
            hint="use https:// (swamp serve --cert-file <file> --key-file <file>), or an SSH tunnel:\n"
            f"ssh -N -L 9090:localhost:{port or 9090} {address.hostname}   and --server http://localhost:9090",
            code="insecure_server",
        )
    if ca_certificate is not None:
        client_context(ca_certificate)
    return Client(
        url, token, ca_certificate=ca_certificate, restart="check the address, and that the orchestrator runs there"
    )


def _checked_url(url: str) -> str:
    address = urlsplit(url)
    if address.scheme not in ("http", "https") or not address.hostname or address.port is None:
        raise ValueError("not an address with a port")
    return url


def _as_error(document: Mapping[str, object]) -> SwampError:
    """The error that the other side had, as the class it was there (or the nearest that a reader can tell)."""
    code, exit_code, hint = document.get("code"), document.get("exitCode"), document.get("hint")
    classes = SwampError.__subclasses__()
    kind = next((kind for kind in classes if kind.default_code == code), None)
    if kind is None or kind.exit_code != exit_code:
        kind = next((kind for kind in classes if kind.exit_code == exit_code), SwampError)
    return kind(
        str(document["error"]),
        hint=hint if isinstance(hint, str) else None,
        code=code if isinstance(code, str) else None,
    )

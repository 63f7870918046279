"""`swamp serve`: starts everything in order, keeps it going, and stops it in the opposite order."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import logging
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import uvicorn

from swamp import marker
from swamp.addresses import bracketed
from swamp.broker.acl import (
    MONITOR_USER,
    OPERATOR_USER,
    ORCHESTRATOR_USER,
    AclUser,
    monitor_rules,
    operator_rules,
    orchestrator_rules,
    password_hash,
)
from swamp.broker.connection import check_server, reach, shown
from swamp.broker.embedded import EmbeddedRedis, runtime_directory
from swamp.clock import iso, utc_now
from swamp.data.store import Store
from swamp.errors import Busy, Invalid, Unreachable
from swamp.files import make_private_dir, write_atomically
from swamp.orchestrator.app import App, Watchers
from swamp.orchestrator.core import Core
from swamp.orchestrator.exposure import check_binding, check_redis
from swamp.orchestrator.keys import OrchestratorKeys, load_or_create_keys
from swamp.orchestrator.transport import BellListener, RedisAddress, Transport
from swamp.repo import Repo
from swamp.tls import client_context, fingerprint, server_context

if TYPE_CHECKING:
    import ssl

log = logging.getLogger("swamp.orchestrator")

#: Seconds that open requests get when the orchestrator stops; what they watch goes on without them.
FAREWELL = 1


@dataclass(frozen=True)
class ServeOptions:
    host: str
    port: int
    redis_url: str | None = None  #: None: an embedded server
    worker_redis_url: str | None = None  #: None: workers use the same one
    redis_ca_certificate: Path | None = None
    insecure_redis: bool = False
    certificate: Path | None = None  #: None: without TLS
    key: Path | None = None  #: None: in the file of the certificate
    insecure_bind: bool = False


def serve(repo: Repo, options: ServeOptions, environ: Mapping[str, str]) -> None:
    """Run the orchestrator until SIGINT or SIGTERM.

    Raises `Busy` where another one has the repository or the port, `Unreachable` where Redis does not answer,
    `Invalid` for a server or an address that Swamp cannot use, `NotAllowed` for what would leave the machine
    unprotected.
    """
    costs = [
        check_binding(options.host, tls=options.certificate is not None, insecure=options.insecure_bind),
        check_redis(options.redis_url, options.worker_redis_url, insecure=options.insecure_redis),
    ]
    tls = server_context(options.certificate, options.key) if options.certificate is not None else None
    with ExitStack() as stack:
        stack.enter_context(_only_one(repo))
        for cost in filter(None, costs):
            log.warning("%s", cost)
        listener = stack.enter_context(_listening(options.host, options.port))
        store = Store.open(repo.database, repo.blobs, create=True)
        stack.callback(store.close)
        keys = load_or_create_keys(repo, secrets.token_bytes)
        server = RedisServer(repo, options, keys, environ)
        stack.callback(server.stop)
        server.start()
        door = Door(listener, tls, fingerprint(options.certificate) if options.certificate is not None else None)
        asyncio.run(_serve(repo, store, keys, server, door, environ))


@dataclass(frozen=True)
class Door:
    """Where the orchestrator listens."""

    listener: socket.socket
    tls: ssl.SSLContext | None
    fingerprint: str | None  #: of the certificate, by which the repository's own commands know it

    @property
    def address(self) -> str:
        host, port = self.listener.getsockname()[:2]
        return f"{bracketed(host)}:{port}"

    @property
    def near_url(self) -> str:
        """For commands on this machine."""
        host, port = self.listener.getsockname()[:2]
        near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not listened on
        return f"{'https' if self.tls else 'http'}://{bracketed(near)}:{port}"

    def announcement(self) -> dict[str, object]:
        return {"url": self.near_url, **({"certificate": self.fingerprint} if self.fingerprint else {})}


async def _serve(
    repo: Repo,
    store: Store,
    keys: OrchestratorKeys,
    server: RedisServer,
    door: Door,
    environ: Mapping[str, str],
) -> None:
    secret = secrets.token_hex(32)
    repo_id = marker.read(repo).repo_id
    watchers = Watchers()
    core = Core(
        repo, store, keys, Transport(server.address, server.revive), environ, secrets.token_hex(8), watchers.notify
    )
    bell = BellListener(server.address, core.ring)
    app = App(core, watchers, secret, repo_id)
    web = _WebServer(app.asgi, door.tls)
    told = asyncio.Event()
    core.start()
    bell.start()
    with _heeding_signals(told, core.hurry):
        try:
            async with web.running(door.listener):
                facts = {**door.announcement(), "secret": secret, "repoId": repo_id, **server.announcement()}
                with _announced(repo, facts):
                    log.info(
                        "listening on %s://%s (repository %s)", "wss" if door.tls else "ws", door.address, repo.root
                    )
                    log.info("Redis: %s", server.description())
                    await told.wait()
                    log.info("stopping")
                    watchers.end()
        finally:
            bell.stop()
            await asyncio.to_thread(core.stop)
            log.info("stopped")


# ---------------------------------------------------------------------- Redis


class RedisServer:
    """The Redis that this orchestrator uses: one of its own, or the one it was given."""

    def __init__(self, repo: Repo, options: ServeOptions, keys: OrchestratorKeys, environ: Mapping[str, str]) -> None:
        self._repo = repo
        self._url = options.redis_url
        self._worker_url = options.worker_redis_url
        self._ca_certificate = options.redis_ca_certificate
        self._keys = keys
        self._run_dir = runtime_directory(environ)
        self._embedded: EmbeddedRedis | None = None

    def start(self) -> None:
        if self._url is not None:
            if self._ca_certificate is not None:
                client_context(self._ca_certificate)  # says what is wrong with the file better than redis-py
            client = reach(self._url, ca_certificate=self._ca_certificate)
            try:
                check_server(client, self._url)
                for user in self._tool_users():
                    client.execute_command(*user.set_user)
            finally:
                client.close()
        else:
            orchestrator = AclUser(
                ORCHESTRATOR_USER, tuple(orchestrator_rules(password_hash(self._keys.redis_orchestrator)))
            )
            users = [orchestrator, *self._tool_users()]
            self._embedded = EmbeddedRedis.start(self._repo.redis, self._run_dir, users)

    def revive(self) -> None:
        """Start the embedded server again if it has ended. Raises `Unreachable` or `Busy`."""
        if self._embedded is not None and not self._embedded.running:
            log.error("the embedded Redis server has ended; starting it again (its log: %s)", self._embedded.log_path)
            self._embedded.stop()
            self.start()

    def stop(self) -> None:
        if self._embedded is not None:
            self._embedded.stop()

    def address(self) -> RedisAddress:
        if self._embedded is not None:
            url = f"redis://127.0.0.1:{self._embedded.port}/0"
            return RedisAddress(url, url, ORCHESTRATOR_USER, self._keys.redis_orchestrator, self._embedded.socket_path)
        url = self._url or ""
        return RedisAddress(url, _without_credentials(self._worker_url or url), ca_certificate=self._ca_certificate)

    def announcement(self) -> dict[str, object]:
        """What `swamp redis url` needs; passwords are in the key file."""
        return {"redisUrl": _without_credentials(self.address().url)}

    def description(self) -> str:
        if self._embedded is not None:
            return f"embedded server, port {self._embedded.port} (for tools: swamp redis url)"
        return shown(self._url or "")

    def _tool_users(self) -> list[AclUser]:
        return [
            AclUser(MONITOR_USER, tuple(monitor_rules(password_hash(self._keys.redis_monitor)))),
            AclUser(OPERATOR_USER, tuple(operator_rules(password_hash(self._keys.redis_operator)))),
        ]


def _without_credentials(url: str) -> str:
    """Options go too: among them may be a password, and they are the orchestrator's own."""
    split = urlsplit(url)
    return urlunsplit((split.scheme, split.netloc.rpartition("@")[2], split.path, "", ""))


# ---------------------------------------------------------------------- one of it, on one port


@contextmanager
def _only_one(repo: Repo) -> Iterator[None]:
    make_private_dir(repo.state)
    descriptor = os.open(repo.serve_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            raise Busy(
                f"an orchestrator already serves {repo.root}" + (f" (process {pid})" if pid else ""),
                hint="use that one, or stop it with Ctrl-C in its terminal",
                code="already_serving",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        found = {entry[0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise Invalid(
            f"no address is known for '{host}', so the orchestrator cannot listen there",
            hint="name an address of this machine with --host, or 0.0.0.0 for all of them",
        ) from error
    family = socket.AF_INET if socket.AF_INET in found else socket.AF_INET6
    try:
        listener = socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise Invalid(
                f"'{host}' is no address of this machine, so the orchestrator cannot listen there",
                hint="name one that is with --host, or 0.0.0.0 for all of them",
            ) from error
        raise Busy(
            f"port {port} on {host} cannot be used: {error.strerror or error}",
            hint="stop what listens there, or choose another port with --port",
            code="port_in_use",
        ) from error
    with listener:
        yield listener


@contextmanager
def _announced(repo: Repo, facts: dict[str, object]) -> Iterator[None]:
    """While this runs, the repository's commands find the orchestrator."""
    document = {**facts, "pid": os.getpid(), "startedAt": iso(utc_now())}
    write_atomically(repo.serve_info, (json.dumps(document, indent=2) + "\n").encode(), mode=0o600)
    try:
        yield
    finally:
        Path(repo.serve_info).unlink(missing_ok=True)


@contextmanager
def _heeding_signals(told: asyncio.Event, insist: Callable[[], None]) -> Iterator[None]:
    """The first signal asks for the end, every further one insists."""
    loop = asyncio.get_running_loop()

    def heed() -> None:
        if told.is_set():
            insist()
        told.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, heed)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


class _WebServer(uvicorn.Server):
    """Uvicorn without its own ideas about signals."""

    def __init__(self, app: object, tls: ssl.SSLContext | None) -> None:
        super().__init__(
            uvicorn.Config(
                app,  # type: ignore[arg-type]
                lifespan="off",
                log_config=None,
                log_level=logging.WARNING,
                access_log=False,
                ws="websockets-sansio",
                ws_per_message_deflate=False,
                timeout_graceful_shutdown=FAREWELL,
                server_header=False,
            )
        )
        self.config.load()
        self.config.ssl = tls

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    @asynccontextmanager
    async def running(self, listener: socket.socket) -> AsyncIterator[None]:
        serving = asyncio.create_task(self.serve(sockets=[listener]))
        try:
            while not self.started:
                if serving.done():
                    await serving
                    raise Unreachable("the web server did not start")
                await asyncio.sleep(0.001)
            yield
        finally:
            self.should_exit = True
            await serving

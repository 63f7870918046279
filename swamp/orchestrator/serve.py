"""`swamp serve`: starts everything in order, keeps it going, and stops it in the opposite order."""

from __future__ import annotations

import asyncio
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
from urllib.parse import urlsplit, urlunsplit

import uvicorn

from swamp import marker
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
from swamp.orchestrator.keys import OrchestratorKeys, load_or_create_keys
from swamp.orchestrator.transport import BellListener, RedisAddress, Transport
from swamp.repo import Repo

log = logging.getLogger("swamp.orchestrator")

#: Seconds that open requests get when the orchestrator stops; what they watch goes on without them.
FAREWELL = 1


@dataclass(frozen=True)
class ServeOptions:
    host: str
    port: int
    redis_url: str | None  #: None: an embedded server


def serve(repo: Repo, options: ServeOptions, environ: Mapping[str, str]) -> None:
    """Run the orchestrator until SIGINT or SIGTERM.

    Raises `Busy` where another one has the repository or the port, `Unreachable` where Redis does not answer,
    `Invalid` for a server or an address that Swamp cannot use.
    """
    _check_host(options.host)
    with ExitStack() as stack:
        stack.enter_context(_only_one(repo))
        listener = stack.enter_context(_listening(options.host, options.port))
        store = Store.open(repo.database, repo.blobs, create=True)
        stack.callback(store.close)
        keys = load_or_create_keys(repo, secrets.token_bytes)
        server = RedisServer(repo, options.redis_url, keys, environ)
        stack.callback(server.stop)
        server.start()
        asyncio.run(_serve(repo, store, keys, server, listener, environ))


async def _serve(
    repo: Repo,
    store: Store,
    keys: OrchestratorKeys,
    server: RedisServer,
    listener: socket.socket,
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
    host, port = listener.getsockname()[:2]
    web = _WebServer(app.asgi)
    told = asyncio.Event()
    core.start()
    bell.start()
    with _heeding_signals(told, core.hurry):
        try:
            async with web.running(listener):
                url = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"  # noqa: S104
                with _announced(repo, {"url": url, "secret": secret, "repoId": repo_id, **server.announcement()}):
                    log.info("listening on ws://%s:%d (repository %s)", host, port, repo.root)
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

    def __init__(self, repo: Repo, url: str | None, keys: OrchestratorKeys, environ: Mapping[str, str]) -> None:
        self._repo = repo
        self._url = url
        self._keys = keys
        self._run_dir = runtime_directory(environ)
        self._embedded: EmbeddedRedis | None = None

    def start(self) -> None:
        if self._url is not None:
            client = reach(self._url)
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
        split = urlsplit(url)
        return RedisAddress(url, urlunsplit(split._replace(netloc=split.netloc.rpartition("@")[2])))

    def announcement(self) -> dict[str, object]:
        """What `swamp redis url` needs; passwords are in the key file."""
        return {"redisUrl": self.address().worker_url}

    def description(self) -> str:
        if self._embedded is not None:
            return f"embedded server, port {self._embedded.port} (for tools: swamp redis url)"
        return shown(self._url or "")

    def _tool_users(self) -> list[AclUser]:
        return [
            AclUser(MONITOR_USER, tuple(monitor_rules(password_hash(self._keys.redis_monitor)))),
            AclUser(OPERATOR_USER, tuple(operator_rules(password_hash(self._keys.redis_operator)))),
        ]


# ---------------------------------------------------------------------- one of it, on one port


def _check_host(host: str) -> None:
    if host not in ("127.0.0.1", "localhost", "::1"):
        raise Invalid(
            f"the orchestrator cannot listen on '{host}' yet: only on this machine",
            hint="use --host 127.0.0.1",
            code="host_not_loopback",
        )


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
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
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

    def __init__(self, app: object) -> None:
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

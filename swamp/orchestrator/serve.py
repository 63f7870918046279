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
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from swamp import marker
from swamp.addresses import bracketed, is_loopback
from swamp.clock import iso_now
from swamp.data.store import Store
from swamp.errors import Busy, Invalid
from swamp.files import make_private_dir, write_atomically
from swamp.interpreter import give_memory_back, settle_in
from swamp.models.environment import step_environment
from swamp.orchestrator.app import App, Watchers
from swamp.orchestrator.core import Core
from swamp.orchestrator.descriptors import make_room
from swamp.orchestrator.exposure import SHARED_COSTS, check_binding, check_redis
from swamp.orchestrator.gate import Gate, Reception
from swamp.orchestrator.keys import OrchestratorKeys, load_or_create_keys
from swamp.orchestrator.redis_server import RedisOptions, RedisServer
from swamp.orchestrator.slowness import Slowness
from swamp.orchestrator.transport import BellListener, RedisAddress, Transport
from swamp.orchestrator.web import WebServer
from swamp.repo import Repo
from swamp.tls import fingerprint, names_of, server_context

if TYPE_CHECKING:
    import ssl

log = logging.getLogger("swamp.orchestrator")


@dataclass(frozen=True)
class ServeOptions:
    host: str
    port: int
    redis: RedisOptions
    certificate: Path | None = None  #: None: without TLS
    key: Path | None = None  #: None: in the file of the certificate
    insecure_bind: bool = False
    remote_only: bool = False  #: no step runs on this machine
    allowed_hosts: tuple[str, ...] = ()  #: names, besides its own, by which commands may ask for it


def serve(repo: Repo, options: ServeOptions, environ: Mapping[str, str]) -> None:
    """Run the orchestrator until SIGINT or SIGTERM.

    Raises `Busy` where another one has the repository or the port, `Unreachable` where Redis lets nobody in, `Invalid`
    for a server or an address that Swamp cannot use, `NotAllowed` for what would leave the machine unprotected. A Redis
    that is away is waited for.
    """
    costs = [
        check_binding(options.host, tls=options.certificate is not None, insecure=options.insecure_bind),
        check_redis(options.redis.url, options.redis.worker_url, insecure=options.redis.insecure),
        f"workers use the account of the orchestrator in Redis: {SHARED_COSTS}" if options.redis.shared_user else None,
    ]
    give_memory_back()
    settle_in()
    make_room()
    tls = server_context(options.certificate, options.key) if options.certificate is not None else None
    with ExitStack() as stack:
        stack.enter_context(_only_one(repo))
        for cost in filter(None, costs):
            log.warning("%s", cost)
        listener = stack.enter_context(_listening(options.host, options.port))
        store = Store.open(repo.database, repo.blobs, create=True)
        stack.callback(store.close)
        keys = load_or_create_keys(repo, secrets.token_bytes)
        server = RedisServer(repo, options.redis, keys, environ)
        stack.callback(server.stop)
        address = server.start()
        environment = step_environment(environ, options.redis.secrets)
        names = {options.host, *options.allowed_hosts}
        if options.certificate is None:
            door = Door(listener, None, None, frozenset(names))
        else:
            names.update(names_of(options.certificate))
            door = Door(listener, tls, fingerprint(options.certificate), frozenset(names))
        asyncio.run(_serve(repo, store, keys, server, address, door, environment, options))


@dataclass(frozen=True)
class Door:
    """Where the orchestrator listens."""

    listener: socket.socket
    tls: ssl.SSLContext | None
    fingerprint: str | None  #: of the certificate, by which the repository's own commands know it
    names: frozenset[str]  #: by which it may be asked for

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
    address: RedisAddress | None,
    door: Door,
    environment: Mapping[str, str],
    options: ServeOptions,
) -> None:
    secret = secrets.token_hex(32)
    repo_id = marker.read(repo).repo_id
    watchers = Watchers()
    announcement = _Announcement(repo, {**door.announcement(), "secret": secret, "repoId": repo_id})

    def connected(where: RedisAddress) -> None:
        announcement.say(server.announcement(where))

    transport = Transport(server.owner, server.locate, connected)
    boot = secrets.token_hex(8)
    core = Core(repo, store, keys, transport, environment, boot, watchers.notify, remote_only=options.remote_only)
    bell = BellListener(transport, core.ring)
    slowness = Slowness()
    reception = Reception(store, secret, slowness)
    app = App(core, watchers, reception, slowness, repo_id)
    # Where the port is open to other machines the figures are for those who have a token.
    open_paths = {"/metrics"} if is_loopback(str(door.listener.getsockname()[0])) else ()
    gate = Gate(app.asgi, reception, door.names, open_paths)
    web = WebServer(gate, door.tls)
    told = asyncio.Event()
    core.start()
    bell.start()
    with _heeding_signals(told, core.hurry):
        try:
            async with web.running(door.listener):
                with announcement.standing(server.announcement(address)):
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


class _Announcement:
    """By which the repository's commands find the orchestrator, and Redis. May be used from any thread."""

    def __init__(self, repo: Repo, facts: dict[str, object]) -> None:
        self._path = Path(repo.serve_info)
        self._facts = {**facts, "pid": os.getpid(), "startedAt": iso_now()}
        self._stands = False
        self._lock = threading.Lock()

    def say(self, facts: dict[str, object]) -> None:
        """These hold from now on."""
        with self._lock:
            before, self._facts = self._facts, {**self._facts, **facts}
            if self._stands and self._facts != before:
                try:
                    self._write()
                except OSError as error:
                    log.error("%s cannot be written: %s; commands may not find Redis", self._path, error)

    @contextmanager
    def standing(self, facts: dict[str, object]) -> Iterator[None]:
        """It can be read while this runs."""
        with self._lock:
            self._facts = {**facts, **self._facts}  # what was said meanwhile is newer
            self._write()
            self._stands = True
        try:
            yield
        finally:
            with self._lock:
                self._stands = False
                self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        write_atomically(self._path, (json.dumps(self._facts, indent=2) + "\n").encode(), mode=0o600)


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

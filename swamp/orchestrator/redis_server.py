"""The Redis that this orchestrator uses: a server of its own, one that it was given, or one behind Sentinels."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from swamp.broker.client import NoConnection, RedisTrouble, Refused
from swamp.broker.connection import is_away, unreachable
from swamp.broker.embedded import EmbeddedRedis, runtime_directory
from swamp.broker.location import Location, Watched, of_socket, parse, parse_server, shown
from swamp.broker.sentinel import find_master
from swamp.errors import NotAllowed
from swamp.orchestrator.exposure import SHARED_COSTS, check_redis
from swamp.orchestrator.keys import OrchestratorKeys
from swamp.orchestrator.transport import Owner, RedisAddress
from swamp.repo import Repo
from swamp.tls import client_context
from swamp.wire.envelope import machine_id_of

log = logging.getLogger("swamp.orchestrator")


@dataclass(frozen=True)
class RedisOptions:
    url: str | None = None  #: None: an embedded server
    ca_certificate: Path | None = None  #: for `rediss://`; None: the system's
    worker_url: str | None = None  #: where workers find it, if elsewhere
    insecure: bool = False  #: may be on another machine without TLS
    shared_user: bool = False  #: everybody uses the account of `url`, because it may make no users

    @property
    def secrets(self) -> list[str]:
        """What no step may see, and no list of processes may show."""
        urls = [url for url in (self.url, self.worker_url) if url]
        passwords = [url.partition("://")[2].rpartition("@")[0].partition(":")[2] for url in urls]
        return [*urls, *filter(None, passwords)]


class RedisServer:
    """Raises `Invalid` for options that cannot be meant, `NotFound` for a file that is not there."""

    def __init__(self, repo: Repo, options: RedisOptions, keys: OrchestratorKeys, environ: Mapping[str, str]) -> None:
        self._repo = repo
        self._options = options
        self._keys = keys
        self._run_dir = runtime_directory(environ)
        self._embedded: EmbeddedRedis | None = None
        self._lock = threading.Lock()  # it is started again from another thread than it is stopped from
        self._stopped = False
        self._where = None if options.url is None else parse(options.url)
        self._worker_url = None if options.worker_url is None else parse_server(options.worker_url).url
        self._ca_certificate = options.ca_certificate
        if options.ca_certificate is not None:
            client_context(options.ca_certificate)  # says what is wrong with the file

    @property
    def owner(self) -> Owner:
        public = self._keys.static.public_key().public_bytes_raw()
        shared = self._options.shared_user
        tools = () if shared else tuple(self._tool_users())
        return Owner(machine_id_of(public), str(self._repo.root), tools, shared=shared)

    def start(self) -> RedisAddress | None:
        """Where it is, as far as that is known: nobody need answer there yet. What can be seen to be wrong is refused.

        Raises `Unreachable` for an answer that lets nobody in, or an embedded server that does not start, `Invalid`
        when Swamp cannot work on the server, and `NotAllowed` when it may not.
        """
        if self._where is None:
            return self._locate_embedded(self._start_embedded())
        address = None
        try:
            address = self.locate()
            with closing(address.open()) as client:
                self.owner.check(client, address)
                self.owner.prepare(client)
        except RedisTrouble as error:
            if isinstance(error, Refused) and error.code == "NOPERM":
                raise self._may_not(error) from error
            problem = unreachable(self._options.url or "", error)
            if not is_away(error):
                raise problem from error
            text = "%s; waiting for it, and until it is there no step starts on a worker (%s)"
            log.warning(text, problem.message, problem.hint)
        return address

    def _may_not(self, error: Refused) -> NotAllowed:
        where = f"Redis at {shown(self._options.url or '')}"
        return NotAllowed(
            f"{where} does not let this user do what the orchestrator has to: {error}",
            hint="give it all rights: ACL SETUSER <user> ~* &* +@all\n"
            f"or, if it may only make no users, say that you accept it: --shared-redis-user   ({SHARED_COSTS})",
            code="redis_rights",
        )

    def _start_embedded(self) -> EmbeddedRedis:
        rules = orchestrator_rules(password_hash(self._keys.redis_orchestrator))
        users = [AclUser(ORCHESTRATOR_USER, tuple(rules)), *self._tool_users()]
        self._embedded = EmbeddedRedis.start(self._repo.redis, self._run_dir, users)
        if self._embedded.damage:
            text = "the embedded Redis server could not read its data, and begins without (they are kept as %s): %s"
            log.error(text, self._embedded.data_dir / "appendonlydir.damaged", self._embedded.damage)
        return self._embedded

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._embedded is not None:
                self._embedded.stop()

    def locate(self) -> RedisAddress:
        """Where it is now; an embedded server that has ended is started again. Raises what `start` raises, and
        `NoConnection` when no Sentinel knows. May take seconds; from any thread."""
        if self._embedded is not None:
            return self._locate_embedded(self._embedded)
        location = self._where
        if isinstance(location, Watched):
            location = find_master(location, self._ca_certificate)
            check_redis(location.url, None, insecure=self._options.insecure)
        if location is None:
            raise NoConnection("the embedded server was not started")
        return RedisAddress(location, self._worker_url or location.url, self._ca_certificate)

    def _locate_embedded(self, embedded: EmbeddedRedis) -> RedisAddress:
        with self._lock:
            if self._stopped:
                raise NoConnection("the embedded server was stopped")
            if not embedded.running:
                log.error("the embedded Redis server has ended; starting it again (its log: %s)", embedded.log_path)
                embedded.stop()
                embedded = self._start_embedded()
        url = f"redis://127.0.0.1:{embedded.port}/0"
        location = Location(of_socket(embedded.socket_path).url, ORCHESTRATOR_USER, self._keys.redis_orchestrator)
        return RedisAddress(location, url, socket=str(embedded.socket_path))

    def announcement(self, address: RedisAddress | None) -> dict[str, Any]:
        """What `swamp redis url` needs; passwords are in the key file."""
        tool_url = None if address is None else address.worker_url if address.own else address.location.url
        ca_file = self._ca_certificate
        return {
            "redisUrl": tool_url,
            "redisCaCert": str(ca_file.resolve()) if ca_file is not None else None,
            "redisUsers": not self._options.shared_user,
        }

    def description(self) -> str:
        if self._embedded is not None:
            return f"embedded server, port {self._embedded.port} (for tools: swamp redis url)"
        return shown(self._options.url or "")

    def _tool_users(self) -> list[AclUser]:
        return [
            AclUser(MONITOR_USER, tuple(monitor_rules(password_hash(self._keys.redis_monitor)))),
            AclUser(OPERATOR_USER, tuple(operator_rules(password_hash(self._keys.redis_operator)))),
        ]

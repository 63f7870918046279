"""How every connection to Redis is made, so that timeouts, retries and greetings are decided once.

redis-py changed its defaults between versions (8.0 gave reads a timeout of 5 s, which ends every longer blocking read,
and turned retries on). Everything that matters is therefore said here, for 5.2 up to 8.x.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.retry import Retry

from swamp.broker.location import Location, of_socket, parse_server, shown
from swamp.broker.patience import CONNECT_TIMEOUT, REPLY_TIMEOUT
from swamp.errors import Invalid, Unreachable

OLDEST_SERVER = (7, 0)  # read/write key permissions and function libraries begin here

# Newer versions greet with `driver_info`, older ones with `lib_name`. A worker's user may not send that greeting.
_QUIET: dict[str, Any] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(AbstractConnection.__init__).parameters
    else {"lib_name": None, "lib_version": None}
)


@dataclass(frozen=True)
class Server:
    """What a Redis server says about itself."""

    name: str
    """`redis` or `valkey`."""
    version: str
    run_id: str
    """New at every start of the server."""
    replication_id: str
    """New whenever the data set was emptied by a restart or taken over by another server."""


def settings(*, patience: float, tls: bool, ca_certificate: Path | None) -> dict[str, Any]:
    """What every connection has in common; an answer must come within `patience` seconds.

    With TLS the server's certificate has to bear the host's name, signed by a CA in `ca_certificate` (PEM) or by one of
    the system's.
    """
    common: dict[str, Any] = {
        "single_connection_client": True,
        "socket_timeout": patience,
        "socket_connect_timeout": min(CONNECT_TIMEOUT, patience),
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "protocol": 2,
        **_QUIET,
    }
    if tls:
        # Before redis-py 6.0 names were not checked unless one asked for it.
        common.update(ssl=True, ssl_cert_reqs="required", ssl_check_hostname=True)
        if ca_certificate is not None:
            common.update(ssl_ca_certs=str(ca_certificate))
    return common


def connect(
    where: str | Location,
    *,
    username: str | None = None,
    password: str | None = None,
    unix_socket: Path | None = None,
    ca_certificate: Path | None = None,
) -> redis.Redis:
    """A client that owns one connection, opened now; after an error the next command opens it anew.

    `where` is a location, or a URL of one server, as `swamp.broker.location` describes it; with `unix_socket` it is not
    looked at. The user and password in it are used unless `username` or `password` is given. `ca_certificate`: see
    `settings`. Not for commands that wait: an answer must come within 5 s. A command is never repeated on its own,
    because only the caller knows whether doing it twice is harmless.

    A pipeline of this client uses a second connection of its own, with the same settings.

    Raises `Invalid` for a URL that is none, and redis-py's `ConnectionError`, `TimeoutError` or `AuthenticationError`
    when the server does not let us in: callers try again, or tell people what `unreachable` makes of it.
    """
    if unix_socket is not None:
        location = of_socket(unix_socket)
    else:
        location = parse_server(where) if isinstance(where, str) else where
    login = (username, password) if username or password else (location.username, location.password)
    scheme = location.url.partition(":")[0]
    chosen = settings(
        patience=REPLY_TIMEOUT,
        tls=scheme == "rediss",
        ca_certificate=ca_certificate,
    )
    chosen.pop("ssl", None)  # the URL says it
    if scheme != "unix":
        chosen["socket_keepalive"] = True
    client: redis.Redis = redis.Redis.from_url(location.url, username=login[0], password=login[1], **chosen)
    return client


class NoSuchService(redis.ConnectionError):
    """Sentinels answer, and none of them watches the service."""


def is_away(error: redis.RedisError) -> bool:
    """Whether the server may be there later. No login and no certificate becomes right by waiting, and who answers
    something else is no such server."""
    refused = (redis.AuthenticationError, redis.exceptions.AuthorizationError, NoSuchService)
    absent = isinstance(error, (redis.ConnectionError, redis.TimeoutError))
    return absent and not isinstance(error, refused) and "[SSL" not in str(error)


def unreachable(url: str, error: redis.RedisError) -> Unreachable:
    """What a person is told about a server that did not let us in."""
    where = f"Redis at {shown(url)}"
    if isinstance(error, redis.AuthenticationError):
        return Unreachable(f"{where} refuses the login: {error}", hint="check the user name and password in the URL")
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return Unreachable(
            f"{where} shows a certificate that cannot be trusted: {error}",
            hint="name the CA that signed it with --redis-ca-cert, and the host as the certificate names it",
        )
    return Unreachable(f"{where} does not answer: {error}", hint="check the address, and that the server runs")


def check_server(client: redis.Redis, url: str) -> Server:
    """Asks the server what it is. Raises `Invalid` when Swamp cannot keep its promises on it."""
    facts = {str(name): str(value) for name, value in client.info().items()}
    version = facts.get("redis_version", "0")
    where = f"Redis at {shown(url)}"
    if facts.get("redis_mode") == "cluster" or facts.get("cluster_enabled") == "1":
        raise Invalid(
            f"{where} is a cluster, and RQ does not run on one", hint="use a standalone server, or one behind Sentinel"
        )
    if version_tuple(version) < OLDEST_SERVER:
        raise Invalid(f"{where} has version {version}", hint="use Redis 7.0 or newer, or Valkey 7.2 or newer")
    if facts.get("role", "master") != "master":
        raise Invalid(
            f"{where} is a replica, and can only be read",
            hint="name its master, or the Sentinels: redis+sentinel://host:26379/service",
            code="redis_replica",
        )
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise Invalid(
            f"{where} throws keys away when memory is short (maxmemory-policy {policy})",
            hint="set it with: redis-cli CONFIG SET maxmemory-policy noeviction",
        )
    return Server(
        name=facts.get("server_name", "redis"),
        version=facts.get("valkey_version", version),
        run_id=facts.get("run_id", ""),
        replication_id=facts.get("master_replid", ""),
    )


def version_tuple(text: str) -> tuple[int, int]:
    """`(7, 2)` for `7.2.4`; `(0, 0)` for what is no version."""
    major, _, rest = text.partition(".")
    minor = rest.partition(".")[0]
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else (0, 0)

"""How every connection to Redis is made, so that timeouts, retries and greetings are decided once.

redis-py changed its defaults between versions (8.0 gave reads a timeout of 5 s, which ends every longer blocking read,
and turned retries on). Everything that matters is therefore said here, for 5.2 up to 8.x.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.retry import Retry

from swamp.errors import Invalid, Unreachable

CONNECT_TIMEOUT = 5.0  # seconds until a server that does not answer counts as away
REPLY_TIMEOUT = 5.0  # seconds for any command that does not block
LONGEST_BLOCK = 20.0  # seconds: no caller may ask a blocking command to wait longer than this
BLOCKING_REPLY_TIMEOUT = LONGEST_BLOCK + 10.0  # a half-open connection is noticed even in a blocking read
OLDEST_SERVER = (7, 0)  # read/write key permissions and function libraries begin here

# Newer versions greet with `driver_info`, older ones with `lib_name`. A worker's user may not send that greeting.
_QUIET: dict[str, object] = (
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


def connect(
    url: str,
    *,
    username: str | None = None,
    password: str | None = None,
    unix_socket: Path | None = None,
    ca_certificate: Path | None = None,
    blocking: bool = False,
) -> redis.Redis:
    """A client that owns one connection, opened now; after an error the next command opens it anew.

    `url` is `redis://`, `rediss://` or `unix://`; what it says about user and password is used unless `username` or
    `password` is given. With `unix_socket` the URL is not looked at. With `rediss://` the server's certificate has to
    bear the host's name, signed by a CA in `ca_certificate` (PEM) or by one of the system's. Take `blocking=True` for a
    connection that waits in `BLMOVE` or `XREAD BLOCK` (at most `LONGEST_BLOCK` seconds): any other answer must come
    within 5 s. A command is never repeated on its own, because only the caller knows whether doing it twice is
    harmless.

    A pipeline of this client uses a second connection of its own, with the same settings.

    Raises `Invalid` for a URL that is none, and redis-py's `ConnectionError`, `TimeoutError` or `AuthenticationError`
    when the server does not let us in: callers that may wait try again, others go through `reach`.
    """
    settings: dict[str, object] = {
        "single_connection_client": True,
        "socket_timeout": BLOCKING_REPLY_TIMEOUT if blocking else REPLY_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "protocol": 2,
        **_QUIET,
    }
    if unix_socket is None and not url.startswith("unix://"):
        settings["socket_keepalive"] = True
    if unix_socket is not None:
        url = f"unix://{unix_socket}"
    try:
        split = urlsplit(url)
        if split.scheme not in ("redis", "rediss", "unix"):
            raise ValueError(url)
        if username is not None or password is not None:
            # redis-py lets the URL win over arguments.
            split = split._replace(netloc=split.netloc.rpartition("@")[2])
            settings.update(username=username, password=password)
        if split.scheme == "rediss":
            settings.update(ssl_check_hostname=True)  # before 6.0 it was off unless said
            if ca_certificate is not None:
                settings.update(ssl_ca_certs=str(ca_certificate))
        client: redis.Redis = redis.Redis.from_url(urlunsplit(split) if split.netloc else url, **settings)
    except (ValueError, TypeError) as error:
        raise Invalid(
            f"'{shown(url)}' is not a Redis URL", hint="write for example redis://user:password@host:6379/0"
        ) from error
    return client


def reach(
    url: str, *, username: str | None = None, password: str | None = None, ca_certificate: Path | None = None
) -> redis.Redis:
    """`connect` for a person who waits at the terminal: raises `Unreachable`, saying which server and why."""
    try:
        client = connect(url, username=username, password=password, ca_certificate=ca_certificate)
        client.ping()
    except redis.AuthenticationError as error:
        raise Unreachable(
            f"Redis at {shown(url)} refuses the login: {error}", hint="check the user name and password in the URL"
        ) from error
    except redis.RedisError as error:
        raise Unreachable(
            f"Redis at {shown(url)} does not answer: {error}", hint="check the address, and that the server runs"
        ) from error
    return client


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


def shown(url: str) -> str:
    """The URL as a person may see it: without user, password and options."""
    try:
        split = urlsplit(url)
        return urlunsplit((split.scheme, split.netloc.rpartition("@")[2], split.path, "", ""))
    except ValueError:
        return "the given URL"

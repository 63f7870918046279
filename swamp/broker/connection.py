"""The orchestrator's connections to Redis, and what it finds out about a server."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from swamp.broker.client import Client, Garbled, NoConnection, RedisTrouble, Refused, dial
from swamp.broker.functions import Speaks
from swamp.broker.location import Location, shown
from swamp.errors import Invalid, Unreachable

OLDEST_SERVER = (7, 0)  # read/write key permissions and function libraries begin here


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


def connect(location: Location, ca_certificate: Path | None = None) -> Client:
    """For commands that do not wait. With `rediss://` the server's certificate has to bear the host's name, signed by a
    CA in `ca_certificate` (PEM) or by one of the system's.

    Raises `RedisTrouble` when the server does not let us in: callers try again, or tell people what `unreachable` makes
    of it.
    """
    return Client(partial(dial, location.url, ca_certificate), location.username, location.password)


class NoSuchService(NoConnection):
    """Sentinels answer, and none of them watches the service."""


def is_away(error: RedisTrouble) -> bool:
    """Whether the server may be there later. No login and no certificate becomes right by waiting, and who answers
    something else is no such server."""
    if isinstance(error, Refused):
        return error.code in _NOT_YET or "max number of clients" in str(error)
    return not isinstance(error, (NoSuchService, Garbled)) and "[SSL" not in str(error)


_NOT_YET = ("LOADING", "MASTERDOWN")
_STRANGERS = ("NOAUTH", "WRONGPASS")


def unreachable(url: str, error: RedisTrouble) -> Unreachable:
    """What a person is told about a server that did not let us in."""
    where = f"Redis at {shown(url)}"
    if isinstance(error, Refused) and (error.code in _STRANGERS or (error.code == "ERR" and "AUTH" in str(error))):
        return Unreachable(f"{where} refuses the login: {error}", hint="check the user name and password in the URL")
    if isinstance(error, Garbled):
        return Unreachable(f"{where} speaks another language than Redis: {error}", hint="check the address")
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return Unreachable(
            f"{where} shows a certificate that cannot be trusted: {error}",
            hint="name the CA that signed it with --redis-ca-cert, and the host as the certificate names it",
        )
    return Unreachable(f"{where} does not answer: {error}", hint="check the address, and that the server runs")


def facts_of(info: bytes) -> dict[str, str]:
    """What the answer to `INFO` says."""
    lines = info.decode(errors="replace").splitlines()
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}


def check_server(client: Speaks, url: str) -> Server:
    """Asks the server what it is. Raises `Invalid` when Swamp cannot keep its promises on it."""
    facts = facts_of(cast("bytes", client.execute_command("INFO")))
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

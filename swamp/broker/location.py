"""Where Redis is, as a person writes it: one server, or a service whose master Sentinels know.

    redis://[user:password@]host[:6379][/0]           one server
    rediss://…                                        the same over TLS
    unix://[user:password@]/path/to/socket            the same on this machine
    redis+sentinel://[user:password@]host[:26379][,host[:26379]…]/service[/0][?sentinel_username=…&sentinel_password=…]
    rediss+sentinel://…                               the same over TLS, Sentinels and servers alike

User and password are those of the servers; Sentinels have their own. No other option is taken: with redis-py, by which
RQ's tools go, options of a URL win over all else, and one of them turns the check of certificates off. Only database 0
is taken, because users, functions and channels belong to a whole server, and because RQ's tools look there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from swamp.errors import Invalid

PORT, SENTINEL_PORT = 6379, 26379

_EXAMPLES = (
    "write for example redis://user:password@host:6379/0, rediss://… for TLS, unix:///path/to/socket, or "
    "redis+sentinel://host:26379,host:26379/service"
)


@dataclass(frozen=True)
class Location:
    """One server."""

    url: str
    """`redis://host:port/0`, `rediss://host:port/0` or `unix:///path`: without user and password."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Watched:
    """A master that moves between servers; `sentinels` know where it is."""

    sentinels: tuple[tuple[str, int], ...]
    service: str
    tls: bool
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)

    def at(self, host: str, port: int) -> Location:
        """The service when its master is there."""
        return Location(f"redis{'s' * self.tls}://{_netloc(host, port)}/0", self.username, self.password)


def parse(text: str) -> Location | Watched:
    """Raises `Invalid`, which repeats no password."""
    try:
        scheme, separator, rest = text.partition("://")
        if not separator:
            raise ValueError("it does not begin with redis://")
        scheme = scheme.lower()
        if scheme in ("redis", "rediss"):
            return _server(scheme, rest)
        if scheme == "unix":
            return _socket(rest)
        if scheme in ("redis+sentinel", "rediss+sentinel"):
            return _watched(scheme, rest)
        raise ValueError(f"nothing is known of {scheme}://")
    except ValueError as error:
        raise Invalid(f"'{shown(text)}' is not a Redis URL: {error}", hint=_EXAMPLES) from error


def parse_server(text: str) -> Location:
    """As `parse`, for what has to be one server."""
    location = parse(text)
    if isinstance(location, Watched):
        raise Invalid(f"'{shown(text)}' names Sentinels where one server is wanted", hint="write redis://host:6379/0")
    return location


def shown(text: str) -> str:
    """The URL as a person may see it: without user, password and options."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        return text if "@" not in text and "?" not in text else "the given URL"
    rest = rest.partition("?")[0]
    authority, slash, path = rest.partition("/")
    # A password may hold a slash that nobody encoded.
    if "@" in path:
        authority, slash, path = rest.rpartition("@")[2].partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


def _server(scheme: str, rest: str) -> Location:
    split = urlsplit(f"//{rest}")
    if split.query or split.fragment:
        raise ValueError("it holds options, and none is taken (--redis-ca-cert names a private CA)")
    if not split.hostname:
        raise ValueError("it names no host")
    _only_database_0(split.path)
    login = _login(split.netloc)
    return Location(f"{scheme}://{_netloc(split.hostname, _port(split, PORT))}/0", *login)


def _socket(rest: str) -> Location:
    authority, _, path = rest.partition("/")
    path, _, query = path.partition("?")
    if query and query != "db=0":
        raise ValueError("it holds options, and none is taken")
    if not path or (authority and not authority.endswith("@")):
        raise ValueError("a socket's path begins with /")
    return Location(f"unix:///{path}", *_login(authority))


def _watched(scheme: str, rest: str) -> Watched:
    authority, _, path = rest.partition("/")
    path, _, query = path.partition("?")
    service, _, database = path.partition("/")
    _only_database_0(database)
    if not service:
        raise ValueError("it names no service behind the Sentinels, as in …/mymaster")
    options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True)) if query else {}
    if not options.keys() <= {"sentinel_username", "sentinel_password"}:
        raise ValueError("of options only sentinel_username and sentinel_password are taken")
    sentinels = []
    for part in authority.rpartition("@")[2].split(","):
        split = urlsplit(f"//{part}")
        if not split.hostname:
            raise ValueError("the name of a Sentinel is missing")
        sentinels.append((split.hostname, _port(split, SENTINEL_PORT)))
    return Watched(
        tuple(sentinels),
        unquote(service),
        scheme == "rediss+sentinel",
        *_login(authority),
        options.get("sentinel_username"),
        options.get("sentinel_password"),
    )


def _port(split: SplitResult, default: int) -> int:
    try:
        return split.port or default
    except ValueError:
        # What stands there may be a piece of a password.
        raise ValueError("its port is not a number up to 65535") from None


def _only_database_0(path: str) -> None:
    if path.strip("/") not in ("", "0"):
        raise ValueError("Swamp takes database 0 only, on a server of its own")


def _login(netloc: str) -> tuple[str | None, str | None]:
    username, _, password = netloc.rpartition("@")[0].partition(":")
    return unquote(username) or None, unquote(password) or None


def _netloc(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def of_socket(path: Path) -> Location:
    """The server behind a unix socket."""
    return Location(f"unix://{quote(os.fsencode(path))}")

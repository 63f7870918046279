"""What an orchestrator lets out of its machine unprotected: decisions, without effects."""

from __future__ import annotations

from urllib.parse import urlsplit

from swamp.addresses import crosses_the_network, is_loopback
from swamp.broker.location import Watched, parse, shown
from swamp.errors import NotAllowed, Usage

BIND_COSTS = (
    "whoever is on the network sees which tokens join, and how much travels when; joining, steps and results stay "
    "sealed. `swamp --server` from other machines is not protected, and refuses to send its token"
)
REDIS_COSTS = (
    "whoever is on the network can learn the passwords of Redis, and with them stop work; steps and results stay sealed"
)

SHARED_COSTS = (
    "nothing in Redis confines a worker: each can take steps of other targets, stop all work, and write what "
    "monitoring tools load; who is revoked keeps the password. Steps and results stay sealed and signed"
)


def check_binding(host: str, *, tls: bool, insecure: bool) -> str | None:
    """Whether the orchestrator may listen on `host`; what that costs, if anything. Raises `NotAllowed`."""
    if is_loopback(host) or tls:
        return None
    if not insecure:
        raise NotAllowed(
            f"'{host}' can be reached from other machines, and without TLS this is not protected",
            hint="give a certificate: --cert-file <file> --key-file <file>\n"
            f"or say that you accept it: --insecure-bind   ({BIND_COSTS})",
            code="insecure_bind",
        )
    return f"listening on '{host}' without TLS: {BIND_COSTS}"


def check_redis(url: str | None, worker_url: str | None, *, insecure: bool) -> str | None:
    """Whether the orchestrator and its workers may use Redis at these URLs; what that costs, if anything.

    Raises `NotAllowed`, `Invalid` for a URL that is none, and `Usage` for one that workers cannot be told.
    """
    if worker_url is not None:
        if url is None:
            raise Usage(
                "--worker-redis-url needs --redis-url",
                hint="name the server with --redis-url too, or leave both out: workers reach the embedded one "
                "through the orchestrator's port",
            )
        _check_told(worker_url)
    for given, who in ((url, "the orchestrator"), (worker_url, "workers")):
        if given is None or not any(map(crosses_the_network, _addresses(given))):
            continue
        if not insecure:
            raise NotAllowed(
                f"Redis at {shown(given)} is on another machine, and {who} would speak to it without TLS",
                hint=f"use rediss://\nor say that you accept it: --insecure-redis   ({REDIS_COSTS})",
                code="insecure_redis",
            )
        return f"Redis at {shown(given)} is used without TLS: {REDIS_COSTS}"
    return None


def _addresses(url: str) -> list[str]:
    """What is connected to, at first: of a service its Sentinels, which then tell where the server is."""
    location = parse(url)
    return [location.at(*sentinel).url for sentinel in location.sentinels] if isinstance(location, Watched) else [url]


def _check_told(url: str) -> None:
    try:
        split = urlsplit(url)
        good = split.scheme in ("redis", "rediss") and bool(split.hostname) and split.port != 0
    except ValueError:
        split, good = urlsplit(""), False
    if not good:
        raise Usage(f"'{shown(url)}' is not a Redis URL", hint="write for example rediss://redis.example:6379")
    if split.username or split.password or split.query:
        raise Usage(
            "--worker-redis-url holds no user, password or option: each worker has a user of its own",
            hint="write for example rediss://redis.example:6379",
        )

"""What others see who look at a server with redis-py, as RQ's tools do."""

from __future__ import annotations

from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


def connect(
    where: str = "", *, username: str | None = None, password: str | None = None, unix_socket: Path | None = None
) -> redis.Redis:
    """One connection that repeats nothing, to a `redis://` URL or a socket; its login may be beside the URL."""
    url = where if unix_socket is None else f"unix://{unix_socket}"
    client: redis.Redis = redis.Redis.from_url(
        url,
        username=username,
        password=password,
        single_connection_client=True,
        socket_timeout=5.0,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        driver_info=None,  # no greeting: who may not send it is not to be refused for it
    )
    return client

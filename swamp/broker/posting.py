"""Commands that nobody waits for go with the next one that somebody does wait for: one round trip instead of many.

redis-py's own pipeline takes a second connection, on which the order of commands would be another matter.
"""

from __future__ import annotations

from typing import Any

import redis

FULL = 1 << 20  #: bytes of posted commands that are not kept back any longer


class Posting:
    """The one connection of a client that `swamp.broker.connection.connect` made. All that is sent through it, and
    through the client behind a `flush`, is done in the order of the calls.

    After an error nobody knows which answer comes next, so from then on every call raises `redis.ConnectionError`.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._posted: list[tuple[Any, ...]] = []
        self._size = 0
        self._failed = False

    @property
    def holds(self) -> bool:
        """Whether something is posted and not sent."""
        return bool(self._posted)

    def post(self, *words: Any) -> None:  # noqa: ANN401 - words of a command, as redis-py takes them
        """To be done before whatever comes next. Raises `redis.RedisError`, perhaps for something posted earlier."""
        self._posted.append(words)
        self._size += sum(len(word) for word in words if isinstance(word, (bytes, str)))
        if self._size >= FULL:
            self.flush()

    def execute_command(self, *words: Any) -> Any:  # noqa: ANN401 - what a server may answer
        """Do what was posted, then this, and tell its answer. Raises `redis.RedisError`, also for what was posted."""
        self._check()
        posted, self._posted, self._size = self._posted, [], 0
        connection = self._client.connection
        if connection is None:
            raise redis.ConnectionError("not connected")
        self._failed = True  # unless all goes well
        connection.send_packed_command(connection.pack_commands([*posted, words]))
        for _ in posted:
            connection.read_response()
        answer = connection.read_response()
        self._failed = False
        return answer

    def flush(self) -> None:
        """Have done what was posted. Raises `redis.RedisError`."""
        self._check()
        if self._posted:
            last = self._posted.pop()
            self.execute_command(*last)

    def _check(self) -> None:
        if self._failed:
            raise redis.ConnectionError("the connection broke off in the middle of something")


class Letterbox:
    """A `Posting` to which functions speak that need no answer."""

    def __init__(self, posting: Posting) -> None:
        self.execute_command = posting.post

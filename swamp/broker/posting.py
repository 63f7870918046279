"""Commands that nobody waits for go with the next one that somebody does wait for: one round trip instead of many."""

from __future__ import annotations

from typing import Any

from swamp.broker.client import Client, RedisTrouble, Word

FULL = 1 << 20  #: bytes of posted commands that are not kept back any longer


class Posting:
    """Speaks through a client that nobody else uses: all is done in the order of the calls.

    An error of something posted is raised by whatever comes next, which may have no part in it. So the connection is of
    no use from then on: whoever made it has to make sure anew that everything is there.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._posted: list[tuple[Word, ...]] = []
        self._size = 0

    @property
    def holds(self) -> bool:
        """Whether something is posted and not sent."""
        return bool(self._posted)

    def post(self, *words: Word) -> None:
        """To be done before whatever comes next. Raises `RedisTrouble`, perhaps for something posted earlier."""
        self._posted.append(words)
        self._size += sum(len(word) for word in words if isinstance(word, (bytes, str)))
        if self._size >= FULL:
            self.flush()

    def execute_command(self, *words: Word) -> Any:  # noqa: ANN401 - what a server may answer
        """Do what was posted, then this, and tell its answer. Raises `RedisTrouble`, also for what was posted."""
        return self.execute_together([words])[0]

    def execute_together(self, commands: list[tuple[Word, ...]]) -> list[Any]:
        """Do what was posted, then these, and tell their answers. Raises `RedisTrouble`, also for what was posted."""
        posted, self._posted, self._size = self._posted, [], 0
        try:
            return self._client.execute_together([*posted, *commands])[len(posted) :]
        except RedisTrouble:
            if posted:
                self._client.cut()
            raise

    def flush(self) -> None:
        """Have done what was posted. Raises `RedisTrouble`."""
        if self._posted:
            self.execute_together([])


class Letterbox:
    """A `Posting` to which functions speak that need no answer."""

    def __init__(self, posting: Posting) -> None:
        self.execute_command = posting.post

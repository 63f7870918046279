"""Those at the port of whom nothing is known yet. There is room for so many; whoever comes when it is full takes the
place of who has waited longest. Who belongs here is not a stranger for long, so a crowd that only waits pushes out
itself. Pure, but for the closing.
"""

from __future__ import annotations

from collections.abc import Callable


class Strangers:
    """Belongs to the event loop's thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._closing: dict[object, Callable[[], object]] = {}

    def __len__(self) -> int:
        return len(self._closing)

    def come(self, who: object, close: Callable[[], object]) -> None:
        while len(self._closing) >= self._most:
            self._closing.pop(next(iter(self._closing)))()
        self._closing[who] = close

    def leave(self, who: object) -> None:
        """It is known now, or gone."""
        self._closing.pop(who, None)

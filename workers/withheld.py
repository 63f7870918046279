"""What is kept from those who watch a step, because more waits to be told than should: pure. They hear that it was."""

from __future__ import annotations


class Withheld:
    """Live output past `limit` unacknowledged bytes is withheld; it is in the step's result all the same."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lines: dict[str, int] = {}  # that were withheld and not told of, by dispatch

    def withholds(self, dispatch: str, output: bytes, waiting: int) -> bool:
        """Whether this output goes untold while `waiting` bytes wait. Half the limit has to be free before it goes on,
        or a step that prints too fast would be told in crumbs, a note behind each."""
        known = self._lines.get(dispatch, 0)
        if waiting < (self._limit // 2 if known else self._limit):
            return False
        self._lines[dispatch] = known + output.count(b"\n") + (not output.endswith(b"\n"))
        return True

    def note(self, dispatch: str) -> str | None:
        """A line that stands where lines were withheld since the last one; none where none were."""
        lines = self._lines.pop(dispatch, 0)
        if not lines:
            return None
        return f"… {lines:,} lines came too fast to be shown here; the step's data have them all"

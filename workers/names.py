"""How people call the steps under way here."""

from __future__ import annotations

from swamp.names import run_of


class StepNames:
    """Of what was not given a name, as results of an earlier process, the dispatch id is the name."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def give(self, dispatch: str, name: str) -> None:
        self._names[dispatch] = name

    def of(self, dispatch: str) -> str:
        return self._names.get(dispatch, dispatch)

    def about(self, dispatch: str) -> dict[str, str]:
        """What a log line about this dispatch carries."""
        return {"run": run_of(dispatch), "step": self.of(dispatch), "dispatch": dispatch}

    def forget(self, dispatch: str) -> None:
        self._names.pop(dispatch, None)

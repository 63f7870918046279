"""One `command/shell` step, run for real in a directory of its own, with an ear for what it prints."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from swamp.clock import iso_now
from swamp.models.direct import Direct
from swamp.models.invocation import Invocation, Outcome
from swamp.models.invoke import Cancellation, Surroundings, invoke
from swamp.models.spawner import Spawner
from tests.waiting import wait_until

Emit = Callable[[str, bytes], None]


#: The last one starts the steps' programs. Tests that hold for every spawner put theirs here.
SPAWNERS: list[Spawner] = [Direct()]


class Step:
    """`with Step(directory, "echo x") as step:` prepares it; `run()` runs it here, `start()` beside the test."""

    def __init__(self, directory: Path, run: str, emit: Emit | None = None, **arguments: object) -> None:
        self.invocation = Invocation(
            model_id="m-1",
            model_name="remote-echo",
            model_type="command/shell",
            method="execute",
            arguments={"run": run, **arguments},
            tags={"team": "build"},
        )
        self.heard: list[tuple[str, bytes]] = []
        self.cancellation = Cancellation()
        self.surroundings = Surroundings(
            directory=directory,
            environment={**os.environ, "FROM": "surroundings"},
            emit=emit or (lambda stream, lines: self.heard.append((stream, lines))),
            cancellation=self.cancellation,
            spawner=SPAWNERS[-1],
        )
        self._outcome: Outcome | None = None
        self._thread = threading.Thread(target=self.run)

    def run(self) -> Outcome:
        self._outcome = invoke(self.invocation, self.surroundings, iso_now)
        return self._outcome

    def start(self, first_words: str) -> None:
        """Start it and wait until it has printed `first_words`."""
        self._thread.start()
        wait_until(lambda: first_words.encode() in self.printed("stdout"), f"the step to print {first_words}")

    def end(self) -> Outcome:
        """The outcome of a started step."""
        self._thread.join(10)
        assert self._outcome is not None, "the step did not end within 10 s"
        return self._outcome

    def printed(self, stream: str) -> bytes:
        """What was heard of one stream so far."""
        return b"".join(lines for name, lines in self.heard if name == stream)

    def __enter__(self) -> Step:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancellation.set("the test is over", grace=0)
        if self._thread.ident is not None:
            self._thread.join(10)
        self.cancellation.close()


def shell(directory: Path, run: str, **arguments: object) -> Outcome:
    """The outcome of one step that ends by itself."""
    with Step(directory, run, None, **arguments) as step:
        return step.run()


def result(outcome: Outcome) -> dict[str, Any]:
    """The attributes of the resource `result`."""
    attributes = json.loads(content(outcome, "result"))
    assert isinstance(attributes, dict)
    return attributes


def log(outcome: Outcome) -> bytes:
    """The bytes of the file `log`."""
    return content(outcome, "log")


def content(outcome: Outcome, name: str) -> bytes:
    """The bytes of the one output of that name."""
    (output,) = (output for output in outcome.outputs if output.name == name)
    assert isinstance(output.content, bytes)
    return output.content


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and only waits for its parent to notice does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the second where it ends while it is read
        return False

"""Following a run to its end: every event once and in order, over restarts of the orchestrator and cut connections.

The database is the truth, so it fills in while no orchestrator answers; the number of the last event seen is all that a
new connection has to be told.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing

from swamp.data import journal
from swamp.data.store import Store
from swamp.errors import Unreachable
from swamp.orchestrator.client import Client, find
from swamp.repo import Repo
from swamp.workflows.events import Event
from swamp.workflows.local import end_abandoned_runs

FIRST_PAUSE = 0.1  #: seconds before the second look for an orchestrator that is away; doubled each time
LONGEST_PAUSE = 2.0
LOCAL_PAUSE = 0.2  #: seconds between two looks at a run that another command drives

_PART = 1_000  #: events read at once


def follow(repo: Repo, run_id: str, notice: Callable[[str], None]) -> Iterator[Event]:
    """The events of a run that the orchestrator drives, from the first to the last.

    Waits for an orchestrator that is away, for as long as it takes; `notice` hears of that. Raises what the
    orchestrator refuses.
    """
    after = pauses = 0
    while True:
        client = _reached(repo)
        try:
            events = client.events(run_id, after) if client else _of_database(repo, run_id, after)
            if client and pauses:
                notice("The orchestrator is back.")
                pauses = 0
            for event in events:
                number = _number(event)
                if number <= after:
                    continue
                after = number
                yield event
                if event.get("kind") == "run-finished":
                    return
        except Unreachable:
            pass  # it went away; below we wait for it
        if pauses == 0:
            notice("The orchestrator is away; waiting for it. Ctrl-C leaves, the run goes on.")
        time.sleep(_pause(pauses))
        pauses += 1


def follow_remote(client: Client, run: str, notice: Callable[[str], None]) -> Iterator[Event]:
    """The events of a run of another machine's orchestrator, from the first to the last.

    Waits for one that goes away after it has answered once. Raises `Unreachable`, and what it refuses.
    """
    after = pauses = 0
    while True:
        try:
            for event in client.events(run, after):
                if pauses:
                    notice("The orchestrator is back.")
                    pauses = 0
                run = str(event.get("run", run))  # a workflow's newest run may soon be another one
                after = _number(event)
                yield event
                if event.get("kind") == "run-finished":
                    return
        except Unreachable:
            if not after:
                raise
        if pauses == 0:
            notice("The orchestrator is away; waiting for it. Ctrl-C leaves, the run goes on.")
        time.sleep(_pause(pauses))
        pauses += 1


def follow_beside(repo: Repo, store: Store, run_id: str) -> Iterator[Event]:
    """The events of a run that another command of this repository drives without an orchestrator. A run whose command
    was killed is given its end."""
    after = 0
    while True:
        end_abandoned_runs(repo, store)
        for event in stored(store, run_id, after):
            after = _number(event)
            yield event
            if event.get("kind") == "run-finished":
                return
        time.sleep(LOCAL_PAUSE)


def stored(store: Store, run_id: str, after: int = 0) -> Iterator[Event]:
    """The events that are on disk behind number `after`. Read in parts: a log may be larger than the memory, and no
    read transaction may stay open while a pager waits for its reader."""
    while True:
        with store.read() as tx:
            part = journal.read_event_lines(tx, run_id, after, _PART)
        for after, line in part:  # noqa: B007 - the last number is where the next part begins
            yield json.loads(line)
        if len(part) < _PART:
            return


def _pause(before: int) -> float:
    return random.uniform(0.5, 1.0) * min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**before)  # noqa: S311


def _of_database(repo: Repo, run_id: str, after: int) -> Iterator[Event]:
    with closing(Store.open(repo.database, repo.blobs, create=False)) as store:
        yield from stored(store, run_id, after)


def _reached(repo: Repo) -> Client | None:
    try:
        return find(repo)
    except Unreachable:  # it takes connections and says nothing
        return None


def _number(event: Event) -> int:
    number = event.get("seq")
    return number if isinstance(number, int) else 0

"""Runs, steps, dispatches and run events: the tables of the journal, read and written.

Functions take the connection of a `Store.write()` or `Store.read()` block: the caller decides what commits together.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from swamp.errors import Invalid, NotFound
from swamp.values import value

# ---------------------------------------------------------------------- runs


@dataclass(frozen=True, slots=True)
class RunRow:
    id: str
    kind: str
    workflow_name: str
    status: str
    created_at: str
    ended_at: str | None
    error: str | None
    owner: str  #: who drives it: `serve` or `command`


_RUN_COLUMNS = "id, kind, workflow_name, status, created_at, ended_at, error, owner"


@dataclass(frozen=True, slots=True)
class ActiveRun:
    """What an engine needs to go on with a run, beside its steps."""

    id: str
    plan: str
    created_at: str
    deadline: str | None
    canceled_at: str | None


def add_run(
    tx: sqlite3.Connection,
    run_id: str,
    kind: str,
    workflow_id: str,
    workflow_name: str,
    owner: str,
    plan: str,
    steps: int,
    created_at: str,
    deadline: str | None = None,
) -> None:
    """A new run and its `steps` pending steps."""
    row = tx.execute(
        "INSERT INTO runs (id, kind, workflow_id, workflow_name, owner, status, created_at, deadline)"
        " VALUES (?, ?, ?, ?, ?, 'running', ?, ?)",
        (run_id, kind, workflow_id, workflow_name, owner, created_at, deadline),
    )
    tx.execute("INSERT INTO plans (run_seq, plan) VALUES (?, ?)", (row.lastrowid, plan))
    tx.executemany(
        "INSERT INTO steps (run_id, position, status) VALUES (?, ?, 'pending')",
        ((run_id, position) for position in range(steps)),
    )


def has_run(tx: sqlite3.Connection, run_id: str) -> bool:
    return tx.execute("SELECT 1 FROM runs WHERE id = ?", (run_id,)).fetchone() is not None


def has_ended(tx: sqlite3.Connection, run_id: str) -> bool:
    """Of a run that there is."""
    (status,) = tx.execute("SELECT status FROM runs WHERE id = ?", (run_id,)).fetchone()
    return bool(status != "running")


def end_run(tx: sqlite3.Connection, run_id: str, status: str, error: str | None, ended_at: str) -> None:
    tx.execute("UPDATE runs SET status = ?, error = ?, ended_at = ? WHERE id = ?", (status, error, ended_at, run_id))


def cancel_runs(tx: sqlite3.Connection, canceled: Iterable[tuple[str, str]]) -> None:
    """(id, since when) of runs that are being ended early; what was asked for must survive whoever heard it."""
    tx.executemany("UPDATE runs SET canceled_at = ? WHERE id = ?", ((since, run_id) for run_id, since in canceled))


def active_runs(tx: sqlite3.Connection, owner: str) -> list[ActiveRun]:
    """Every run of this owner that has not ended, oldest first."""
    rows = tx.execute(
        "SELECT id, plan, created_at, deadline, canceled_at FROM runs JOIN plans ON run_seq = seq"
        " WHERE status = 'running' AND owner = ? ORDER BY seq",
        (owner,),
    )
    return [ActiveRun(*row) for row in rows]


def running_runs(tx: sqlite3.Connection, workflow: str) -> list[RunRow]:
    """The runs of this workflow that have not ended, newest first."""
    rows = tx.execute(
        f"SELECT {_RUN_COLUMNS} FROM runs WHERE workflow_name = ? AND kind = 'workflow' AND status = 'running'"  # noqa: S608
        " ORDER BY seq DESC",
        (workflow,),
    )
    return [RunRow(*row) for row in rows]


def run_to_cancel(tx: sqlite3.Connection, name: str) -> RunRow:
    """The run that is meant: as for `get_run`, but of a workflow's name the one run that has not ended, if there is
    one. Raises also `Invalid` where a workflow has several."""
    running = running_runs(tx, name)
    if len(running) > 1:
        raise Invalid(
            f"workflow '{name}' has {len(running)} runs under way",
            hint="\n".join(f"swamp workflow cancel {run.id}   # since {run.created_at}" for run in running),
            code="several_runs",
        )
    return running[0] if running else get_run(tx, name)


def search_runs(tx: sqlite3.Connection, workflow: str | None, limit: int) -> list[RunRow]:
    """Runs of workflows, newest first; of one workflow, if named."""
    where, values = ("AND workflow_name = ?", [workflow]) if workflow else ("", [])
    rows = tx.execute(
        f"SELECT {_RUN_COLUMNS} FROM runs WHERE kind = 'workflow' {where} ORDER BY seq DESC LIMIT ?",  # noqa: S608
        [*values, limit],
    )
    return [RunRow(*row) for row in rows]


def get_run(tx: sqlite3.Connection, name: str) -> RunRow:
    """The run with this id, or whose id alone begins so (four characters or more), or the newest run of the workflow of
    this name.

    Raises `NotFound`, and `Invalid` where a prefix fits several runs.
    """
    rows = tx.execute(f"SELECT {_RUN_COLUMNS} FROM runs WHERE id = ?", (name,)).fetchall()  # noqa: S608
    if not rows:
        rows = tx.execute(
            f"SELECT {_RUN_COLUMNS} FROM runs WHERE workflow_name = ? AND kind = 'workflow' ORDER BY seq DESC LIMIT 1",  # noqa: S608
            (name,),
        ).fetchall()
    if not rows and len(name) >= 4:
        rows = tx.execute(
            f"SELECT {_RUN_COLUMNS} FROM runs WHERE substr(id, 1, ?) = ? LIMIT 2",  # noqa: S608
            (len(name), name),
        ).fetchall()
    if not rows:
        raise NotFound(
            f"no run and no workflow with runs is called '{name}'", hint="list runs with: swamp workflow history search"
        )
    if len(rows) > 1:
        raise Invalid(f"more than one run id begins with '{name}'", hint="type more of the id")
    return RunRow(*rows[0])


# ---------------------------------------------------------------------- steps


@value
class StepRow:
    position: int
    status: str
    dispatch_id: str | None
    started_at: str | None
    ended_at: str | None
    error: str | None


def save_steps(tx: sqlite3.Connection, run_id: str, rows: Iterable[StepRow]) -> None:
    tx.executemany(
        "UPDATE steps SET status = ?, dispatch_id = ?, started_at = ?, ended_at = ?, error = ?"
        " WHERE run_id = ? AND position = ?",
        ((row.status, row.dispatch_id, row.started_at, row.ended_at, row.error, run_id, row.position) for row in rows),
    )


def load_steps(tx: sqlite3.Connection, run_id: str) -> list[StepRow]:
    """All steps of a run, by position."""
    rows = tx.execute(
        "SELECT position, status, dispatch_id, started_at, ended_at, error FROM steps"
        " WHERE run_id = ? ORDER BY position",
        (run_id,),
    )
    return [StepRow(*row) for row in rows]


# ---------------------------------------------------------------------- run events

# Made once: `json.dumps` with these options makes a new one for every call.
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def add_events(tx: sqlite3.Connection, events: Sequence[Mapping[str, object]]) -> None:
    tx.executemany(
        "INSERT INTO run_events (run_id, seq, event) VALUES (?, ?, ?)",
        ((event["run"], event["seq"], _JSON.encode(event)) for event in events),
    )


def last_event_seq(tx: sqlite3.Connection, run_id: str) -> int:
    """0 where the run has no events."""
    row = tx.execute("SELECT max(seq) FROM run_events WHERE run_id = ?", (run_id,)).fetchone()
    return int(row[0] or 0)


def read_event_lines(tx: sqlite3.Connection, run_id: str, after: int, limit: int) -> list[tuple[int, str]]:
    """(seq, JSON text) of up to `limit` events behind number `after`, in order."""
    return tx.execute(
        "SELECT seq, event FROM run_events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?", (run_id, after, limit)
    ).fetchall()


def read_events(tx: sqlite3.Connection, run_id: str, after: int = 0) -> Iterator[dict[str, object]]:
    """The events of a run behind number `after`, in order."""
    for (event,) in tx.execute(
        "SELECT event FROM run_events WHERE run_id = ? AND seq > ? ORDER BY seq", (run_id, after)
    ):
        yield json.loads(event)


# ---------------------------------------------------------------------- dispatches


@value
class DispatchRow:
    id: str
    run_id: str
    position: int
    attempt: int
    target: str
    state: str  #: `queued`, `granted`, `begun`, `finished`, `superseded`, `lost`
    machine: str | None
    epoch: int | None
    created_at: str = ""  #: as stored; empty in a row to be added
    losses: int = 0  #: how many dispatches of its step were lost before it


_DISPATCH_COLUMNS = "id, run_id, position, attempt, target, state, machine, epoch, created_at"


def add_dispatches(tx: sqlite3.Connection, rows: Iterable[DispatchRow], created_at: str) -> None:
    tx.executemany(
        "INSERT INTO dispatches (id, run_id, position, attempt, target, state, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        ((row.id, row.run_id, row.position, row.attempt, row.target, row.state, created_at) for row in rows),
    )


def begin_dispatches(tx: sqlite3.Connection, begun: Iterable[tuple[str, str, int]], now: str) -> None:
    """(id, machine, epoch) of dispatches that began."""
    tx.executemany(
        "UPDATE dispatches SET state = 'begun', machine = ?, epoch = ?, begun_at = ?"
        " WHERE id = ? AND state IN ('queued', 'granted')",
        ((machine, epoch, now, dispatch) for dispatch, machine, epoch in begun),
    )


def run_dispatches(tx: sqlite3.Connection, ran: Iterable[tuple[str, str, int, str, str | None]], now: str) -> None:
    """(id, machine, epoch, state, outcome) of dispatches that began and ended since the last transaction."""
    tx.executemany(
        "UPDATE dispatches SET state = ?, machine = ?, epoch = ?, begun_at = ?, outcome = ?, ended_at = ? WHERE id = ?",
        ((state, machine, epoch, now, outcome, now, dispatch) for dispatch, machine, epoch, state, outcome in ran),
    )


def grant_dispatches(tx: sqlite3.Connection, granted: Iterable[tuple[str, str, int]]) -> None:
    """(id, machine, epoch) of dispatches that this machine alone may begin."""
    tx.executemany(
        "UPDATE dispatches SET state = 'granted', machine = ?, epoch = ? WHERE id = ? AND state = 'queued'",
        ((machine, epoch, dispatch) for dispatch, machine, epoch in granted),
    )


def end_dispatches(tx: sqlite3.Connection, ended: Iterable[tuple[str, str, str | None]], now: str) -> None:
    """(id, state, outcome) of dispatches that ended: `finished`, `superseded` or `lost`."""
    tx.executemany(
        "UPDATE dispatches SET state = ?, outcome = ?, ended_at = ? WHERE id = ?",
        ((state, outcome, now, dispatch) for dispatch, state, outcome in ended),
    )


def keep_evidence(
    tx: sqlite3.Connection,
    dispatch: str,
    target: str,
    machine: str,
    outcome: str,
    evidence: Mapping[str, object],
    *,
    shared: bool,
) -> bool:
    """A result that cannot be its step's: it came when the dispatch had been given up, or another machine has begun it.
    One is kept of each machine. False, and nothing kept, for a repetition, and for a dispatch that was never this
    machine's: only one that is `shared` can have been begun by several."""
    row = tx.execute(
        "SELECT state, machine, evidence FROM dispatches WHERE id = ? AND target = ?", (dispatch, target)
    ).fetchone()
    if row is None:
        return False
    state, owner, text = row
    own = owner in (None, machine)
    kept = json.loads(text or "[]")
    if not (state in ("lost", "superseded") if own else shared) or any(one["machine"] == machine for one in kept):
        return False
    tx.execute(
        "UPDATE dispatches SET evidence = ?, outcome = ifnull(?, outcome) WHERE id = ?",
        (json.dumps([*kept, {"machine": machine, **evidence}]), outcome if own else None, dispatch),
    )
    return True


def planned_step(tx: sqlite3.Connection, dispatch: str) -> tuple[str, str, int] | None:
    """What a dispatch was made for, whether or not it has ended: run, plan, position."""
    row = tx.execute(
        "SELECT runs.id, plan, position FROM dispatches JOIN runs ON runs.id = run_id JOIN plans ON run_seq = seq"
        " WHERE dispatches.id = ?",
        (dispatch,),
    ).fetchone()
    return None if row is None else (str(row[0]), str(row[1]), int(row[2]))


def live_dispatches(tx: sqlite3.Connection) -> list[DispatchRow]:
    """Dispatches that are queued, granted or begun, in the order in which they were made."""
    rows = tx.execute(
        f"SELECT {_DISPATCH_COLUMNS} FROM dispatches WHERE state IN ('queued', 'granted', 'begun')"  # noqa: S608
        " ORDER BY created_at, run_id, position, attempt"
    ).fetchall()
    return [replace(row, losses=_losses(tx, row.id, row.attempt)) for row in (DispatchRow(*found) for found in rows)]


def _losses(tx: sqlite3.Connection, dispatch: str, attempt: int) -> int:
    if attempt == 1:
        return 0
    step = dispatch.rpartition("-")[0]
    earlier = json.dumps([f"{step}-{before}" for before in range(1, attempt)])
    count = "SELECT count(*) FROM dispatches WHERE state = 'lost' AND id IN (SELECT value FROM json_each(?))"
    return int(tx.execute(count, (earlier,)).fetchone()[0])


def dispatch_count(tx: sqlite3.Connection, run_id: str, position: int) -> int:
    """How many dispatches a step has had."""
    row = tx.execute("SELECT count(*) FROM dispatches WHERE run_id = ? AND position = ?", (run_id, position)).fetchone()
    return int(row[0])


# ---------------------------------------------------------------------- facts about the repository


def get_meta(tx: sqlite3.Connection, key: str) -> str | None:
    row = tx.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def set_meta(tx: sqlite3.Connection, key: str, value: str) -> None:
    tx.execute(
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (key, value),
    )

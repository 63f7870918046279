"""What the journal tells of dispatches after a restart."""

from __future__ import annotations

import json
import sqlite3

from swamp.data import journal
from swamp.data.journal import DispatchRow
from swamp.data.store import Store

NOON = "2026-06-15T12:00:00.000Z"


def test_a_live_dispatch_knows_how_many_of_its_step_were_lost_before_it(store: Store):
    states = ["lost", "superseded", "lost", "superseded", "queued"]
    others = ["lost", "queued"]
    with store.write() as tx:
        journal.add_run(tx, "run-1", "workflow", "id", "w", "serve", "{}", 2, NOON)
        for position, of_step in enumerate((states, others)):
            rows = [
                DispatchRow(f"node--run-1-{position}-{attempt}", "run-1", position, attempt, "node", state, None, None)
                for attempt, state in enumerate(of_step, 1)
            ]
            journal.add_dispatches(tx, rows, NOON)
    with store.read() as tx:
        assert [(row.id, row.losses) for row in journal.live_dispatches(tx)] == [
            ("node--run-1-0-5", 2),
            ("node--run-1-1-2", 1),
        ]


def test_of_what_two_machines_may_have_begun_each_late_result_is_kept_once(store: Store):
    """And of what only one may, nobody else's; nor what would be the step's own result told once more."""

    def kept(tx: sqlite3.Connection, attempt: int) -> list[str]:
        (text,) = tx.execute("SELECT evidence FROM dispatches WHERE attempt = ?", (attempt,)).fetchone()
        return [f"{one['machine']} {one['status']}" for one in json.loads(text or "[]")]

    def keep(tx: sqlite3.Connection, attempt: int, machine: str, *, shared: bool, target: str = "node") -> bool:
        dispatch, told = f"node--run-1-0-{attempt}", {"status": "succeeded"}
        return journal.keep_evidence(tx, dispatch, target, machine, "succeeded", told, shared=shared)

    with store.write() as tx:
        journal.add_run(tx, "run-1", "workflow", "id", "w", "serve", "{}", 1, NOON)
        for attempt, state in enumerate(("lost", "finished", "begun"), 1):
            row = DispatchRow(f"node--run-1-0-{attempt}", "run-1", 0, attempt, "node", state, "m-a", 1)
            journal.add_dispatches(tx, [row], NOON)
            tx.execute("UPDATE dispatches SET machine = 'm-a' WHERE id = ?", (row.id,))
        assert [keep(tx, 1, machine, shared=True) for machine in ("m-b", "m-a", "m-b", "m-a")] == [
            True,
            True,
            False,
            False,
        ]
        assert kept(tx, 1) == ["m-b succeeded", "m-a succeeded"]
        assert [keep(tx, 2, machine, shared=True) for machine in ("m-a", "m-b")] == [False, True]
        assert kept(tx, 2) == ["m-b succeeded"]
        assert not keep(tx, 2, "m-c", shared=False)
        assert not keep(tx, 2, "m-c", shared=True, target="other")
        assert not keep(tx, 3, "m-a", shared=True), "it has not ended"
        assert keep(tx, 3, "m-b", shared=True), "another machine has begun it"


def test_a_dispatch_that_began_and_ended_at_once_is_written_like_one_that_did_so_in_turn(store: Store):
    with store.write() as tx:
        journal.add_run(tx, "run-1", "workflow", "id", "w", "serve", "{}", 2, NOON)
        rows = [DispatchRow(f"node--run-1-{n}-1", "run-1", n, 1, "node", "queued", None, None) for n in (0, 1)]
        journal.add_dispatches(tx, rows, NOON)
        journal.begin_dispatches(tx, [("node--run-1-0-1", "m", 7)], NOON)
        journal.end_dispatches(tx, [("node--run-1-0-1", "finished", "failed")], NOON)
        journal.run_dispatches(tx, [("node--run-1-1-1", "m", 7, "finished", "failed")], NOON)
    with store.read() as tx:
        columns = "state, machine, epoch, begun_at, ended_at, outcome"
        one, other = tx.execute(f"SELECT {columns} FROM dispatches ORDER BY position").fetchall()
    assert one == other == ("finished", "m", 7, NOON, NOON, "failed")

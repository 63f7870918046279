"""What the journal tells of dispatches after a restart."""

from __future__ import annotations

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

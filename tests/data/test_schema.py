"""What becomes of the database of an older Swamp."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from swamp.data import journal, schema
from swamp.data.store import Store

NOON = "2026-06-15T12:00:00.000Z"
PLAN = '{"plan": "as it was"}'


def outline(database: Path) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return sorted(
            (table, *map(str, column[1:]))
            for table in tables
            for column in connection.execute(f"PRAGMA table_info({table})")
        )


@pytest.mark.parametrize("version", range(1, schema.VERSION))
def test_a_run_that_an_older_swamp_left_under_way_is_taken_up_by_this_one(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    with monkeypatch.context() as then:
        then.setattr(schema, "VERSION", version)
        store = Store.open(old, tmp_path, create=True)
        with store.write() as tx:
            tx.execute(
                "INSERT INTO runs (id, kind, workflow_id, workflow_name, owner, status, plan, created_at)"
                " VALUES ('r', 'workflow', 'w', 'build', 'serve', 'running', ?, ?)",
                (PLAN, NOON),
            )
            tx.execute("INSERT INTO steps (run_id, position, status) VALUES ('r', 0, 'queued')")
            rows = [journal.DispatchRow("node--r-0-1", "r", 0, 1, "node", "queued", None, None)]
            journal.add_dispatches(tx, rows, NOON)
        store.close()
    for database in (old, new):
        Store.open(database, tmp_path, create=True).close()
    assert outline(old) == outline(new)
    store = Store.open(old, tmp_path, create=False)
    with store.read() as tx:
        assert journal.active_runs(tx, "serve") == [journal.ActiveRun("r", PLAN, NOON, None, None)]
        assert journal.planned_step(tx, "node--r-0-1") == ("r", PLAN, 0)
        assert journal.get_run(tx, "r").created_at == NOON
    store.close()

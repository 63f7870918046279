"""Machines that have joined, by hand: what a worker gone bad can do with what it was given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.stage import Stage
from tests.waiting import wait_until
from workers.identity import Identity
from workers.session import NotReached, Session, join
from workers.worker import Worker, WorkerOptions


@contextmanager
def joined(stage: Stage, token: str, cache: str = "by-hand") -> Iterator[Session]:
    """A session of the machine whose cache directory is that; `token` is the text of one."""
    name, _, secret = token.partition(".")
    identity = Identity.load_or_create(stage.scratch / cache)
    try:
        options = WorkerOptions(stage.url, lambda: (name, bytes.fromhex(secret)), 1, 1.0)
        worker = Worker(options, identity, stage.scratch, {})

        def welcomed() -> Session | None:
            try:
                return join(stage.url, name, bytes.fromhex(secret), identity, worker._hello)
            except NotReached:  # an orchestrator that has just begun may not have Redis yet
                return None

        session = wait_until(welcomed, "the orchestrator to take the machine")
        assert session
        try:
            yield session
        finally:
            session.close()
    finally:
        identity.close()

"""The loop of a worker waits for whatever may happen next, and for nothing else."""

from __future__ import annotations

import time
from pathlib import Path

from tests.workers.dispatches import dispatch
from workers.identity import Identity
from workers.worker import Worker, WorkerOptions


def test_without_a_link_what_is_overdue_does_not_wake_the_loop(tmp_path: Path):
    options = WorkerOptions("ws://127.0.0.1:1", lambda: ("node", b""), slots=1, grace=1.0)
    worker = Worker(options, Identity.load_or_create(tmp_path), tmp_path, {})
    worker._ring_by = 0.0  # the link broke while the orchestrator was still to be called,
    worker._claims.opened.append(dispatch(1))  # and a step waited for a slot
    begin = time.monotonic()
    assert worker._wait() == []
    assert time.monotonic() - begin > 0.9, "it looks once a second whether it is to go"

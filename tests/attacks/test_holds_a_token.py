"""Whoever holds a copy of a token: once it is bound it opens nothing, before that it opens for one machine alone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from swamp.clock import iso, utc_now
from swamp.wire import messages
from swamp.wire.messages import Hello
from tests.e2e.stage import Stage
from workers.identity import Identity
from workers.session import Session, TurnedAway, join

MACHINES = 100


def attempt(stage: Stage, token: str, directory: Path, gate: threading.Barrier) -> Session | str:
    """Join as a machine of its own; the session, or why not."""
    name, _, secret = token.partition(".")
    identity = Identity.load_or_create(directory)
    hello = Hello(
        messages.PROTOCOL, "0", identity.next_epoch(), 0, "linux/x86_64", 1, iso(utc_now()), "thief", 1, "3", 30.0
    )
    gate.wait()
    try:
        return join(stage.url, name, bytes.fromhex(secret), identity, lambda: hello)
    except TurnedAway as refused:
        return refused.refusal.code
    finally:
        identity.close()


def test_a_hundred_machines_at_once_and_exactly_one_is_bound(stage: Stage):
    token = stage.token()
    stage.serve()
    gate = threading.Barrier(MACHINES)
    with ThreadPoolExecutor(MACHINES) as pool:
        outcomes = list(
            pool.map(lambda n: attempt(stage, token, stage.scratch / f"machine-{n}", gate), range(MACHINES))
        )
    joined = [outcome for outcome in outcomes if isinstance(outcome, Session)]
    for session in joined:
        session.close()
    assert len(joined) == 1
    assert len(stage.rows("SELECT id FROM machines")) == 1
    assert {outcome for outcome in outcomes if not isinstance(outcome, Session)} == {"already_bound"}


def test_a_copy_of_a_bound_token_opens_nothing_and_the_attempt_is_shown(stage: Stage):
    token = stage.token()
    orchestrator = stage.serve()
    first = stage.worker(token, "first")
    thief = attempt(stage, token, stage.scratch / "thief", threading.Barrier(1))
    assert thief == "already_bound"
    orchestrator.wait_for_line("was refused .token node.: token 'node' is already bound")
    (shown,) = stage.json("worker", "token", "list")[0]["refused"]
    assert (shown["code"], shown["host"]) == ("already_bound", "thief")
    assert first.running

"""The core's transactions, without its thread and without a Redis."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from swamp.broker.functions import Collected, Message
from swamp.data.store import Store
from swamp.models.invocation import Outcome
from swamp.orchestrator.core import Core
from swamp.orchestrator.keys import load_or_create_keys
from swamp.orchestrator.transport import Owner, RedisAddress, Transport
from swamp.repo import Repo
from swamp.tokens import store as tokens
from swamp.tokens.token import Token
from swamp.wire.messages import UP, Finished, Started, UpBody, pack_result, pack_up, result_place
from tests.workflows.plans import plan

RUN, TARGET, MACHINE = "run-1", "build-node", "machine-a"
NOON = "2026-06-15T12:00:00.000Z"
LONG_AGO = datetime(2026, 6, 15, 12, tzinfo=UTC)


def no_redis() -> RedisAddress:
    raise AssertionError("Redis was asked for")


@pytest.mark.parametrize("policy", ["fail", "retry"])
def test_a_result_that_comes_before_its_loss_is_stored_is_kept_as_evidence(tmp_path: Path, policy: str) -> None:
    """Machines are missed between two transactions: the next one applies what they say before it stores that."""
    repo = Repo(tmp_path)
    store = Store.open(repo.database, repo.blobs, create=True)
    keys = load_or_create_keys(repo, secrets.token_bytes)
    core = Core(repo, store, keys, Transport(Owner("me", "here"), no_redis), {}, "boot", lambda _: None)
    with store.write() as tx:
        tokens.add(tx, Token(TARGET, "vault", "key", LONG_AGO, datetime.now(UTC) + timedelta(days=9)), LONG_AGO)
        tokens.bind(tx, MACHINE, secrets.token_bytes(32), TARGET, MACHINE, LONG_AGO)
        core._reload(tx)
        core.engine.accept(tx, RUN, plan([[[]]], targets=(TARGET,), lost=(policy,)))
        saved = core._save(tx)
    core._follow(saved)
    member = core.members[MACHINE]
    (live,) = core.ledger.live.values()

    def takes(number: int, body: UpBody, result: bytes = b"") -> None:
        said = Message(f"{number}-0", member.up.seal(pack_up(1, number, body), UP), live.id if result else "", result)
        with store.write() as tx:
            core._intake.apply(tx, member, Collected(MACHINE, [], [said]))
            saved = core._save(tx)
        core._follow(saved)

    takes(1, Started(live.id, NOON))
    core.ledger.lost(live, "its worker was lost")
    packed = pack_result(Outcome("succeeded", None, (), NOON, NOON, 5))
    takes(2, Finished(live.id), member.results.seal(packed, result_place(live.id)))

    with store.read() as tx:
        rows = tx.execute("SELECT state, evidence IS NOT NULL FROM dispatches ORDER BY attempt").fetchall()
    assert rows == [("lost", 1)] + ([("queued", 0)] if policy == "retry" else [])
    core._spawner.close()
    store.close()

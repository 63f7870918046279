"""Whatever workers and Redis do, RQ's books tell in the end what runs, and nothing else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swamp.broker.functions import Job, load_library, mirror, push
from swamp.orchestrator import outgoing
from swamp.orchestrator.ledger import Ledger
from swamp.orchestrator.members import Live, Member, Process
from swamp.orchestrator.mirror import UNSHOWN
from swamp.orchestrator.outgoing import Outgoing

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = "2026-06-15T11:34:58.961Z"
WORKERS = ("one", "two")


class Scene:
    """The books' keeper, with a ledger and members that do what a test says."""

    def __init__(self, server: redis.Redis) -> None:
        server.flushall()
        load_library(server)
        self.server, self.at, self.count = server, 100.0, 0  # `at`: monotonic seconds
        self.ledger = Ledger(cast("Any", None), lambda: self.at)
        for name in WORKERS:
            self.ledger.members[name] = cast(
                "Member",
                SimpleNamespace(
                    machine=name, worker=name, target="node", process=Process(), running=set[str](), granted=set[str](),
                    connected=True, shown=False,
                ),
            )  # fmt: skip
        self.transport = SimpleNamespace(up=True, holds=False, mirror=self._mirror)
        nothing = SimpleNamespace(replies=[], leaving=[], stranded=[], may_push=False, has_room=True)
        nothing.lost = self._lost
        self.outgoing = Outgoing(
            "boot", cast("Any", self.transport), cast("Any", nothing), self.ledger, cast("Any", nothing),
            cast("Any", nothing), cast("Any", nothing), lambda: NOW,
        )  # fmt: skip

    def _lost(self, error: redis.RedisError) -> None:
        raise error

    def _mirror(self, records: Sequence[tuple[object, ...]]) -> None:
        mirror(self.server, records, NOW, 1781523298.0 + self.at)

    @property
    def running(self) -> list[str]:
        return sorted(self.ledger.live)

    def start(self, worker: str) -> None:
        self.count += 1
        live = Live(f"node--r-{self.count}-1", "r", self.count, 1, "node")
        push(self.server, "node", [Job(live.id, b"call", "d", b"sealed")], NOW)
        self.ledger.live[live.id] = live
        self.ledger.lane("node").queued[live.id] = self.at
        self.ledger.began(live, self.ledger.members[worker], 1, NOW)

    def end(self, dispatch: str) -> None:
        live = self.ledger.live[dispatch]
        member = self.ledger.members[live.machine]
        self.ledger.ended(live, "finished", "succeeded", worker="", error=None, duration_ms=3)
        self.outgoing.tell([])
        if self.transport.up and member.connected:
            assert self.server.hget(f"rq:worker:{member.worker}", "state") == (b"busy" if member.running else b"idle")

    def redis_away(self) -> None:
        self.transport.up = False
        self.outgoing.tell([])

    def redis_back(self) -> None:
        self.transport.up = True
        self.server.delete("rq:wip:node")
        for member in self.ledger.members.values():
            member.shown = False
        self.outgoing.tell([])
        self.ledger.record_what_runs(NOW)

    def look(self) -> None:
        """When all that is to be shown is."""
        listed = {f"{dispatch}:a1".encode() for dispatch in self.running}
        assert set(self.server.zrange("rq:wip:node", 0, -1)) == listed
        for name, member in self.ledger.members.items():
            mine = {f"{dispatch}:a1".encode() for dispatch in member.running}
            hash_, executions = f"rq:worker:{name}", f"rq:worker:{name}:executions"
            assert -1 not in (self.server.ttl(hash_), self.server.ttl(executions)), "all of it goes away by itself"
            if not member.connected:
                continue
            assert self.server.smembers(executions) == mine
            state, current = cast("list[bytes | None]", self.server.hmget(hash_, "state", "current_job"))
            assert (state, current is not None) == ((b"busy", True) if mine else (b"idle", False))
            assert current is None or current + b":a1" in mine


MOVES = st.tuples(
    st.sampled_from(("start", "start", "end", "end", "wait", "come or go", "join again", "away", "back")),
    st.integers(0, 5),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(MOVES, st.sampled_from((False, False, False, True))), min_size=5, max_size=30))
def test_the_books_tell_what_runs(full: redis.Redis, moves: list[tuple[tuple[str, int], bool]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        scene = Scene(full)
        patch.setattr(outgoing, "time", SimpleNamespace(monotonic=lambda: scene.at))
        for (move, number), settled in moves:
            worker = WORKERS[number % 2]
            member = scene.ledger.members[worker]
            if move == "start" and scene.transport.up:
                scene.start(worker)
            elif move == "end" and scene.running:
                scene.end(scene.running[number % len(scene.running)])
            elif move == "wait":
                scene.at += number / 10
            elif move == "come or go":
                member.connected = not member.connected
            elif move == "join again":
                member.shown = False
            elif move == "away" and scene.transport.up:
                scene.redis_away()
            elif move == "back" and not scene.transport.up:
                scene.redis_back()
            scene.outgoing.tell([])
            if settled and scene.transport.up:
                scene.at += UNSHOWN
                scene.outgoing.tell([])
                scene.look()

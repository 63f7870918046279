"""How often a step makes somebody wait for Redis (e)."""

from __future__ import annotations

from collections.abc import Callable

from bench.figures import Contender, Measured, Row
from bench.peers import HUEY, RQ_FORK, RQ_SIMPLE, Peer, peer_stage
from bench.proxy import CountingProxy
from bench.running import RedisServer
from bench.stage import expect, stage

PEER_TASKS = 200


def round_trip_row(steps: int, *, peers: bool) -> Row:
    contenders = [
        Contender("swamp probe", _swamp(steps, "probe", "echo")),
        Contender("swamp shell", _swamp(max(2, steps // 5), "shell", "execute")),
    ]
    if peers:
        contenders += [Contender(peer.name, _peer(peer)) for peer in (HUEY, RQ_SIMPLE, RQ_FORK)]
    return Row(
        "e",
        "Redis round trips per step at 16 slots, counted by a proxy between everybody and the server",
        ("worker", "orchestrator"),
        tuple(contenders),
    )


def _swamp(steps: int, model: str, method: str) -> Callable[[], Measured]:
    def measure() -> Measured:
        with stage() as here, RedisServer(here.scratch / "redis") as server, CountingProxy() as proxy:
            here.serve("--redis-url", proxy.listen(server.port))
            here.work("16")
            here.warm(model, method)
            here.workflow("fan", steps, model, method)
            before = dict(proxy.trips)
            expect(here.run("fan"), steps)
            worker, other = (proxy.trips[who] - before[who] for who in ("worker", "other"))
        return {"worker": worker / steps, "orchestrator": other / steps}

    return measure


def _peer(peer: Peer) -> Callable[[], Measured]:
    def measure() -> Measured:
        with CountingProxy() as proxy, peer_stage(peer, counted=proxy) as there:
            before = proxy.trips["other"]
            there.run("noop", PEER_TASKS)
            return {"worker": (proxy.trips["other"] - before) / PEER_TASKS}

    return measure

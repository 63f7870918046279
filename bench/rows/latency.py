"""One step at a time: through an idle worker (c), and as a person types it (d)."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

from bench.figures import OTHERS, Contender, Measured, Row, per_thousand, percentile
from bench.peers import HUEY, HUEY_NOTIFY, RQ_FORK, RQ_SIMPLE, Peer, peer_stage
from bench.procfs import Meter, ended_children_seconds
from bench.stage import expect, stage

SHARE = {"huey": 4}  # it waits 50 ms at a time


def latency_row(runs: int, *, peers: bool) -> Row:
    contenders = [Contender("swamp", lambda: _swamp(runs))]
    if peers:
        contenders += [Contender(peer.name, _peer(peer, runs)) for peer in (RQ_SIMPLE, RQ_FORK, HUEY, HUEY_NOTIFY)]
    return Row(
        "c",
        f"one placed step through an idle worker, ms from submitted to stored, {runs} runs (peers: not on disk)",
        ("p50 ms", "p95 ms"),
        tuple(contenders),
        ("rq-simple", "huey-notify"),
    )


def command_row(runs: int) -> Row:
    return Row(
        "d",
        f"swamp workflow run remote-demo, the whole command, {runs} runs",
        ("median s", "p95 s", "of it Python and imports s"),
        (Contender("swamp", lambda: _command(runs)),),
    )


def _swamp(runs: int) -> Measured:
    """From the request until it is told that the run has ended, which is told once that is on disk."""
    with stage() as here:
        here.serve()
        here.work("auto")
        here.workflow("one", 1, "probe", "echo")
        for _ in range(5):
            here.follow("one")
        took = []
        meter = Meter(here.groups)
        for _ in range(runs):
            begin = time.perf_counter()
            here.follow("one")
            took.append((time.perf_counter() - begin) * 1000)
        cpu, others = meter.read()
    return {"p50 ms": median(took), "p95 ms": percentile(took, 0.95), OTHERS: others, **per_thousand(cpu, runs)}


def _peer(peer: Peer, runs: int) -> Callable[[], Measured]:
    def measure() -> Measured:
        with peer_stage(peer) as there:
            there.one_by_one(5)
            count = max(2, runs // SHARE.get(peer.name, 1))
            driver = ended_children_seconds()
            meter = Meter(there.groups)
            took = there.one_by_one(count)
            cpu, others = meter.read(more=[ended_children_seconds() - driver])
        return {"p50 ms": median(took), "p95 ms": percentile(took, 0.95), OTHERS: others, **per_thousand(cpu, count)}

    return measure


def _command(runs: int) -> Measured:
    with stage() as here:
        here.serve()
        here.work("auto")
        here.workflow("remote-demo", 1, "shell", "execute")
        took, floor, cpu = [], [], []
        for _ in range(runs + 1):
            ran = expect(here.run("remote-demo"), 1)
            took.append(ran.seconds)
            cpu.append(ran.cpu["command"])
            begin = time.monotonic()
            here.swamp("--version")
            floor.append(time.monotonic() - begin)
    return {
        "median s": median(took[1:]),
        "p95 s": percentile(took[1:], 0.95),
        "of it Python and imports s": median(floor[1:]),
        **per_thousand({"command": median(cpu) * 1000}, 1000),
    }

"""What it costs that a worker reaches Redis through the orchestrator's port: work (i), and waiting (j)."""

from __future__ import annotations

import socket
import time
from statistics import median

from bench.figures import OTHERS, Contender, Measured, Row, per_thousand, percentile
from bench.rows.idle import COLUMNS, idle
from bench.running import BenchFailed
from bench.stage import expect, stage


def tunnel_row(steps: int) -> Row:
    runs = max(10, steps // 50)
    return Row(
        "i",
        f"{steps:,} steps of swamp/probe echo as in a, and {runs} runs of one as in c, Redis reached by the worker",
        ("steps/s", "one step p50 ms", "p95 ms"),
        (
            Contender("directly", lambda: _measure("127.0.0.1", steps, runs)),
            Contender("through the tunnel", lambda: _measure(_own_address(), steps, runs)),
        ),
        ("directly",),
    )


def tunnel_idle_row(workers: int, seconds: float) -> Row:
    return Row(
        "j",
        f"{workers} idle workers as in f, Redis reached by them",
        COLUMNS,
        (
            Contender("directly", lambda: idle(workers, seconds)),
            Contender("through the tunnel", lambda: idle(workers, seconds, _own_address(), "--insecure-bind")),
        ),
    )


def _measure(host: str, steps: int, runs: int) -> Measured:
    """A worker that comes from an address that is not loopback is told of the tunnel alone."""
    with stage(host) as here:
        here.serve(*([] if host == "127.0.0.1" else ["--insecure-bind"]))
        here.work("16")
        here.workflow("one", 1, "probe", "echo")
        for _ in range(5):
            here.follow("one")
        took = []
        for _ in range(runs):
            begin = time.perf_counter()
            here.follow("one")
            took.append((time.perf_counter() - begin) * 1000)
        here.workflow("fan", steps, "probe", "echo")
        ran = expect(here.run("fan"), steps)
        way = "the orchestrator's port" in here.worker.output()
    if way == (host == "127.0.0.1"):
        raise BenchFailed("the worker reached Redis by another way than was to be measured")
    return {
        "steps/s": ran.per_second,
        "one step p50 ms": median(took),
        "p95 ms": percentile(took, 0.95),
        OTHERS: ran.others,
        **per_thousand(ran.cpu, steps),
    }


def _own_address() -> str:
    """An address of this machine that is not loopback: the one that packets to elsewhere would bear. None is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            address = str(probe.getsockname()[0])
        except OSError as error:
            raise BenchFailed(f"this machine has no address but loopback: {error}") from error
    return address

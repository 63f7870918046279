"""Many steps at once: steps of `swamp/probe` (a), shell commands (b), and what memory they take (h)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping

from bench.figures import OTHERS, Contender, Measured, Row, per_thousand
from bench.peers import HUEY, RQ_FORK, RQ_SIMPLE, Peer, peer_stage
from bench.procfs import Group, Meter, children, ended_children_seconds, proportional_mb, resident_mb
from bench.running import BenchFailed
from bench.stage import SHELL, expect, stage

#: RQ takes so long that it gets a part of the work: its rate does not depend on how much there is.
SHARE = {"rq-simple": 10, "rq-fork": 50}


def probe_row(steps: int, *, peers: bool) -> Row:
    contenders = [Contender("swamp", lambda: _swamp(steps, "probe", "echo", "16"))]
    if peers:
        contenders += [_peer(peer, "noop", steps) for peer in (HUEY, RQ_SIMPLE, RQ_FORK)]
    return Row(
        "a",
        f"{steps:,} steps of swamp/probe echo to one worker, --concurrency 16, first to last result (peers: a noop)",
        ("steps/s", "whole command s"),
        tuple(contenders),
        ("huey", "rq-simple"),
    )


def shell_row(steps: int, *, peers: bool) -> Row:
    contenders = [
        Contender("swamp", lambda: _swamp(steps, "shell", "execute", "auto")),
        Contender("xargs -P2", lambda: _xargs(steps)),
    ]
    if peers:
        contenders += [_peer(peer, "shell", steps) for peer in (HUEY, RQ_SIMPLE, RQ_FORK)]
    return Row(
        "b",
        f"{steps:,} times sh -c '{SHELL}', --concurrency auto",
        ("steps/s", "whole command s"),
        tuple(contenders),
        ("xargs -P2", "huey", "rq-simple"),
    )


def memory_row(steps: int, *, peers: bool) -> Row:
    contenders = [Contender("swamp", lambda: _swamp_memory(steps))]
    if peers:
        contenders += [Contender(peer.name, _peer_memory(peer, steps)) for peer in (HUEY, RQ_SIMPLE)]
    return Row(
        "h",
        f"resident memory, MB, idle and after {steps:,} steps of swamp/probe echo",
        (
            *("orchestrator idle", "orchestrator after", "orchestrator after, shared pages divided"),
            *("worker idle", "worker after", "worker after, shared pages divided"),
            *("keeper after", "keeper after, shared pages divided"),
            *("redis idle", "redis after"),
        ),
        tuple(contenders),
    )


def _swamp(steps: int, model: str, method: str, concurrency: str) -> Measured:
    with stage() as here:
        here.serve()
        here.work(concurrency)
        here.warm(model, method)
        here.workflow("fan", steps, model, method)
        ran = expect(here.run("fan"), steps)
    return {
        "steps/s": ran.per_second,
        "whole command s": ran.seconds,
        OTHERS: ran.others,
        **per_thousand(ran.cpu, steps),
    }


def _swamp_memory(steps: int) -> Measured:
    with stage() as here:
        here.serve()
        here.work("16")
        (keeper,) = children(here.worker.pid)
        groups = {
            **here.groups,
            "worker": Group(here.worker.pid, without=(keeper,)),
            "keeper": Group(keeper),
        }
        found = {f"{name} idle": resident_mb(group) for name, group in groups.items()}
        here.workflow("fan", steps, "probe", "echo")
        expect(here.run("fan"), steps)
        return {**found, **_memory_after(groups)}


def _peer(peer: Peer, kind: str, steps: int) -> Contender:
    def measure() -> Measured:
        count = _share(peer, steps)
        with peer_stage(peer) as there:
            ran = there.run(kind, count)
        return {"steps/s": ran.per_second, OTHERS: ran.others, **per_thousand(ran.cpu, count)}

    return Contender(peer.name, measure)


def _peer_memory(peer: Peer, steps: int) -> Callable[[], Measured]:
    def measure() -> Measured:
        with peer_stage(peer) as there:
            idle = {f"{name} idle": resident_mb(group) for name, group in there.groups.items()}
            there.run("noop", _share(peer, steps))
            return {**idle, **_memory_after(there.groups)}

    return measure


def _memory_after(groups: Mapping[str, Group]) -> Measured:
    return {
        **{f"{name} after": resident_mb(group) for name, group in groups.items()},
        **{f"{name} after, shared pages divided": proportional_mb(group) for name, group in groups.items()},
    }


def _share(peer: Peer, steps: int) -> int:
    return max(2, steps // SHARE.get(peer.name, 1))


def _xargs(steps: int) -> Measured:
    """No queue at all."""
    before = ended_children_seconds()
    meter = Meter({})
    begin = time.monotonic()
    done = subprocess.run(
        ["xargs", "-P2", "-n1", "sh", "-c", SHELL],
        input="".join(f"{number}\n" for number in range(steps)),
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - begin
    cpu = ended_children_seconds() - before
    if done.returncode != 0 or done.stdout.count("\n") != steps:
        raise BenchFailed(f"xargs ended with {done.returncode}: {done.stderr}")
    _, others = meter.read(more=[cpu])
    return {
        "steps/s": steps / seconds,
        "whole command s": seconds,
        OTHERS: others,
        **per_thousand({"all": cpu}, steps),
    }

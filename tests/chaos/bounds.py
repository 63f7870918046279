"""Whether memory and keys are bounded."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import redis

from tests.chaos.cluster import NODE, placed
from tests.chaos.judging import Report, swamp
from tests.waiting import wait_until


def bounds(steps: int, batches: int = 20, limits: Mapping[str, float] | None = None) -> Report:
    """G11: many steps; once the first half is over, memory and keys must not grow any more. `limits`: what is watched,
    and how much it may grow for every 1,000 steps."""
    report, limits = Report(), MOST_GROWTH if limits is None else limits
    with swamp() as made:
        made.models()
        made.sync = ""
        each = steps // batches
        made.workflow("many", {"name": "job", "steps": [placed(f"s{n}", "probe", NODE, "fail") for n in range(each)]})
        made.ready(NODE, concurrency=16)
        samples: list[dict[str, float]] = []
        for _ in range(batches):
            made.submitted("many")
            wait_until(lambda: made.runs_under_way() == 0, "the run to end", timeout=900)
            with made.redis() as server:
                keys = _settled(server)
                memory = server.info("memory")
            samples.append(
                {
                    "orchestrator kB": resident_kb(made.orchestrator.pid),
                    "worker kB": resident_kb(made.machines[NODE].process.pid),
                    "server kB": resident_kb(made.redis_pid()),
                    "server kB in use": memory["used_memory"] / 1024,
                    "keys": keys,
                }
            )
        for what, limit in limits.items():
            values = [sample[what] for sample in samples[batches // 2 :]]
            slope = slope_of(values) / each * 1000
            report.figures.append(
                f"{what}: {samples[0][what]:.0f} after {each}, {values[-1]:.0f} after {steps};"
                f" {slope:+.2f} for 1,000 steps"
            )
            if slope > limit:
                report.judge("G11", [f"{what} grows by {slope:.1f} for every 1,000 steps"])
        report.judge("G11", [])
    return report


def _settled(server: redis.Redis) -> float:
    """The number of keys, once RQ's books are kept and what is too old in them is deleted."""
    last = -1
    while (keys := int(str(server.dbsize()))) != last:
        last = keys
        time.sleep(0.5)
    return float(keys)


#: What the orchestrator has from the system moves by two or three megabytes up and down, as its interpreter takes and
#: gives back whole arenas; over 100,000 steps that can look like 30 kB for every 1,000. A worker remembers 16 bytes of
#: each id that it has seen, of at most a million, in pieces that grow by an eighth. What the server has moves with the
#: rewriting of its append-only file; what it uses must not.
MOST_GROWTH = {"orchestrator kB": 40.0, "worker kB": 35.0, "server kB": 100.0, "server kB in use": 5.0, "keys": 0.5}


def slope_of(values: list[float]) -> float:
    """The growth from one value to the next: least squares."""
    n = len(values)
    mean_x, mean_y = (n - 1) / 2, sum(values) / n
    return sum((x - mean_x) * (y - mean_y) for x, y in enumerate(values)) / sum((x - mean_x) ** 2 for x in range(n))


def resident_kb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("VmRSS:")))

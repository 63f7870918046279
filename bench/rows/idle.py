"""What it costs to have many workers that do nothing (f)."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from bench.figures import OTHERS, Contender, Measured, Row
from bench.peers import ROOT
from bench.procfs import Meter, resident_mb
from bench.running import Running, wait_until
from bench.stage import stage

COLUMNS = ("orchestrator CPU %", "redis CPU %", "orchestrator MB", "redis MB", "joined in s", "holder CPU %")


def idle_row(workers: int, seconds: float) -> Row:
    return Row(
        "f",
        f"orchestrator with {workers} idle workers (one process holds them), over {seconds:g} s",
        COLUMNS,
        (Contender("swamp", lambda: idle(workers, seconds)),),
    )


def idle(workers: int, seconds: float, host: str = "127.0.0.1", *arguments: str) -> Measured:
    """With an orchestrator at this address, started with these arguments."""
    with stage(host) as here:
        here.serve(*arguments)
        token = here.token("--max-enrollments", "unlimited")
        machines = here.scratch / "machines"
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "bench.idle_workers",
            here.url,
            token,
            machines,
            str(workers),
        ]
        begin = time.monotonic()
        with Running(command, ROOT, {}, here.scratch / "holder.log") as holder:
            here.worker = holder

            def everybody_is_there() -> bool:
                time.sleep(0.2)  # to ask costs the orchestrator more than to have them
                return sum(worker["status"] != "disconnected" for worker in here.client.workers()) == workers

            wait_until(everybody_is_there, f"{workers} workers to join", 30 + workers * 0.5)
            joined = time.monotonic() - begin
            time.sleep(min(5.0, seconds))  # until what joining left to do is done
            meter = Meter(here.groups)
            begin = time.monotonic()
            time.sleep(seconds)
            passed = time.monotonic() - begin
            cpu, others = meter.read()
            memory = {name: resident_mb(group) for name, group in here.groups.items()}
    return {
        "orchestrator CPU %": 100 * cpu["orchestrator"] / passed,
        "redis CPU %": 100 * cpu["redis"] / passed,
        "orchestrator MB": memory["orchestrator"],
        "redis MB": memory["redis"],
        "joined in s": joined,
        "holder CPU %": 100 * cpu["worker"] / passed,
        OTHERS: others,
    }

"""Whether a long workflow is slower per step than a short one, and what it takes to have it (g)."""

from __future__ import annotations

from statistics import median

from bench.figures import OTHERS, Contender, Measured, Row, per_thousand
from bench.procfs import peak_mb
from bench.stage import expect, stage

SHORT = 1_000
SHORT_RUNS = 5


def length_row(steps: int) -> Row:
    short = min(SHORT, max(1, steps // 10))
    return Row(
        "g",
        f"a workflow of {steps:,} steps of swamp/probe echo against one of {short:,}, --concurrency 16",
        (
            "steps/s of the run",
            "first to last result",
            "whole command s",
            "orchestrator peak MB",
            "worker peak MB",
            "redis peak MB",
        ),
        (
            Contender(f"{short:,} steps", lambda: _swamp(short, SHORT_RUNS)),
            Contender(f"{steps:,} steps", lambda: _swamp(steps, 1)),
        ),
        (f"{short:,} steps",),
    )


def _swamp(steps: int, runs: int) -> Measured:
    with stage() as here:
        here.serve()
        here.work("16")
        here.warm("probe", "echo")
        here.workflow("fan", steps, "probe", "echo")
        ran = [expect(here.run("fan"), steps) for _ in range(runs)]
        peaks = {f"{name} peak MB": peak_mb(group) for name, group in here.groups.items()}
    cpu = {name: median(each.cpu[name] for each in ran) for name in ran[0].cpu}
    return {
        "steps/s of the run": median(each.whole_per_second for each in ran),
        "first to last result": median(each.per_second for each in ran),
        "whole command s": median(each.seconds for each in ran),
        **peaks,
        OTHERS: median(each.others for each in ran),
        **per_thousand(cpu, steps),
    }

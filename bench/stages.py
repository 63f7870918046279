"""`make bench BENCH_ARGS="--stages"`: where the time of a step goes.

The clocks cost about a microsecond a stage and make everything a little slower; what to read is how the stages compare.
"""

from __future__ import annotations

from bench.stage import Stage, stage
from bench.staged import STAGES

Times = dict[str, dict[str, list[float]]]


def stage_tables(steps: int) -> str:
    """Three tables: instant steps in numbers, shell steps in numbers, one step at a time."""
    shell = max(1, steps // 5)
    return "\n\n".join(
        (
            _table(f"{steps:,} steps of swamp/probe, 16 slots", steps, _clocked("probe", "echo", "16", steps)),
            _table(
                f"{shell:,} steps of sh -c, a slot per processor", shell, _clocked("shell", "execute", "auto", shell)
            ),
            _table("one step of swamp/probe at a time, 200 runs", 200, _clocked("probe", "echo", "1", 1, 200)),
        )
    )


def _clocked(model: str, method: str, slots: str, steps: int, runs: int = 1) -> Times:
    with stage(clocked=True) as here:
        here.serve()
        here.work(slots)
        here.workflow("fan", steps, model, method)
        _again(here, model, method)
        for _ in range(5 if runs > 1 else 0):
            here.follow("fan")
        here.times()
        for _ in range(runs):
            here.follow("fan")
        return here.times()


def _again(here: Stage, model: str, method: str) -> None:
    """What is done once has been done, and the worker knows what such steps take."""
    here.workflow("some", 50, model, method)
    here.follow("some")


def _table(title: str, steps: int, times: Times) -> str:
    lines = [title, f"{'':<14}{'':<32}{'µs per step':>12}{'of it processor':>17}{'calls per step':>16}"]
    for process, of_process in times.items():
        for stage_name, *_ in STAGES:
            if (row := of_process.get(stage_name)) and row[2]:
                lines.append(_line(process, stage_name, steps, *row))
                process = ""
        lines.append(_line("", "together", steps, *_sums(of_process), None))
    return "\n".join(lines)


def _sums(of_process: dict[str, list[float]]) -> tuple[float, float]:
    return sum(row[0] for row in of_process.values()), sum(row[1] for row in of_process.values())


def _line(process: str, name: str, steps: int, wall: float, cpu: float, calls: float | None) -> str:
    often = "" if calls is None else f"{calls / steps:.3f}"
    return f"{process:<14}{name:<32}{wall / steps * 1e6:>12.1f}{cpu / steps * 1e6:>17.1f}{often:>16}"

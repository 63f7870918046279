"""Fills Huey's queue and collects its results."""

from __future__ import annotations

import time

from bench.peer_programs import huey_tasks
from bench.peer_programs.driving import main


def fill(kind: str, batch: str, count: int) -> None:
    task = getattr(huey_tasks, kind)
    for _ in range(count):
        task(batch)


def stored() -> int:
    return int(huey_tasks.huey.result_count())


def results() -> list[object]:
    items = huey_tasks.huey.all_results().values()
    return [huey_tasks.huey.serializer.deserialize(item) for item in items]


def one() -> float:
    begin = time.perf_counter()
    handle = huey_tasks.noop("one")
    result = handle.get(blocking=True, timeout=10)
    seconds = time.perf_counter() - begin
    if result["message"] != "one":
        raise SystemExit("a result is missing")
    return seconds


main(fill, stored, results, one)

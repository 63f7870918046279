"""However often anybody asks, it is looked at once a second."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from swamp.monitoring.health import FRESH, Readiness
from swamp.orchestrator.readiness import why_not_ready


class Probe:
    def __init__(self) -> None:
        self.asked = 0
        self.now = 100.0

    async def __call__(self) -> str | None:
        self.asked += 1
        await asyncio.sleep(0)
        return f"answer {self.asked}"


def test_who_asks_at_the_same_time_or_soon_after_gets_the_same_answer():
    async def ask() -> None:
        probe = Probe()
        readiness = Readiness(probe, lambda: probe.now)
        assert await asyncio.gather(*(readiness.why_not() for _ in range(20))) == ["answer 1"] * 20
        probe.now += FRESH / 2
        assert await readiness.why_not() == "answer 1"
        probe.now += FRESH / 2
        assert await readiness.why_not() == "answer 2"

    asyncio.run(ask())


def test_a_disk_that_takes_nothing_is_the_reason(tmp_path: Path):
    core: Any = SimpleNamespace(repo=SimpleNamespace(database=tmp_path / "gone" / "swamp.db"))
    assert asyncio.run(why_not_ready(core)) == "disk"

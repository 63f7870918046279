"""The bench still measures what it says it does. What it finds is no test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> dict[str, dict]:
    """The rows that were measured, by letter."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--no-peers", "--repeat", "1", "--json", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {row["row"]: row for row in json.loads(done.stdout)["rows"]}


def test_the_bench_measures_a_small_fan_out_and_the_way_of_one_step():
    rows = bench("--steps", "50", "--only", "a,c")
    assert set(rows) == {"a", "c"}
    for row in rows.values():
        (swamp,) = row["contenders"]
        assert all(figure["median"] >= 0 and len(figure["samples"]) == 1 for figure in swamp["figures"].values())
        assert {"orchestrator", "worker", "redis"} <= set(swamp["cpuSecondsPer1000Steps"])


def test_the_bench_measures_what_the_tunnel_costs():
    rows = bench("--steps", "50", "--only", "i,j", "--workers", "3", "--seconds", "1")
    assert set(rows) == {"i", "j"}
    for row in rows.values():
        assert [contender["name"] for contender in row["contenders"]] == ["directly", "through the tunnel"]
        assert all(contender["figures"] for contender in row["contenders"])


def test_the_bench_tells_the_stages_of_a_step():
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--stages", "--steps", "50"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for stage in ("commit", "keep RQ's books", "note them as seen", "run a program", "store results in the outbox"):
        assert stage in done.stdout

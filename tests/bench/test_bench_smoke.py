"""The bench still measures what it says it does. What it finds is no test."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import __main__ as program
from bench.figures import Contender, Measured, Row
from bench.running import BenchFailed

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


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("--only", "a,z"), "there is no row 'z'; rows: a, b, c"),
        (("--only", ""), "there is no row ''"),
        (("--repeat", "0"), "'0' is not a whole number from 1 on"),
        (("--steps", "1"), "'1' is not a whole number from 2 on"),
        (("--workers", "-3"), "'-3' is not a whole number from 1 on"),
        (("--seconds", "nan"), "'nan' is not a number of seconds above 0"),
        (("--stages", "--json"), "--stages prints tables only"),
    ],
)
def test_what_the_bench_cannot_do_is_refused_before_anything_is_measured(
    wrong: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["bench", *wrong])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.fixture
def a_handler_of_its_own() -> Iterator[None]:
    """The program takes TERM for its own; here it is a guest."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("a_handler_of_its_own")
def test_a_row_that_could_not_be_measured_is_in_the_json_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail() -> Measured:
        raise BenchFailed("huey has 3 of 10 results")

    rows = [Row("a", "one", ("steps/s",), (Contender("huey", fail),))]
    rows.append(Row("b", "other", ("steps/s",), (Contender("swamp", lambda: {"steps/s": 2.0}),)))
    monkeypatch.setattr(program, "_rows", lambda options: rows)
    monkeypatch.setattr(sys, "argv", ["bench", "--json", "--repeat", "1"])
    assert program.main() == 1
    failed, measured = json.loads(capsys.readouterr().out)["rows"]
    assert failed == {"row": "a", "title": "one", "notMeasured": "huey has 3 of 10 results"}
    assert measured["contenders"][0]["figures"]["steps/s"]["median"] == 2.0

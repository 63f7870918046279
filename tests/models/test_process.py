"""A step's processes are heard while they run and end when they should, the whole group of them."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from swamp.clock import iso_now
from swamp.models.invoke import Cancellation, invoke
from tests.models.steps import Step, is_alive, result
from tests.waiting import wait_until


@pytest.fixture(params=["process descriptors", "no process descriptors", "keeper"], autouse=True)
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every promise holds on systems without `pidfd_open` too, and whoever starts the programs."""
    if request.param == "no process descriptors":
        monkeypatch.delattr(os, "pidfd_open")
    if request.param == "keeper":
        request.getfixturevalue("keeper")


@pytest.fixture
def strays() -> Iterator[list[int]]:
    """Processes that a step leaves behind on purpose; ended after the test."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)


def pids_in(step: Step) -> list[int]:
    return [int(word) for word in step.printed("stdout").split() if word.isdigit()]


def test_lines_are_heard_while_the_command_runs_and_streams_are_told_apart(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    with Step(tmp_path, "echo one; echo two >&2; printf thr; cat go; echo ee; printf end") as step:
        step.start("one")
        wait_until(lambda: ("stderr", b"two\n") in step.heard, "the line on stderr")
        assert step.printed("stdout") == b"one\n", "a line is not shown before it is whole"
        (tmp_path / "go").write_bytes(b"")
        step.end()
    assert [lines for stream, lines in step.heard if stream == "stdout"][-1] == b"end"
    assert step.printed("stdout") == b"one\nthree\nend"
    assert step.printed("stderr") == b"two\n"


def test_the_command_leads_a_session_of_its_own(tmp_path: Path) -> None:
    with Step(tmp_path, "echo $$; ps -o pgid=,sid= -p $$ 2>/dev/null || cut -d' ' -f5,6 /proc/$$/stat") as step:
        step.run()
    pid, group, session = pids_in(step)
    assert pid == group == session != os.getpgid(0)


def test_canceling_ends_the_whole_group(tmp_path: Path) -> None:
    with Step(tmp_path, "sleep 60 & echo $!; (sleep 60 & echo $!; sleep 60) & echo $!; echo begun; wait") as step:
        step.start("begun")
        wait_until(lambda: len(pids_in(step)) == 3, "three processes")
        step.cancellation.set("enough")
        assert step.end().status == "canceled"
        assert not any(is_alive(pid) for pid in pids_in(step))


def test_a_command_gets_the_chance_to_clean_up(tmp_path: Path) -> None:
    with Step(tmp_path, "trap 'echo cleaned; exit 0' TERM; echo begun; while :; do sleep 0.01; done") as step:
        step.start("begun")
        step.cancellation.set("enough", grace=10)
        outcome = step.end()
    assert outcome.status == "canceled", "it was stopped, whatever its exit code says"
    assert (result(outcome)["stdout"], result(outcome)["exitCode"]) == ("begun\ncleaned", 0)


def test_a_group_that_outlives_its_shell_gets_the_same_chance(tmp_path: Path) -> None:
    inner = "trap 'sleep 0.5; touch cleaned; exit 0' TERM; echo begun; while :; do sleep 0.01; done"
    with Step(tmp_path, f'sh -c "{inner}" & wait') as step:
        step.start("begun")
        step.cancellation.set("enough", grace=10)
        step.end()
    assert (tmp_path / "cleaned").exists()


def test_what_does_not_heed_term_is_killed_after_the_grace(tmp_path: Path) -> None:
    with Step(tmp_path, "trap '' TERM; sleep 60 & echo $!; echo begun; while :; do sleep 60; done") as step:
        step.start("begun")
        asked = time.monotonic()
        step.cancellation.set("enough", grace=0.2)
        outcome = step.end()
        assert 0.2 <= time.monotonic() - asked < 5
        assert result(outcome)["exitCode"] == -9
        wait_until(lambda: not is_alive(pids_in(step)[0]), "the deaf child to die")


def test_a_deaf_process_that_outlives_its_shell_is_killed_after_the_grace(tmp_path: Path) -> None:
    with Step(tmp_path, "(trap '' TERM; sh -c 'echo $$'; exec sleep 60) & echo $!; wait") as step:
        step.start("\n")
        wait_until(lambda: len(pids_in(step)) == 2, "both processes")
        step.cancellation.set("enough", grace=0.2)
        assert result(step.end())["exitCode"] == -15
        wait_until(lambda: not any(is_alive(pid) for pid in pids_in(step)), "the deaf process to die")


def test_asking_again_brings_the_kill_forward(tmp_path: Path) -> None:
    with Step(tmp_path, "trap 'echo heard' TERM; echo begun; while :; do sleep 0.01; done") as step:
        step.start("begun")
        step.cancellation.set("first", grace=60)
        wait_until(lambda: b"heard" in step.printed("stdout"), "the command to shrug TERM off")
        step.cancellation.set("second", grace=0)
        assert (step.end().error, result(step.end())["exitCode"]) == ("first", -9)


def test_a_stopped_command_can_be_canceled(tmp_path: Path) -> None:
    with Step(tmp_path, "echo $$; kill -STOP $$") as step:
        step.start("\n")
        step.cancellation.set("enough", grace=0.1)
        assert step.end().status == "canceled"


def test_the_time_limit_kills_what_does_not_heed_term(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swamp.models.stopping.TIMEOUT_GRACE", 0.1)
    with Step(tmp_path, "trap '' TERM; while :; do sleep 60; done", timeout=50) as step:
        outcome = step.run()
    assert (outcome.error, result(outcome)["exitCode"]) == ("Command timed out after 50 ms", -9)


def test_a_background_process_that_holds_the_pipes_does_not_hold_the_step(tmp_path: Path, strays: list[int]) -> None:
    with Step(tmp_path, "sleep 60 & echo $!; printf 'no newline'") as step:
        outcome = step.run()
    strays.append(int(result(outcome)["stdout"].split()[0]))
    assert outcome.status == "succeeded"
    assert outcome.duration_ms < 2000
    assert result(outcome)["stdout"].endswith("no newline")
    assert step.printed("stdout").endswith(b"no newline")
    assert is_alive(strays[0]), "a service that a step starts stays"


def test_what_a_pipeline_still_writes_after_the_shell_is_kept(tmp_path: Path) -> None:
    with Step(tmp_path, "(sleep 0.05; echo late) & echo early") as step:
        assert result(step.run())["stdout"] == "early\nlate"


def test_a_background_process_that_never_stops_writing_does_not_hold_the_step(
    tmp_path: Path, strays: list[int]
) -> None:
    with Step(tmp_path, "(while :; do echo more; sleep 0.001; done) & echo $!") as step:
        outcome = step.run()
    strays.append(pids_in(step)[0])
    assert outcome.duration_ms < 2000


def test_a_process_that_closes_its_outputs_is_waited_for_and_can_be_canceled(tmp_path: Path) -> None:
    with Step(tmp_path, "echo begun; exec >&- 2>&-; sleep 0.1; touch done") as step:
        step.run()
        assert (tmp_path / "done").exists()
    with Step(tmp_path, "echo begun; exec >&- 2>&-; sleep 60") as step:
        step.start("begun")
        step.cancellation.set("enough")
        assert step.end().status == "canceled"


def test_a_flood_of_output_does_not_delay_a_cancellation(tmp_path: Path) -> None:
    heard = 0

    def count(stream: str, lines: bytes) -> None:
        nonlocal heard
        heard += len(lines)

    with Step(tmp_path, "yes", emit=count) as step:
        step._thread.start()
        wait_until(lambda: heard > 1_000_000, "a megabyte")
        asked = time.monotonic()
        step.cancellation.set("enough")
        assert step.end().status == "canceled"
        assert time.monotonic() - asked < 2


def test_a_waiting_step_uses_no_processor(tmp_path: Path) -> None:
    with Step(tmp_path, "sleep 0.4") as step:
        before = resource.getrusage(resource.RUSAGE_SELF)
        step.run()
        after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.1


def test_steps_side_by_side_do_not_hold_each_others_pipes(tmp_path: Path) -> None:
    seconds: list[float] = []

    def short() -> None:
        for _ in range(20):
            with Cancellation() as cancellation:
                surroundings = replace(model.surroundings, environment={"PATH": os.defpath}, cancellation=cancellation)
                start = time.monotonic()
                assert invoke(model.invocation, surroundings, iso_now).status == "succeeded"
                seconds.append(time.monotonic() - start)

    with Step(tmp_path, "sleep 60") as long, Step(tmp_path, "echo x") as model:
        long._thread.start()
        threads = [threading.Thread(target=short) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(seconds) == 160
    assert sorted(seconds)[80] < 0.15, "one that waits for another's pipe takes 0.2 s"

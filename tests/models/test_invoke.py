"""An invocation always ends in an outcome."""

from __future__ import annotations

import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from swamp.clock import iso_now
from swamp.models.invoke import invoke
from tests.models.steps import Step, is_alive
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("spawner")


def test_an_unknown_type_or_method_is_a_failed_outcome(tmp_path: Path) -> None:
    with Step(tmp_path, "true") as step:
        for changed in (replace(step.invocation, model_type="a/b"), replace(step.invocation, method="destroy")):
            outcome = invoke(changed, step.surroundings, iso_now)
            assert outcome.status == "failed"
            assert changed.model_type in str(outcome.error)
            assert changed.method in str(outcome.error)


def test_a_step_that_was_canceled_before_it_began_starts_nothing(tmp_path: Path) -> None:
    with Step(tmp_path, "touch traces") as step:
        step.cancellation.set("no longer wanted")
        outcome = step.run()
    assert (outcome.status, outcome.error, outcome.outputs) == ("canceled", "no longer wanted", ())
    assert not (tmp_path / "traces").exists()


def test_times_come_from_the_given_clock(tmp_path: Path) -> None:
    moments = iter(["2026-06-15T11:34:58.961Z", "2026-06-15T11:36:59.000Z"])
    with Step(tmp_path, "true") as step:
        outcome = invoke(step.invocation, step.surroundings, lambda: next(moments))
    # It begins when there is a keeper to begin it.
    assert "2026-06-15T11:34:58.961Z" <= outcome.started_at < "2026-06-15T11:35:30.000Z"
    assert outcome.ended_at == "2026-06-15T11:36:59.000Z"


def test_a_mistake_in_the_ear_fails_the_step_and_ends_its_command(tmp_path: Path) -> None:
    def deaf(stream: str, lines: bytes) -> None:
        (tmp_path / "pid").write_bytes(lines)
        raise RuntimeError("the ear is broken")

    with Step(tmp_path, "echo $$; sleep 60", emit=deaf) as step:
        outcome = step.run()
    assert (outcome.status, outcome.error) == ("failed", "RuntimeError: the ear is broken")
    assert not is_alive(int((tmp_path / "pid").read_text()))


def test_an_interrupt_passes_through_after_the_command_was_ended(tmp_path: Path) -> None:
    def interrupt() -> None:
        wait_until(lambda: step.printed("stdout").endswith(b"\n"), "the command to begin")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with Step(tmp_path, "echo $$; sleep 60") as step:
        beside = threading.Thread(target=interrupt)
        beside.start()
        with pytest.raises(KeyboardInterrupt):
            step.run()
        beside.join()
    assert not is_alive(int(step.printed("stdout")))


def test_many_steps_leave_no_descriptor_and_no_thread(tmp_path: Path) -> None:
    def kept() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    with Step(tmp_path, "true") as first:
        first.run()
    before = kept()
    for run in ("echo x", "exit 1", "sleep 0.5 &", "exec >&- 2>&-"):
        with Step(tmp_path, run) as step:
            step.run()
    with Step(tmp_path, "true", workingDir="nowhere") as step:
        step.run()
    assert kept() == before

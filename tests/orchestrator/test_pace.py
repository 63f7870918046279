"""Log lines about single steps come behind the work, in order, and not too many of them."""

from __future__ import annotations

import logging

import pytest

from swamp.pace import Pace

log = logging.getLogger("swamp.orchestrator")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock, caplog: pytest.LogCaptureFixture) -> Pace:
    caplog.set_level(logging.INFO, logger="swamp.orchestrator")
    return Pace(log, 2, clock)


def test_lines_wait_for_the_end_of_the_work_and_keep_their_time(pace: Pace, caplog: pytest.LogCaptureFixture) -> None:
    pace.info("step %s started", "a", about=lambda: {"run": "r1"})
    pace.always("run %s finished", "r1")
    assert not caplog.records
    before = logging.LogRecord("", logging.INFO, "", 0, "", (), None).created
    pace.catch_up()
    pace.catch_up()
    assert caplog.messages == ["step a started", "run r1 finished"]
    assert vars(caplog.records[0])["run"] == "r1"
    assert all(record.created <= before for record in caplog.records)


def test_of_too_many_the_first_are_written_and_the_others_counted(
    pace: Pace, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[int] = []

    def about(number: int) -> dict[str, object]:
        asked.append(number)
        return {}

    for number in range(5):
        pace.info("step %d", number, about=lambda number=number: about(number))  # type: ignore[misc]
    pace.always("run finished")
    pace.catch_up()
    assert caplog.messages == ["step 0", "step 1", "run finished"]
    assert asked == [0, 1]
    clock.now += 1
    pace.catch_up()
    assert caplog.messages[3:] == ["(3 more lines like these)"]
    for number in range(3):
        pace.info("step %d", number)
    clock.now += 1
    pace.info("the next second")
    pace.catch_up()
    assert caplog.messages[4:] == ["step 0", "step 1", "(1 more lines like these)", "the next second"]


def test_nothing_is_made_of_a_line_that_nobody_wants(pace: Pace, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="swamp.orchestrator")
    pace.info("step", about=lambda: pytest.fail("asked for"))
    pace.catch_up()
    assert not caplog.records

"""Steps in line: each is started once or given back, never both."""

from __future__ import annotations

import json
import queue
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from swamp.clock import iso_now
from swamp.wire.messages import Dispatch
from tests.waiting import wait_until
from tests.workers.dispatches import dispatch
from workers.slots import Slots, StepEnded, StepNotBegun, StepSaid

Event = StepSaid | StepEnded | StepNotBegun


def shell(number: int, run: str) -> Dispatch:
    return dispatch(number, run=run)


@pytest.fixture
def told() -> queue.SimpleQueue[Event]:
    return queue.SimpleQueue()


@pytest.fixture
def slots(tmp_path: Path, told: queue.SimpleQueue[Event]) -> Iterator[Slots]:
    slots = Slots(2, "machine", tmp_path, {"PATH": "/usr/bin:/bin"}, told.put)
    yield slots
    slots.close()


def test_what_stands_in_line_can_be_given_back_and_what_was_started_cannot(
    tmp_path: Path, slots: Slots, told: queue.SimpleQueue[Event]
):
    for number in range(2):
        slots.start(shell(number, f"touch began-{number}; while [ ! -e go ]; do sleep 0.01; done"))
    wait_until(lambda: (tmp_path / "began-0").exists() and (tmp_path / "began-1").exists(), "both slots to be busy")
    for number in range(2, 6):
        slots.start(shell(number, f"touch began-{number}"))
    assert slots.busy
    assert slots.unstarted == 4

    given = slots.give_back()
    while len(given) < 4:  # the spawner had some of them already
        given.append(not_begun(slots, told.get(timeout=10)))
    assert sorted(given) == [f"node--{number}" for number in range(2, 6)]
    assert slots.unstarted == 0
    assert set(slots.running) == {"node--0", "node--1"}
    (tmp_path / "go").touch()
    ended = {
        event.dispatch.id for event in (told.get(timeout=10), told.get(timeout=10)) if isinstance(event, StepEnded)
    }
    assert ended == {"node--0", "node--1"}
    slots.start(shell(6, "touch began-6"))
    last = told.get(timeout=10)
    assert isinstance(last, StepEnded)
    assert last.dispatch.id == "node--6", "the line goes on behind what was given back"
    assert sorted(path.name for path in tmp_path.glob("began-*")) == ["began-0", "began-1", "began-6"]


def not_begun(slots: Slots, event: Event) -> str:
    assert isinstance(event, StepNotBegun)
    slots.ended(event.dispatch)
    return event.dispatch


def test_every_step_is_either_started_or_given_back_whenever_that_is_asked_for(
    tmp_path: Path, slots: Slots, told: queue.SimpleQueue[Event]
):
    given: list[str] = []
    for number in range(150):
        slots.start(shell(number, f"echo >> began-{number}"))
        if number % 7 == 0:
            given += slots.give_back()
    ended: list[str] = []
    while len(given) + len(ended) < 150:
        event = told.get(timeout=20)
        if isinstance(event, StepEnded):
            ended.append(event.dispatch.id)
        elif isinstance(event, StepNotBegun):
            given.append(event.dispatch)
    assert sorted(given + ended) == sorted(f"node--{number}" for number in range(150))
    ran = {f"node--{path.name.removeprefix('began-')}" for path in tmp_path.glob("began-*")}
    assert ran == set(ended)
    assert all(path.read_text() == "\n" for path in tmp_path.glob("began-*"))
    assert slots.unstarted == 0


def test_no_more_steps_run_at_once_than_there_are_slots(tmp_path: Path, slots: Slots, told: queue.SimpleQueue[Event]):
    for number in range(40):
        slots.start(shell(number, "echo begins >> log; sleep 0.01; echo ends >> log"))
    for _ in range(40):
        event = told.get(timeout=20)
        assert isinstance(event, StepEnded)
        assert event.outcome.status == "succeeded"
    running = most = 0
    for line in (tmp_path / "log").read_text().splitlines():
        running += 1 if line == "begins" else -1
        most = max(most, running)
    assert most == 2


def test_one_slot_starts_the_steps_in_the_order_of_the_line(tmp_path: Path, told: queue.SimpleQueue[Event]):
    before = sys.getswitchinterval()
    slots = Slots(1, "machine", tmp_path, {"PATH": "/usr/bin:/bin"}, told.put)
    try:
        sys.setswitchinterval(1e-6)  # its threads overtake each other wherever they can
        for number in range(150):
            slots.start(shell(number, f"echo {number} >> order"))
        ended = 0
        while ended < 150:
            ended += isinstance(told.get(timeout=20), StepEnded)
    finally:
        sys.setswitchinterval(before)
        slots.close()
    assert (tmp_path / "order").read_text().split() == [str(number) for number in range(150)]


def test_the_time_of_a_step_is_from_when_its_turn_came(tmp_path: Path, slots: Slots, told: queue.SimpleQueue[Event]):
    def turns() -> int:
        return len((tmp_path / "turns-0").read_text()) + len((tmp_path / "turns-1").read_text())

    for number in range(2):
        slots.start(shell(number, f"while [ ! -e go ]; do echo >> turns-{number}; sleep 0.01; done"))
    wait_until(lambda: (tmp_path / "turns-0").exists() and (tmp_path / "turns-1").exists(), "both slots to be busy")
    slots.start(shell(2, "echo its turn"))
    wait_until(lambda: "node--2" in slots._asked, "the step to wait for its turn")
    asked = turns()
    wait_until(lambda: turns() > asked + 50, "the others to take time that is not its own")
    waiting = iso_now()
    wait_until(lambda: turns() > asked + 60, "the others to take a little more of it")  # times are told in milliseconds
    since = time.monotonic()
    (tmp_path / "go").touch()
    while not (isinstance(event := told.get(timeout=10), StepEnded) and event.dispatch.id == "node--2"):
        pass
    outcome = event.outcome
    assert waiting <= outcome.started_at <= outcome.ended_at
    assert outcome.duration_ms <= (time.monotonic() - since) * 1000
    result = json.loads(next(output.content for output in outcome.outputs if output.name == "result"))  # type: ignore[arg-type]
    assert result["executedAt"] == outcome.started_at
    assert result["durationMs"] <= outcome.duration_ms


def test_a_step_that_is_canceled_while_it_waits_for_its_turn_is_not_started(
    tmp_path: Path, slots: Slots, told: queue.SimpleQueue[Event]
):
    for number in range(2):
        slots.start(shell(number, f"touch began-{number}; while [ ! -e go ]; do sleep 0.01; done"))
    wait_until(lambda: (tmp_path / "began-0").exists() and (tmp_path / "began-1").exists(), "both slots to be busy")
    slots.start(shell(2, "touch began-2"))
    wait_until(lambda: bool(slots._asked), "the step to be asked for")
    slots.cancel("node--2", "not wanted any more", 1.0)
    event = told.get(timeout=10)
    assert isinstance(event, StepEnded)
    assert (event.dispatch.id, event.outcome.status, event.outcome.error) == (
        "node--2", "canceled", "not wanted any more",
    )  # fmt: skip
    (tmp_path / "go").touch()
    assert {told.get(timeout=10).dispatch.id for _ in range(2)} == {"node--0", "node--1"}  # type: ignore[union-attr]
    assert not (tmp_path / "began-2").exists()


def test_an_output_that_nobody_would_take_fails_its_step(
    slots: Slots, told: queue.SimpleQueue[Event], monkeypatch: pytest.MonkeyPatch
):
    """Else it would be sent again and again, and its run never end."""
    monkeypatch.setattr("workers.slots.LARGEST_CONTENT", 100_000)
    slots.start(shell(1, "head -c 100001 /dev/zero | tr '\\0' x"))
    while not isinstance(ended := told.get(timeout=10), StepEnded):
        pass
    assert (ended.outcome.status, ended.outcome.outputs, ended.contents) == ("failed", (), {})
    assert "100000 can be kept" in (ended.outcome.error or "")

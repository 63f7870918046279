"""Steps in line: each is started once or given back, never both."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from swamp.wire.messages import Dispatch
from tests.waiting import wait_until
from tests.workers.dispatches import dispatch
from workers.slots import Slots, StepEnded, StepSaid


def shell(number: int, run: str) -> Dispatch:
    return dispatch(number, run=run)


@pytest.fixture
def told() -> queue.SimpleQueue[StepSaid | StepEnded]:
    return queue.SimpleQueue()


@pytest.fixture
def slots(tmp_path: Path, told: queue.SimpleQueue[StepSaid | StepEnded]) -> Iterator[Slots]:
    slots = Slots(2, "machine", tmp_path, {"PATH": "/usr/bin:/bin"}, told.put)
    yield slots
    slots.close()


def test_what_stands_in_line_can_be_given_back_and_what_was_started_cannot(
    tmp_path: Path, slots: Slots, told: queue.SimpleQueue[StepSaid | StepEnded]
):
    for number in range(2):
        slots.start(shell(number, f"touch began-{number}; while [ ! -e go ]; do sleep 0.01; done"))
    wait_until(lambda: (tmp_path / "began-0").exists() and (tmp_path / "began-1").exists(), "both slots to be busy")
    for number in range(2, 6):
        slots.start(shell(number, f"touch began-{number}"))
    assert slots.busy
    assert slots.unstarted == 4

    assert slots.give_back() == [f"node--{number}" for number in range(2, 6)]
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


def test_every_step_is_either_started_or_given_back_whenever_that_is_asked_for(
    tmp_path: Path, slots: Slots, told: queue.SimpleQueue[StepSaid | StepEnded]
):
    given: list[str] = []
    for number in range(150):
        slots.start(shell(number, f"echo >> began-{number}"))
        if number % 7 == 0:
            given += slots.give_back()
    started = {f"node--{number}" for number in range(150)} - set(given)
    ended = {event.dispatch.id for _ in started if isinstance(event := told.get(timeout=20), StepEnded)}
    assert ended == started
    assert len(given) == len(set(given))
    ran = {f"node--{path.name.removeprefix('began-')}" for path in tmp_path.glob("began-*")}
    assert ran == started
    assert all(path.read_text() == "\n" for path in tmp_path.glob("began-*"))


def test_an_output_that_nobody_would_take_fails_its_step(
    slots: Slots, told: queue.SimpleQueue[StepSaid | StepEnded], monkeypatch: pytest.MonkeyPatch
):
    """Else it would be sent again and again, and its run never end."""
    monkeypatch.setattr("workers.slots.LARGEST_CONTENT", 100_000)
    slots.start(shell(1, "head -c 100001 /dev/zero | tr '\\0' x"))
    while isinstance(ended := told.get(timeout=10), StepSaid):
        pass
    assert (ended.outcome.status, ended.outcome.outputs, ended.contents) == ("failed", (), {})
    assert "100000 can be kept" in (ended.outcome.error or "")

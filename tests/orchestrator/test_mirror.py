"""What RQ's tools get to see of workers and failures holds nothing that a machine could slip into a page."""

from __future__ import annotations

import zlib
from base64 import b64decode
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swamp.orchestrator.members import Member, Process
from swamp.orchestrator.mirror import UNSHOWN, Unshown, failure, packed_text, worker_fields


class Seen:
    """As much of a member as is shown."""

    def __init__(self, process: Process, *running: str) -> None:
        self.process, self.running = process, set(running)


def fields(process: Process, *running: str) -> dict[str, str]:
    flat = worker_fields(cast("Member", Seen(process, *running)), "2026-06-15T11:34:58.961Z")
    return dict(zip(flat[::2], flat[1::2], strict=True))


def test_a_worker_is_shown_with_its_process_and_the_versions():
    assert fields(Process("builder.example", "10.0.0.7", 4711, "0.1.0", "3.11.2")) == {
        "birth": "2026-06-15T11:34:58.961Z",
        "state": "idle",
        "hostname": "builder.example",
        "pid": "4711",
        "ip_address": "10.0.0.7",
        "version": "swamp-0.1.0",
        "python_version": "3.11.2",
        "shutdown_requested_date": "",
    }
    assert fields(Process(), "node--7f3e-0-1")["state"] == "busy"


@given(st.text())
def test_whatever_a_worker_says_of_itself_fits_into_a_line_and_a_page(said: str):
    for text in fields(Process(said, said, 1, said, said)).values():
        assert len(text) < 80
        assert not set(text) & set("<>&\"' \n\r\t\0")


@pytest.mark.parametrize(
    "reason",
    [
        "Command exited with code 3",
        "Command exited with code -4",
        "Command was ended by signal SIGKILL",
        "Command was ended by signal 34",
        "Command timed out after 100 ms",
    ],
)
def test_a_failure_that_cannot_tell_too_much_is_shown_as_it_is(reason: str):
    assert failure(reason, "7f3e") == f"{reason}\nswamp workflow history get 7f3e"


@pytest.mark.parametrize(
    "reason",
    [
        "The working directory /srv/secret does not exist",
        "Command exited with code 3\nand more",
        "Command exited with code <b>",
        "Command exited with code ٣",
        "",
    ],
)
def test_any_other_failure_is_only_said_to_be_one(reason: str):
    assert failure(reason, "7f3e") == "The step failed\nswamp workflow history get 7f3e"


@given(st.text())
def test_packed_text_is_what_rq_unpacks(text: str):
    assert zlib.decompress(b64decode(packed_text(text))).decode() == text


NOW = "2026-06-15T11:34:58.961Z"


def record(kind: str, number: int) -> tuple[object, ...]:
    said = ("t", f"t--{number}", "a1", "w", NOW)
    return (kind, *said, "", "finished", "", "1.000") if kind == "ended" else (kind, *said)


def test_a_start_is_shown_when_it_has_lasted_and_an_end_takes_off_only_what_may_be_listed():
    books = Unshown()
    assert books.told([record("started", 1), record("running", 2), record("started", 3)], NOW, 7.0) == [
        record("started", 2)
    ]
    assert ("t--1" in books, "t--2" in books, books.due) == (True, False, 7.0 + UNSHOWN)
    told = books.told([record("ended", number) for number in (1, 2, 4)], NOW, 7.1)
    assert [(one[0], one[2], one[6], one[-1]) for one in told] == [
        ("ended", "t--1", NOW, 0),
        ("ended", "t--2", NOW, 1),
        ("ended", "t--4", NOW, 1),
    ], "what may be listed is taken off the lists"
    assert books.told([], NOW, 7.0 + UNSHOWN) == [record("started", 3)]
    assert ("t--3" in books, books.due) == (False, float("inf"))
    assert books.told([], NOW, float("inf")) == []


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from((0.0, 0.125, 0.25, 1.0)))))
def test_what_is_listed_is_what_has_run_long_enough(moves: list[tuple[int, float]]):
    """Each move starts the step if it does not run and ends it if it does, some time after the one before."""
    books, at = Unshown(), 0.0
    began: dict[str, float] = {}
    listed: set[str] = set()
    for number, later in moves:
        at += later
        dispatch = f"t--{number}"
        kind = "ended" if dispatch in began else "started"
        for one in books.told([record(kind, number)], NOW, at):
            if one[0] == "started":
                assert one[2] not in listed
                listed.add(str(one[2]))
            else:
                assert one[-1] == int(one[2] in listed)
                listed.discard(str(one[2]))
        if kind == "started":
            began[dispatch] = at
        else:
            del began[dispatch]
        assert listed == {running for running, since in began.items() if at - since >= UNSHOWN}
        assert all((running in books) == (running not in listed) for running in began)

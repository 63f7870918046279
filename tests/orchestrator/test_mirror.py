"""What RQ's tools get to see of workers and failures holds nothing that a machine could slip into a page."""

from __future__ import annotations

import zlib
from base64 import b64decode
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swamp.orchestrator.members import Member, Process
from swamp.orchestrator.mirror import books, failure, packed_text, worker_fields


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


def test_what_started_and_ended_since_the_last_time_is_told_once():
    now = "2026-06-15T11:34:58.961Z"
    started, running = ("started", "t", "t--1", "a1", "w", now), ("running", "t", "t--2", "a1", "w", now)
    ended = [("ended", "t", f"t--{number}", "a1", "w", now, "", "finished", "", "1.000") for number in (1, 2, 3)]
    told = books([running, started, *ended], now)
    assert [(record[0], record[2]) for record in told] == [
        ("started", "t--2"),
        ("ended", "t--1"),
        ("ended", "t--2"),
        ("ended", "t--3"),
    ]
    assert [record[-1] for record in told[1:]] == [0, 1, 1], "what may be listed is taken off the lists"
    assert books([started], now) == [started]

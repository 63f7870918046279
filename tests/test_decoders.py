"""Whatever the bytes, a decoder gives a value or refuses them with an error of ours. (What is under `swamp/wire`, YAML,
vault files and enrollment tokens have tests of their own that say so.)"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from swamp.broker import location
from swamp.clock import parse_duration
from swamp.errors import SwampError
from swamp.names import check_name, check_target, run_of
from swamp.orchestrator import app, client, exposure, gate
from swamp.orchestrator.keys import load_keys
from swamp.repo import Repo
from swamp.tokens import access
from swamp.tokens.token import parse_max_enrollments
from workers.identity import Identity
from workers.records import RecordFile
from workers.session import session_url

DEEP = b"[" * 200_000


def remote(text: str) -> object:
    return client.remote(text, "swamp-client.x." + "0" * 64, None)


def told_to_workers(text: str) -> object:
    return exposure.check_redis("redis://127.0.0.1:6379", text, insecure=False)


TEXTS: list[Callable[[str], object]] = [
    access.parse, location.parse, location.shown, told_to_workers, session_url, remote, parse_duration,
    parse_max_enrollments, check_target, run_of,
]  # fmt: skip

#: Texts that begin as the right ones do get further.
PARTS = [
    "swamp-client.",
    "redis://",
    "rediss://",
    "unix://",
    "redis+sentinel://",
    "ws://",
    "https://",
    "[",
    "]",
    "@",
    ":",
    "/",
    "?",
    "#",
    "%",
    "0",
    "65536",
    "localhost",
    ",",
    ".",
    "a",
    "é",
    "٣",
    "--",
    "1h",
    "::1",
]
texts = st.text(max_size=80) | st.lists(st.sampled_from([*PARTS, "\0", "\n", " "]), max_size=12).map("".join)


@pytest.mark.parametrize("read", TEXTS, ids=lambda read: f"{read.__module__}.{read.__name__}")
@given(text=texts)
def test_any_text_is_read_or_refused(read: Callable[[str], object], text: str) -> None:
    with suppress(SwampError):
        read(text)


@given(host=texts)
def test_any_host_is_ours_or_is_not(host: str) -> None:
    assert gate.names_us(host, ["swamp.example"]) in (True, False)


@given(name=texts)
def test_any_name_is_one_or_is_not(name: str) -> None:
    with suppress(SwampError):
        check_name(name, "model")


@given(body=st.binary(max_size=200))
@example(body=DEEP)
@example(body=b'{"workflow": "x", "run": 7}')
@example(body=b'{"workflow": "x", "timeout": "9e999h"}')
@example(body=b'{"workflow": "x", "timeout": "99999999999999999999d"}')
@example(body=b'{"workflow": "x", "timeout": ["1h"]}')
@example(body=b'{"probe": null}')
@example(body=b"\xff\xfe")
def test_any_body_of_a_request_is_read_or_refused(body: bytes) -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    with suppress(SwampError):
        asyncio.run(app._wanted(request))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300))
@example(content=DEEP)
def test_any_content_of_a_key_file_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    repo = Repo(tmp_path)
    repo.keys.mkdir(parents=True, exist_ok=True)
    (repo.keys / "orchestrator.json").write_bytes(content)
    repo.serve_info.write_bytes(content)
    for read in (load_keys, client.find):
        with suppress(SwampError):
            read(repo)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300), name=st.sampled_from(["machine.key", "orchestrator.pub", "epoch"]))
def test_any_content_of_a_machines_files_is_read_or_refused(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with suppress(SwampError), closing(Identity.load_or_create(tmp_path)) as identity:
        identity.next_epoch()
        assert identity.pinned is None or identity.pinned.static
    (tmp_path / name).unlink()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300))
def test_any_content_of_an_outbox_is_read_as_far_as_it_is_sound(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "records"
    file.write_bytes(content)
    with suppress(SwampError):
        with closing(RecordFile(file)) as records:
            sound = [payload for _, payload in records.scan()]
            records.append([b"more"])
        with closing(RecordFile(file)) as again:
            assert [payload for _, payload in again.scan()] == [*sound, b"more"]

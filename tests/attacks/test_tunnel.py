"""The tunnel to Redis, and who would have it: machines that did not join, that were put out, or that stuff it."""

# ruff: noqa: F401, F811 - fixtures of the end-to-end tests
from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from swamp.wire import tunnel
from tests.attacks.members import joined
from tests.e2e.conftest import initialized, runtime, stage
from tests.e2e.stage import Stage
from tests.waiting import wait_until
from workers.session import NotReached, Session
from workers.tunnel import Tunnel

REFUSED = "no session of this machine has such a ticket"


def answers(one: Tunnel) -> bool:
    """Whether a server speaks at the other end; it lets nobody in who does not say who it is."""
    one.near.settimeout(5)
    try:
        one.near.sendall(b"PING\r\n")
        return one.near.recv(1000).startswith(b"-NOAUTH")
    except OSError:
        return False


def is_cut(one: Tunnel) -> bool:
    one.near.settimeout(0.01)
    try:
        return one.near.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def log_in(session: Session, one: Tunnel) -> None:
    """Redis is patient with those that it knows."""
    welcome = session.welcome
    one.near.settimeout(5)
    one.near.sendall(f"AUTH {welcome.redis_user} {welcome.redis_password}\r\n".encode())
    assert one.near.recv(1000) == b"+OK\r\n"


@pytest.fixture
def session(stage: Stage) -> Iterator[Session]:
    token = stage.token()
    stage.serve()
    with joined(stage, token) as session:
        yield session


def test_a_machine_without_a_session_gets_no_tunnel(stage: Stage):
    """It has the token, the key, and the ticket of a session that it had."""
    token = stage.token()
    stage.serve()
    with joined(stage, token) as session:
        assert answers(session.tunnel())
    wait_until(lambda: refused(session) == REFUSED, "the session to be over")


def refused(session: Session) -> str:
    """Why no tunnel opens; empty if one does."""
    try:
        session.tunnel().cut()
    except NotReached as error:
        return str(error)
    return ""


def test_the_ticket_of_another_machine_opens_nothing(stage: Stage):
    first, second = stage.token("one"), stage.token("two")
    stage.serve()
    with joined(stage, first, "first") as session, joined(stage, second, "second") as thief:
        assert refused(session) == ""
        thief.welcome = replace(thief.welcome, tunnel=session.welcome.tunnel)
        assert refused(thief) == REFUSED
        for made_up in ("", "0" * 32, "x" * 60_000):
            thief.welcome = replace(thief.welcome, tunnel=made_up)
            assert refused(thief) == REFUSED


def test_a_session_gets_three_connections_and_no_more(session: Session):
    three = [session.tunnel() for _ in range(3)]
    assert refused(session) == "a session has at most 3 connections to Redis"
    assert all(map(answers, three))
    three[0].cut()
    wait_until(lambda: refused(session) == "", "its place to be free")
    assert all(map(answers, three[1:]))


SHAMS: dict[str, Callable[[Tunnel], object]] = {
    "bytes that were not sealed": lambda one: one._websocket.send(b"*1\r\n$4\r\nPING\r\n"),
    "bytes of chance": lambda one: one._websocket.send(os.urandom(1000)),
    "no bytes": lambda one: one._websocket.send(b""),
    "a text": lambda one: one._websocket.send("PING"),
    "a frame that carries nothing": lambda one: one._websocket.send(one._noise.encrypt(b"")),
    "a frame that carries too much": lambda one: one._websocket.send(
        one._noise.encrypt(b"PING\r\n" * (tunnel.LONGEST // 6 + 1))
    ),
    "more than a frame may ever be": lambda one: one._websocket.send(bytes(3 << 20)),
}


@pytest.mark.parametrize("sham", SHAMS)
def test_what_is_no_frame_ends_the_tunnel_and_nothing_else(session: Session, sham: str):
    good, bad = session.tunnel(), session.tunnel()
    assert answers(good)
    log_in(session, bad)
    with suppress(ConnectionClosed, OSError):  # it may be cut while we still send
        SHAMS[sham](bad)
    wait_until(lambda: is_cut(bad), "the tunnel to be cut")
    assert answers(good)


def test_a_machine_that_is_put_out_loses_its_tunnel_within_a_second(stage: Stage, session: Session):
    """It never said to Redis who it is, so Redis has no reason to cut it."""
    one = session.tunnel()
    assert answers(one)
    assert stage.swamp("worker", "token", "revoke", "node").code == 0
    wait_until(lambda: is_cut(one), "the tunnel to be cut", timeout=1)
    assert refused(session)


def test_a_machine_that_joins_anew_loses_the_tunnels_of_its_old_session(stage: Stage):
    token = stage.token()
    stage.serve()
    with joined(stage, token, "first") as old:
        one = old.tunnel()
        assert answers(one)
        # The same machine: a copy of its cache directory, whose lock nobody holds.
        (stage.scratch / "copy").mkdir()
        for file in ("machine.key", "orchestrator.json"):
            there = stage.scratch / "first" / file
            if there.exists():
                (stage.scratch / "copy" / file).write_bytes(there.read_bytes())
        with joined(stage, token, "copy"):
            wait_until(lambda: is_cut(one), "the tunnel to be cut", timeout=2)
            assert refused(old)


def orchestrator_mb(stage: Stage) -> float:
    """What it keeps in memory, its Redis server not counted."""
    pid = json.loads((stage.root / ".swamp/serve.json").read_text())["pid"]
    (kilobytes,) = re.findall(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(kilobytes) / 1000


@contextmanager
def sending(one: Tunnel, data: bytes) -> Iterator[list[int]]:
    """Send it again and again, as long as somebody takes it; how much was taken, in bytes."""
    taken = [0]
    over = threading.Event()
    one.near.settimeout(2)

    def send() -> None:
        with suppress(OSError):
            while not over.is_set():
                taken[0] += one.near.send(data)

    thread = threading.Thread(target=send)
    thread.start()
    yield taken
    over.set()
    one.cut()
    thread.join()


def test_answers_that_nobody_reads_are_not_kept_by_the_orchestrator(stage: Stage, session: Session):
    one = session.tunnel()
    log_in(session, one)
    before = orchestrator_mb(stage)
    payload = b"x" * 200_000
    with sending(one, b"*2\r\n$4\r\nPING\r\n$%d\r\n%s\r\n" % (len(payload), payload)) as taken:
        wait_until(lambda: taken[0] > 100_000_000, "a hundred megabytes to be sent", timeout=60)
        assert orchestrator_mb(stage) - before < 30
        assert answers(session.tunnel())


def test_what_redis_does_not_take_waits_at_the_worker(stage: Stage, session: Session):
    one = session.tunnel()
    assert answers(one)
    redis_pid = int((stage.root / ".swamp/redis/redis.pid").read_text())
    before = orchestrator_mb(stage)
    os.kill(redis_pid, signal.SIGSTOP)
    try:
        with sending(one, bytes(100_000)) as taken:
            last = -1
            while last != taken[0] < 30_000_000:  # it would take all of the machine's memory
                last = taken[0]
                time.sleep(1)
            assert taken[0] < 30_000_000
            assert orchestrator_mb(stage) - before < 30
    finally:
        os.kill(redis_pid, signal.SIGCONT)

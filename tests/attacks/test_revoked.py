"""A machine that was put out and does not want to go: it ignores what it is told, keeps its connections, and goes on
sending."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import pytest
import redis

from swamp.clock import from_iso, iso, utc_now
from swamp.wire import messages
from swamp.wire.messages import BlobPart, Hello
from tests.attacks.conftest import Intruder
from tests.e2e.stage import Stage
from tests.redis_py import connect
from tests.waiting import wait_until
from workers.identity import Identity
from workers.session import NotReached, Session, TurnedAway, join

SECOND = 1.0  #: everything is cut within
MACHINES = int(os.environ.get("REVOKED_MACHINES", "10"))


class Stubborn:
    """A joined machine that reads nothing of what it is told."""

    def __init__(self, stage: Stage, token: str, directory: Path) -> None:
        self.stage, self.token = stage, token
        self.identity = Identity.load_or_create(directory)
        self.session = self.join()
        # Not even the close of the connection is answered.
        setattr(self.session._websocket.protocol, "receive_data", lambda _data: None)  # noqa: B010 - for mypy
        welcome = self.session.welcome
        self.redis: redis.Redis = connect(
            welcome.redis_url or "", username=welcome.redis_user, password=welcome.redis_password
        )
        self.redis.ping()

    def join(self) -> Session:
        name, _, secret = self.token.partition(".")
        hello = Hello(
            messages.PROTOCOL,
            "0",
            self.identity.next_epoch(),
            0,
            "linux/x86_64",
            1,
            iso(utc_now()),
            "bad",
            1,
            "3",
            3600.0,
        )
        return join(self.stage.url, name, bytes.fromhex(secret), self.identity, lambda: hello)

    @property
    def socket_is_open(self) -> bool:
        """At the orchestrator's end: whether what is sent is taken."""
        try:
            self.session._send(BlobPart("0" * 64, b"x", False))
        except (NotReached, OSError):
            return False
        return True

    @property
    def redis_is_open(self) -> bool:
        try:
            self.redis.ping()
        except redis.RedisError:
            return False
        return True

    def close(self) -> None:
        self.session.close()
        self.redis.close()
        self.identity.close()


@contextmanager
def stubborn(stage: Stage, token: str, name: str) -> Iterator[Stubborn]:
    machine = Stubborn(stage, token, stage.scratch / name)
    try:
        yield machine
    finally:
        machine.close()


def fleet(stage: Stage, machines: int) -> str:
    made = stage.json("worker", "token", "create", "node", "--duration", "1h", "--max-enrollments", str(machines))
    return str(made["token"])


def gone_after(machine: Stubborn, since: float) -> float:
    """Seconds until both of its connections were cut."""
    wait_until(lambda: not machine.redis_is_open, "its connection to Redis to be cut", timeout=5)
    wait_until(lambda: not machine.socket_is_open, "its session to be cut", timeout=5)
    return time.monotonic() - since


def test_who_is_revoked_is_cut_off_within_a_second_and_nothing_of_it_is_taken(stage: Stage, intruder: Intruder):
    token = stage.token()
    orchestrator = stage.serve()
    full = intruder(stage)
    with stubborn(stage, token, "bad") as bad:
        users = full.execute_command("ACL", "USERS")
        assert any(name.startswith(b"swamp-m-") for name in users)
        assert stage.swamp("worker", "token", "revoke", "node").code == 0
        # The command says so when it is done.
        assert not any(name.startswith(b"swamp-m-") for name in full.execute_command("ACL", "USERS"))
        assert not bad.redis_is_open
        assert gone_after(bad, time.monotonic()) < SECOND
        content = b"late" * 30_000
        with pytest.raises(NotReached):
            bad.session.store(hashlib.sha256(content).hexdigest(), content)
        with pytest.raises(TurnedAway, match="was revoked"):
            bad.join()
    assert orchestrator.running
    assert not [path for path in (stage.root / ".swamp/data/blobs").rglob("*") if path.is_file()]


def test_one_of_a_fleet_is_put_out_and_the_others_get_another_key(stage: Stage, intruder: Intruder):
    token = fleet(stage, 2)
    stage.serve()
    good = stage.worker(token, "good")
    with stubborn(stage, token, "bad") as bad:
        before = dict(bad.session.welcome.target_keys)
        machine = bad.identity.machine_id
        assert (
            f"✓ Machine {machine} of token node revoked."
            in stage.swamp("worker", "token", "revoke", "node", "--machine", machine).stdout
        )
        assert gone_after(bad, time.monotonic()) < SECOND
        good.wait_for_line("joined again")
        good.wait_for_line("waiting for work")
        with pytest.raises(TurnedAway, match="was put out of token 'node'"):
            bad.join()
        stage.task("hello", "echo hello")
        good_before = _generation(stage)
        run = stage.start_run("hello")
        assert run.wait_for_end() == 0
        assert good_before not in before, "what is sealed now, it cannot open"
    with pytest.raises(TurnedAway, match="as many as it may"), stubborn(stage, token, "bad-again"):
        pass
    rotated = str(stage.json("worker", "token", "rotate", "node")["token"])
    with stubborn(stage, rotated, "new"):
        assert stage.swamp("worker", "token", "list").stdout.split()[-1] == "2/2"


def _generation(stage: Stage) -> int:
    ((generation,),) = stage.rows("SELECT key_generation FROM tokens")
    return int(generation)


#: Keeps a server busy from a process of its own: two thirds of a core, and 200 commands between two others.
BUSY = """
import sys, redis
client = redis.Redis.from_url(sys.argv[1], username="swamp", password=sys.stdin.readline().strip())
while True:
    pipeline = client.pipeline(transaction=False)
    for number in range(200):
        pipeline.set(f"busy:{number}", b"x" * 1000)
    pipeline.execute()
"""


@pytest.fixture
def busy(stage: Stage) -> Iterator[Callable[[], None]]:
    started: list[subprocess.Popen[str]] = []

    def start() -> None:
        password = json.loads((stage.root / ".swamp/keys/orchestrator.json").read_text())["redisOrchestrator"]
        url = json.loads((stage.root / ".swamp/serve.json").read_text())["redisUrl"]
        process = subprocess.Popen([sys.executable, "-c", BUSY, url], stdin=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdin is not None
        process.stdin.write(password + "\n")
        process.stdin.flush()

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_while_redis_is_busy_each_is_cut_off_within_a_second(
    stage: Stage, intruder: Intruder, busy: Callable[[], None]
):
    """The user is deleted when the command says so; the session ends within a second of that. The middle one of all,
    because this machine is busy too."""
    token = fleet(stage, MACHINES)
    orchestrator = stage.serve()
    full = intruder(stage)
    with ExitStack() as stack:
        machines = [stack.enter_context(stubborn(stage, token, f"machine-{n}")) for n in range(MACHINES)]
        busy()
        wait_until(lambda: float(full.info("stats")["instantaneous_ops_per_sec"]) > 1000, "Redis to be busy")
        typed, said = [], []
        for machine in machines:
            begin = time.monotonic()
            revoked = stage.swamp("worker", "token", "revoke", "node", "--machine", machine.identity.machine_id)
            assert revoked.code == 0
            assert not machine.redis_is_open
            done = time.monotonic()
            said.append(gone_after(machine, done))
            typed.append(time.monotonic() - begin)
    told = re.findall(r"^(\S+Z) .* was put out: machine .* at (\S+Z)$", orchestrator.output, re.MULTILINE)
    acted = [(from_iso(ended) - from_iso(since)).total_seconds() for ended, since in told]
    for name, seconds in (("Enter to the end", typed), ("the entry in the database to the end of the user", acted)):
        print(f"seconds from {name}:", " ".join(f"{one:.2f}" for one in sorted(seconds)))
    assert median(said) < SECOND, sorted(said)

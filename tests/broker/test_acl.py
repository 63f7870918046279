from __future__ import annotations

import subprocess
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgpack
import pytest
import redis
from rq import Queue
from rq.utils import now, utcformat

from swamp.broker.acl import (
    AclUser,
    monitor_rules,
    operator_rules,
    password_hash,
    worker_rules,
    worker_user,
)
from swamp.broker.functions import Exchange, exchange, load_library
from swamp.errors import Invalid
from tests.broker.conftest import refused_commands
from tests.redis_py import connect
from tests.waiting import wait_until

MACHINE = "0123456789abcdef0123"
OTHER = "ffffffffffffffffffff"
OWN = f"swamp:m:{MACHINE}"
NOTHING = {"machine": MACHINE, "target": "build-node", "finish": [], "begin": [], "say": [], "claim": 0}


@pytest.fixture
def worker(full: redis.Redis, url: str) -> Iterator[redis.Redis]:
    user = worker_user("build-node", MACHINE, password_hash("mine"))
    assert full.execute_command(*user.set_user) in (b"OK", True)
    client = connect(url, username=user.name, password="mine")
    yield client
    client.close()
    full.acl_deluser(user.name)


def everything(full: redis.Redis) -> dict[bytes, bytes | None]:
    """Every key of the server and what it holds."""
    return {key: full.dump(key) for key in full.scan_iter()}


def log_in(full: redis.Redis, url: str, name: str, rules: list[str]) -> redis.Redis:
    full.execute_command(*AclUser(name, tuple(rules)).set_user)
    return connect(url, username=name, password="secret")


def test_a_worker_can_do_its_work(full: redis.Redis, worker: redis.Redis) -> None:
    load_library(full)
    full.hset("rq:job:build-node--7", "swamp", "sealed dispatch")
    full.rpush("rq:queue:build-node", "build-node--7", "build-node--8")
    full.xadd(f"{OWN}:down", {"m": "sealed"})

    worker.ping()
    claimed = exchange(worker, MACHINE, "build-node", Exchange(claim=1))
    assert claimed.work == [("build-node--7", b"sealed dispatch")]
    assert worker.blmove("rq:queue:build-node", f"{OWN}:claimed", 1, "LEFT", "RIGHT") == b"build-node--8"
    assert worker.lrange(f"{OWN}:claimed", 0, -1) == [b"build-node--7", b"build-node--8"]
    done = exchange(
        worker,
        MACHINE,
        "build-node",
        Exchange(
            begin=[("build-node--7", b"started")],
            finish=[("build-node--6", b"result", b"finished")],
            say=[b"heartbeat"],
            newest=True,
        ),
    )
    assert (done.begin, done.finish, done.say) == ([1], [1], [1])
    assert done.work == [("build-node--8", b"")]
    assert worker.xread({f"{OWN}:down": "0"}, block=1)
    worker.publish("swamp:bell", "")
    assert refused_commands(full) == []


@pytest.mark.parametrize(
    "command",
    [
        ("BLMOVE", "rq:queue:other-node", f"{OWN}:claimed", "LEFT", "RIGHT", "1"),
        ("BLMOVE", "rq:queue:build-node-2", f"{OWN}:claimed", "LEFT", "RIGHT", "1"),
        ("LMOVE", f"swamp:m:{OTHER}:claimed", f"{OWN}:claimed", "LEFT", "RIGHT"),
        ("HGET", "rq:job:other-node--1", "swamp"),
        ("HGET", "rq:job:build-node-2--1", "swamp"),
        ("HSET", "rq:job:build-node--1", "data", "a pickle"),
        ("HSET", "rq:worker:w", "state", "busy"),
        ("XADD", f"swamp:m:{OTHER}:up", "*", "m", "forged"),
        ("XREAD", "STREAMS", f"swamp:m:{OTHER}:down", "0"),
        ("HSET", f"swamp:m:{OTHER}:results", "d", "forged"),
        ("HSET", "swamp:repo", "incarnation", "9"),
        ("PUBLISH", "rq:pubsub:w", "stop"),
        ("SUBSCRIBE", "swamp:bell"),
        ("DEL", f"{OWN}:up"),
        ("XTRIM", f"{OWN}:up", "MAXLEN", "0"),
        ("EVAL", "return 1", "0"),
        ("FUNCTION", "LIST"),
        ("FUNCTION", "LOAD", "#!lua name=mine\n"),
        ("KEYS", "*"),
        ("SCAN", "0"),
        ("FLUSHALL",),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("CLIENT", "LIST"),
        ("CLIENT", "KILL", "ID", "1"),
        ("INFO",),
        ("MONITOR",),
        ("SHUTDOWN",),
        ("SELECT", "1"),
    ],
    ids=" ".join,
)
def test_a_worker_can_do_nothing_else(full: redis.Redis, worker: redis.Redis, command: tuple[str, ...]) -> None:
    with pytest.raises(redis.exceptions.NoPermissionError):
        worker.execute_command(*command)
    assert len(refused_commands(full)) == 1


def narrow(full: redis.Redis) -> None:
    """As the orchestrator does when a token's time is over."""
    user = worker_user("build-node", MACHINE, password_hash("mine"), delivering=True)
    full.execute_command(*user.set_user)
    full.execute_command("CLIENT", "KILL", "USER", user.name)


def test_a_worker_whose_time_is_over_delivers_and_does_nothing_else(full: redis.Redis, worker: redis.Redis) -> None:
    load_library(full)
    full.rpush("rq:queue:build-node", "build-node--8")
    full.hset("rq:job:build-node--8", "swamp", "sealed dispatch")
    narrow(full)
    with pytest.raises(redis.ConnectionError):
        worker.ping()  # it was cut, and comes back
    done = exchange(
        worker, MACHINE, "build-node",
        Exchange(begin=[("build-node--8", b"started")], finish=[("build-node--6", b"r", b"finished")], say=[b"x"]),
    )  # fmt: skip
    assert (done.begin, done.finish, done.say) == ([0], [1], [1])
    worker.xread({f"{OWN}:down": "0"}, block=1)
    assert refused_commands(full) == []

    assert exchange(worker, MACHINE, "build-node", Exchange(claim=1)).work == []
    assert exchange(worker, MACHINE, "build-node", Exchange(newest=True)).work == []
    for command in (
        ("BLMOVE", "rq:queue:build-node", f"{OWN}:claimed", "LEFT", "RIGHT", "1"),
        ("LMOVE", "rq:queue:build-node", f"{OWN}:claimed", "LEFT", "RIGHT"),
        ("LRANGE", "rq:queue:build-node", "0", "-1"),
        ("HGET", "rq:job:build-node--8", "swamp"),
        ("RPUSH", f"{OWN}:claimed", "build-node--8"),
    ):
        with pytest.raises(redis.exceptions.NoPermissionError):
            worker.execute_command(*command)
    assert full.lrange("rq:queue:build-node", 0, -1) == [b"build-node--8"]


def test_who_waits_for_work_when_the_time_is_over_gets_none(full: redis.Redis, worker: redis.Redis) -> None:
    """Rights are looked at when a command comes, not when what it waits for does."""
    waiting = threading.Thread(target=_wait_for_work, args=(worker,))
    waiting.start()
    wait_until(lambda: full.info("clients")["blocked_clients"] == 1, "the worker to wait")
    narrow(full)
    waiting.join()
    full.rpush("rq:queue:build-node", "build-node--8")
    assert full.lrange("rq:queue:build-node", 0, -1) == [b"build-node--8"]
    assert full.llen(f"{OWN}:claimed") == 0


def _wait_for_work(worker: redis.Redis) -> None:
    with suppress(redis.RedisError):
        worker.blmove("rq:queue:build-node", f"{OWN}:claimed", 5, "LEFT", "RIGHT")


@pytest.mark.parametrize(
    ("function", "request_"),
    [
        ("push", {"target": "build-node", "front": 0, "now": "", "jobs": [["build-node--9", "pickle", "", "sealed"]]}),
        ("mirror", {"now": "", "at": 1, "records": [["left", "other", "build-node"]]}),
        ("free", {"machines": [[OTHER, "1-1", ["d"]]]}),
        ("collect", {"machines": [OTHER], "count": 10}),
        ("take_back", {"machine": OTHER}),
        ("take_back", {"machine": OTHER, "only": ["build-node--7"]}),
        ("exchange", {**NOTHING, "machine": OTHER, "say": ["x"]}),
        ("exchange", {**NOTHING, "target": "other-node", "claim": 1, "newest": 1}),
    ],
)
def test_a_function_called_by_a_worker_reaches_no_further_than_the_worker(
    full: redis.Redis, worker: redis.Redis, function: str, request_: dict[str, object]
) -> None:
    load_library(full)
    full.rpush("rq:queue:other-node", "other-node--1")
    full.hset("rq:job:other-node--1", "swamp", "sealed dispatch")
    full.rpush(f"swamp:m:{OTHER}:claimed", "build-node--7")
    full.xadd(f"swamp:m:{OTHER}:up", {"m": "sealed"}, id="1-1")
    before = everything(full)
    try:
        answer = repr(worker.fcall(f"swamp1_{function}", 0, msgpack.packb(request_)))
    except redis.ResponseError as error:
        answer = str(error)
    assert refused_commands(full)
    assert everything(full) == before
    assert "sealed" not in answer
    assert "--7" not in answer


def test_new_rules_for_a_user_replace_the_old_ones(full: redis.Redis, worker: redis.Redis, url: str) -> None:
    full.execute_command(*worker_user("other-node", MACHINE, password_hash("new")).set_user)
    with pytest.raises(redis.exceptions.NoPermissionError):
        worker.blmove("rq:queue:build-node", f"{OWN}:claimed", 1)
    with pytest.raises(redis.AuthenticationError):
        connect(url, username=f"swamp-m-{MACHINE}", password="mine")


def test_deleting_the_user_cuts_its_connection(full: redis.Redis, worker: redis.Redis) -> None:
    worker.ping()
    full.acl_deluser(f"swamp-m-{MACHINE}")
    with pytest.raises(redis.RedisError):
        worker.ping()


@pytest.mark.parametrize("target", ["*", "a*", "a--b", "-a", "a-", "A", "", "a b", "a?", "a\nb", "a\n", "x" * 64])
def test_a_target_that_could_mean_more_than_itself_gets_no_rules(target: str) -> None:
    with pytest.raises(Invalid):
        worker_rules(target, MACHINE, password_hash("x"))


@pytest.mark.parametrize(
    "machine", ["*", "", "0123456789abcde*", "0123456789abcdef:x", "0123456789ABCDEF", MACHINE + "\n"]
)
def test_a_machine_that_could_mean_more_than_itself_gets_no_rules(machine: str) -> None:
    with pytest.raises(Invalid):
        worker_rules("build-node", machine, password_hash("x"))


def test_a_password_in_clear_is_never_taken_for_a_hash() -> None:
    with pytest.raises(Invalid):
        monitor_rules("secret")


def test_rq_info_shows_everything_to_the_monitor_user(full: redis.Redis, url: str) -> None:
    queue = Queue("build-node", connection=full)
    jobs = [queue.enqueue("swamp.run_step", job_id=f"build-node--{number}") for number in range(3)]
    queue.failed_job_registry.add(jobs[0], ttl=60)
    queue.finished_job_registry.add(jobs[1], ttl=60)
    worker_key = "rq:worker:one"
    full.hset(
        worker_key, mapping={"birth": utcformat(now()), "last_heartbeat": utcformat(now()), "queues": "build-node"}
    )
    full.sadd("rq:workers", worker_key)
    full.sadd("rq:workers:build-node", worker_key)
    log_in(full, url, "swamp-monitor", monitor_rules(password_hash("secret"))).close()
    full.execute_command("ACL", "LOG", "RESET")
    rq = Path(sysconfig.get_path("scripts")) / "rq"
    monitored = url.replace("redis://", "redis://swamp-monitor:secret@")
    shown = subprocess.run([rq, "info", "--url", monitored], capture_output=True, text=True, check=False, timeout=30)
    assert shown.returncode == 0, shown.stderr
    assert "build-node" in shown.stdout
    assert "3 jobs total" in shown.stdout
    # The client library greets with its name, which the rules leave open on purpose where the server allows it.
    assert [entry for entry in refused_commands(full) if "setinfo" not in entry[1]] == []


@pytest.mark.parametrize(
    "command",
    [
        ("LPUSH", "rq:queue:build-node", "x"),
        ("HSET", "rq:job:build-node--1", "data", "x"),
        ("DEL", "rq:job:build-node--1"),
        ("GET", "swamp:repo"),
        ("XREAD", "STREAMS", f"{OWN}:up", "0"),
        ("ZREMRANGEBYSCORE", "rq:wip:build-node", "0", "1"),
        ("FLUSHALL",),
        ("CLIENT", "KILL", "ID", "1"),
        ("CLIENT", "PAUSE", "1"),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("EVAL", "return 1", "0"),
        ("PUBLISH", "rq:pubsub:w", "stop"),
    ],
    ids=" ".join,
)
def test_the_monitor_user_changes_nothing(full: redis.Redis, url: str, command: tuple[str, ...]) -> None:
    monitor = log_in(full, url, "swamp-monitor", monitor_rules(password_hash("secret")))
    with pytest.raises(redis.exceptions.NoPermissionError):
        monitor.execute_command(*command)
    monitor.close()


def test_the_operator_user_presses_every_button_of_rq(full: redis.Redis, url: str) -> None:
    operator = log_in(full, url, "swamp-operator", operator_rules(password_hash("secret")))
    queue = Queue("build-node", connection=operator)
    jobs = [queue.enqueue("swamp.run_step", job_id=f"build-node--{number}") for number in range(5)]
    jobs[0].cancel()
    queue.failed_job_registry.add(jobs[3], ttl=60)
    jobs[3].requeue()
    jobs[1].delete()
    queue.enqueue("swamp.run_step", job_id="build-node--once", unique=True)
    queue.remove(jobs[2])
    assert queue.count == 4
    queue.empty()
    queue.delete()
    assert not queue.failed_job_registry.get_job_ids()
    assert refused_commands(full) == []
    for command in (
        ("GET", "swamp:repo"),
        ("FUNCTION", "FLUSH"),
        ("FCALL", "trial", "0"),
        ("FLUSHALL",),
        ("ACL", "LIST"),
        ("CONFIG", "GET", "*"),
        ("EVAL", "return redis.call('GET', 'swamp:repo')", "0"),
    ):
        with pytest.raises(redis.ResponseError, match=r"(?i)permission|no access|can't run|ACL failure"):
            operator.execute_command(*command)
    operator.close()

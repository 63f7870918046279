"""The function library on a real server: what each function does, and that nobody's spoiled key harms another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import pytest
import redis

from swamp.broker import keyspace
from swamp.broker.acl import password_hash, worker_user
from swamp.broker.client import Client, dial
from swamp.broker.embedded import EmbeddedRedis
from swamp.broker.functions import (
    Collected,
    Exchange,
    Exchanged,
    Job,
    Message,
    collect,
    exchange,
    free,
    load_library,
    mirror,
    prepare,
    push,
    take_back,
    tell,
    wait_and_claim,
    withdraw,
)
from tests.redis_py import connect

NOW = "2026-06-15T11:34:58.961Z"
A, B = "a" * 20, "b" * 20
TARGET = "node"

Connect = Callable[[str], redis.Redis]


@pytest.fixture
def queue(full: redis.Redis) -> redis.Redis:
    """The orchestrator's connection to a prepared server."""
    load_library(full)
    full.hset(keyspace.REPO, "marker", "m")
    for machine in (A, B):
        full.execute_command(*worker_user(TARGET, machine, password_hash(machine)).set_user)
    return full


@pytest.fixture
def worker(server: EmbeddedRedis, queue: redis.Redis) -> Iterator[Connect]:
    """A connection as the worker of a machine, with no more rights than it has."""
    opened: list[redis.Redis] = []

    def as_machine(machine: str) -> redis.Redis:
        opened.append(connect(unix_socket=server.socket_path, username=f"swamp-m-{machine}", password=machine))
        return opened[-1]

    yield as_machine
    for client in opened:
        client.close()


def jobs(*numbers: int) -> list[Job]:
    return [Job(f"{TARGET}--{n}", b"call", "w / j / s — m.execute", b"sealed %d" % n) for n in numbers]


def ids(*numbers: int) -> list[str]:
    return [f"{TARGET}--{n}" for n in numbers]


def texts(reply: object) -> list[str]:
    return [name.decode() for name in cast("list[bytes]", reply)]


def waiting(client: redis.Redis) -> list[str]:
    return texts(client.lrange(keyspace.queue(TARGET), 0, -1))


def claimed(client: redis.Redis, machine: str = A) -> list[str]:
    return texts(client.lrange(keyspace.claimed(machine), 0, -1))


def ask(client: redis.Redis, machine: str = A, **request: object) -> Exchanged:
    return exchange(client, machine, TARGET, Exchange(**request))  # type: ignore[arg-type]


def found_by(client: redis.Redis, machines: list[str], count: int) -> list[Collected]:
    """What a collection brings that may be of 16 MiB."""
    return collect(client, machines, count, 16 << 20, "m")[0]


def heard(client: redis.Redis, machine: str = A, count: int = 1_000) -> list[Message]:
    """What the orchestrator finds in the machine's stream."""
    return next((found.messages for found in found_by(client, [machine], count)), [])


# ---------------------------------------------------------------------- the queue


def test_what_is_pushed_waits_in_order_and_tools_see_a_queued_job(queue: redis.Redis) -> None:
    push(queue, TARGET, jobs(1, 2), NOW)
    push(queue, TARGET, jobs(3), NOW)
    assert waiting(queue) == ids(1, 2, 3)
    job = queue.hgetall(keyspace.job(f"{TARGET}--1"))
    assert (job[b"status"], job[b"origin"], job[b"data"], job[b"swamp"]) == (b"queued", b"node", b"call", b"sealed 1")
    assert queue.smembers(keyspace.QUEUES) == {b"rq:queue:node"}


def test_what_is_pushed_to_the_front_goes_before_all_that_waits_and_keeps_its_own_order(queue: redis.Redis) -> None:
    push(queue, TARGET, jobs(1, 2), NOW)
    push(queue, TARGET, jobs(7, 8, 9), NOW, front=True)
    assert waiting(queue) == ids(7, 8, 9, 1, 2)


def test_a_worker_claims_from_the_front_and_gets_the_sealed_dispatches(queue: redis.Redis, worker: Connect) -> None:
    push(queue, TARGET, jobs(1, 2, 3), NOW)
    assert ask(worker(A), claim=2).work == [(f"{TARGET}--1", b"sealed 1"), (f"{TARGET}--2", b"sealed 2")]
    assert (waiting(queue), claimed(queue)) == (ids(3), ids(1, 2))
    assert ask(worker(B), B, claim=5).work == [(f"{TARGET}--3", b"sealed 3")]


def test_a_job_whose_hash_is_gone_comes_empty_and_the_others_whole(queue: redis.Redis, worker: Connect) -> None:
    push(queue, TARGET, jobs(1, 2, 3), NOW)
    queue.delete(keyspace.job(f"{TARGET}--1"))
    queue.set(keyspace.job(f"{TARGET}--2"), "spoiled")
    assert [sealed for _, sealed in ask(worker(A), claim=3).work] == [b"", b"", b"sealed 3"]


def test_who_waits_has_what_came_claimed_and_read_and_more_of_it_if_there_is_more(
    queue: redis.Redis, server: EmbeddedRedis
) -> None:
    client = Client(partial(dial, f"unix://{server.socket_path}"), f"swamp-m-{A}", A, blocking=True)
    assert wait_and_claim(client, A, TARGET, 1, 1) is None
    push(queue, TARGET, jobs(1, 2, 3, 4), NOW)
    one = wait_and_claim(client, A, TARGET, 1, 1)
    assert one is not None
    assert one.work == [(f"{TARGET}--1", b"sealed 1")]
    two = wait_and_claim(client, A, TARGET, 1, 2)
    assert two is not None
    assert two.work == [(f"{TARGET}--2", b"sealed 2"), (f"{TARGET}--3", b"sealed 3")]
    queue.delete(keyspace.job(f"{TARGET}--4"))
    gone = wait_and_claim(client, A, TARGET, 1, 2)
    assert gone is not None
    assert gone.work == [(f"{TARGET}--4", b"")]
    assert (waiting(queue), claimed(queue)) == ([], ids(1, 2, 3, 4))


def test_a_claim_that_is_released_is_nobodys(queue: redis.Redis, worker: Connect) -> None:
    push(queue, TARGET, jobs(1, 2), NOW)
    ask(worker(A), claim=2)
    ask(worker(A), release=ids(1))
    assert (claimed(queue), waiting(queue), heard(queue)) == (ids(2), [], [])


def test_what_is_withdrawn_leaves_the_queue_or_whoever_claimed_it(queue: redis.Redis, worker: Connect) -> None:
    push(queue, TARGET, jobs(1, 2, 3, 4), NOW)
    ask(worker(A), claim=1)
    ask(worker(B), B, claim=1)
    withdraw(queue, TARGET, ids(2, 3, 99), [A, B])
    assert (claimed(queue, A), claimed(queue, B), waiting(queue)) == (ids(1), [], ids(4))


# ---------------------------------------------------------------------- saying, beginning, finishing


def test_an_exchange_says_first_then_finishes_then_begins(queue: redis.Redis, worker: Connect) -> None:
    push(queue, TARGET, jobs(1), NOW)
    ask(worker(A), claim=1)
    done = ask(
        worker(A),
        begin=[(f"{TARGET}--1", b"started 1")],
        finish=[(f"{TARGET}--0", b"result 0", b"finished 0")],
        say=[b"one", b"two"],
    )
    assert (done.say, done.finish, done.begin) == ([1, 1], [1], [1])
    assert [(m.sealed, m.dispatch, m.result) for m in heard(queue)] == [
        (b"one", "", b""),
        (b"two", "", b""),
        (b"finished 0", f"{TARGET}--0", b"result 0"),
        (b"started 1", "", b""),
    ]
    assert claimed(queue) == []


def test_a_claim_that_was_taken_back_cannot_begin(queue: redis.Redis, worker: Connect) -> None:
    push(queue, TARGET, jobs(1, 2), NOW)
    ask(worker(A), claim=2)
    assert take_back(queue, A, ids(1, 99)) == ids(1)
    assert ask(worker(A), begin=[("node--1", b"started")]).begin == [0]
    assert heard(queue) == []
    assert take_back(queue, A) == ids(2)


def test_behind_a_claim_that_cannot_begin_nothing_is_tried(queue: redis.Redis, worker: Connect) -> None:
    """What is to be said of that one, only its worker can seal; what comes behind must not be said before it."""
    push(queue, TARGET, jobs(1, 2, 3), NOW)
    ask(worker(A), claim=3)
    take_back(queue, A, ids(2))
    begin = [(name, b"started " + name.encode()) for name in ids(1, 2, 3)]
    assert ask(worker(A), begin=begin).begin == [1, 0]
    assert ask(worker(A), say=[b"dropped node--2"], begin=begin[2:]).begin == [1]
    assert [m.sealed for m in heard(queue)] == [b"started node--1", b"dropped node--2", b"started node--3"]
    assert claimed(queue) == []


def test_all_claims_are_taken_back_in_the_order_in_which_they_were_made(queue: redis.Redis, worker: Connect) -> None:
    push(queue, TARGET, jobs(1, 2, 3), NOW)
    ask(worker(A), claim=3)
    assert take_back(queue, A) == ids(1, 2, 3)
    assert claimed(queue) == []


def test_of_begin_and_take_back_only_one_wins(server: EmbeddedRedis, queue: redis.Redis, worker: Connect) -> None:
    """Eight of each at once, on the same claims: every claim is begun by one or taken back by one."""
    size = 400
    push(queue, TARGET, jobs(*range(size)), NOW)
    ask(worker(A), claim=size)
    begun: list[str] = []
    taken: list[str] = []
    gate = threading.Barrier(16)

    def beginning(client: redis.Redis) -> None:
        gate.wait()
        for name in ids(*range(size)):
            if ask(client, begin=[(name, b"started")]).begin == [1]:
                begun.append(name)

    def taking(client: redis.Redis) -> None:
        gate.wait()
        for name in reversed(ids(*range(size))):
            taken.extend(take_back(client, A, [name]))

    orchestrators = [
        connect(unix_socket=server.socket_path, username="swamp-orchestrator", password="all") for _ in range(8)
    ]
    threads = [
        *(threading.Thread(target=beginning, args=(worker(A),)) for _ in range(8)),
        *(threading.Thread(target=taking, args=(client,)) for client in orchestrators),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in orchestrators:
        client.close()
    assert sorted(begun + taken) == sorted(ids(*range(size)))
    assert begun
    assert taken
    assert [m.sealed for m in heard(queue, count=100_000)].count(b"started") == len(begun)


def test_the_bell_rings_once_for_an_exchange_that_asks_for_it(
    server: EmbeddedRedis, queue: redis.Redis, worker: Connect
) -> None:
    push(queue, TARGET, jobs(1), NOW)
    bell = Client(partial(dial, f"unix://{server.socket_path}"), "swamp-orchestrator", "all")
    assert bell.execute_command("SUBSCRIBE", keyspace.BELL) is not None
    ask(worker(A), claim=1, say=[b"heartbeat"], ring=False)
    ask(worker(A), say=[b"one", b"two"], begin=[(f"{TARGET}--1", b"started")])
    assert bell.hear(5) == [b"message", keyspace.BELL.encode(), b""]
    assert bell.hear(0.05) is None
    bell.close()


# ---------------------------------------------------------------------- collecting and freeing


def test_what_was_collected_comes_again_until_it_is_freed(queue: redis.Redis, worker: Connect) -> None:
    ask(worker(A), say=[b"1", b"2"], finish=[("node--1", b"result", b"3")])
    ask(worker(B), B, say=[b"other"])
    found = found_by(queue, [A, "c" * 20, B], 1_000)
    assert [(one.machine, [m.sealed for m in one.messages]) for one in found] == [
        (A, [b"1", b"2", b"3"]),
        (B, [b"other"]),
    ]
    assert heard(queue) == found[0].messages
    free(queue, [(A, found[0].messages[1].stream_id, [])])
    assert [m.sealed for m in heard(queue)] == [b"3"]
    free(queue, [(A, found[0].messages[2].stream_id, ["node--1"])])
    assert heard(queue) == []
    assert not queue.exists(keyspace.results(A))
    assert [m.sealed for m in heard(queue, B)] == [b"other"]


def test_thousands_of_results_are_freed_at_once(queue: redis.Redis) -> None:
    queue.hset(keyspace.results(A), mapping={f"node--{n}": b"r" for n in range(12_000)})
    free(queue, [(A, "", ids(*range(12_000)))])
    assert not queue.exists(keyspace.results(A))


def test_a_collection_holds_so_many_messages_and_so_many_bytes_at_most(queue: redis.Redis, worker: Connect) -> None:
    ask(worker(A), say=[b"%d" % n for n in range(30)])
    assert [m.sealed for m in heard(queue, count=10)] == [b"%d" % n for n in range(10)]
    ask(worker(B), B, say=[b"x" * (5 << 20) for _ in range(8)])
    (found,) = found_by(queue, [B], 1_000)
    assert len(found.messages) == 4, "the rest comes next time"


@pytest.mark.parametrize(("count", "size", "more"), [(2, 100, True), (3, 100, False), (3, 29, True), (3, 30, False)])
def test_a_collection_tells_whether_it_may_have_left_something(
    queue: redis.Redis, worker: Connect, count: int, size: int, more: bool
) -> None:
    ask(worker(A), say=[b"x" * 10, b"y" * 10])
    ask(worker(B), B, say=[b"z" * 10])
    assert collect(queue, [A, B], count, size, "m")[1] is more


def test_one_machine_that_says_much_does_not_keep_others_from_being_heard(queue: redis.Redis, worker: Connect) -> None:
    ask(worker(A), say=[b"x" * (9 << 20) for _ in range(3)])
    ask(worker(B), B, say=[b"small"])
    collected: list[str] = []
    for _ in range(3):
        for one in found_by(queue, [A, B], 1_000):
            collected.append(one.machine)
            free(queue, [(one.machine, one.messages[-1].stream_id, [])])
    assert B in collected


def test_what_a_machine_has_claimed_comes_with_what_it_says(queue: redis.Redis, worker: Connect) -> None:
    push(queue, TARGET, jobs(1, 2), NOW)
    ask(worker(A), claim=2, say=[b"heartbeat"])
    assert [one.claimed for one in found_by(queue, [A], 10)] == [ids(1, 2)]


@pytest.mark.parametrize("marker", [None, "another"])
def test_a_server_that_was_emptied_or_replaced_is_told_apart(queue: redis.Redis, marker: str | None) -> None:
    queue.delete(keyspace.REPO)
    if marker:
        queue.hset(keyspace.REPO, "marker", marker)
    with pytest.raises(redis.ResponseError, match="RESET"):
        found_by(queue, [A], 10)


# ---------------------------------------------------------------------- spoiled keys


def test_an_older_copy_of_the_server_holds_an_older_marker(queue: redis.Redis) -> None:
    older = cast("bytes", queue.dump(keyspace.REPO))
    assert collect(queue, [], 10, 1 << 20, "m", "n") == ([], False)
    assert collect(queue, [], 10, 1 << 20, "n") == ([], False)
    queue.restore(keyspace.REPO, 0, older, replace=True)
    with pytest.raises(redis.ResponseError, match="RESET"):
        collect(queue, [], 10, 1 << 20, "n", "o")
    assert queue.hget(keyspace.REPO, "marker") == b"m", "and nothing was changed"


def test_a_machine_that_spoils_its_own_keys_silences_nobody_else(queue: redis.Redis, worker: Connect) -> None:
    bad = worker(A)
    bad.hset(keyspace.up(A), "not", "a stream")
    bad.hset(keyspace.claimed(A), "not", "a list")
    bad.xadd(keyspace.results(A), {"not": "a hash"})
    ask(worker(B), B, say=[b"well"], finish=[("node--9", b"result", b"done")])
    assert [m.sealed for m in heard(queue, B)] == [b"well", b"done"]
    assert [one.machine for one in found_by(queue, [A, B], 10)] == [B]
    free(queue, [(A, "1-1", ["node--1"]), (B, "1-1", [])])
    assert take_back(queue, A) == take_back(queue, A, ids(1)) == []
    assert ask(bad, say=[b"again"], finish=[("node--1", b"result", b"finished")]).say == [1], "and it is healed"
    assert [m.sealed for m in heard(queue)] == [b"again", b"finished"]


def test_a_spoiled_key_is_an_error_for_its_items_alone(queue: redis.Redis, worker: Connect) -> None:
    push(queue, TARGET, jobs(1, 2), NOW)
    ask(worker(A), claim=1)
    queue.set(keyspace.results(A), "spoiled")
    done = ask(worker(A), say=[b"one"], finish=[("node--0", b"r", b"f")], begin=[("node--1", b"started")], claim=1)
    assert (done.say, done.begin, [name for name, _ in done.work]) == ([1], [1], ids(2))
    assert isinstance(done.finish[0], bytes)
    assert [m.sealed for m in heard(queue)] == [b"one", b"started"], "no finish without its result"


def test_a_spoiled_stream_begins_nothing_and_says_why(queue: redis.Redis, worker: Connect) -> None:
    push(queue, TARGET, jobs(1, 2), NOW)
    ask(worker(A), claim=1)
    queue.set(keyspace.up(A), "spoiled")
    done = ask(worker(A), say=[b"one"], finish=[("node--0", b"r", b"f")], begin=[("node--1", b"s")], claim=1)
    assert all(isinstance(status, bytes) for status in (*done.say, *done.finish, *done.begin))
    assert [name for name, _ in done.work] == ids(2)


def test_a_worker_that_spoils_its_queue_harms_no_other_target(queue: redis.Redis, worker: Connect) -> None:
    worker(A).hset(keyspace.queue(TARGET), "not", "a list")
    assert ask(worker(A), claim=1).work == []
    push(queue, "other", [Job("other--1", b"call", "d", b"sealed")], NOW)
    push(queue, TARGET, jobs(1), NOW)
    assert waiting(queue) == ids(1)
    withdraw(queue, TARGET, ids(1), [A])
    assert waiting(queue) == []


def test_spoiled_books_are_made_anew(queue: redis.Redis) -> None:
    push(queue, TARGET, jobs(1), NOW)
    for key in ("rq:wip:node", "rq:finished:node", "rq:worker:w", "rq:workers", "rq:worker:w:executions"):
        queue.set(key, "spoiled")
    records = [
        ("worker", "w", TARGET, 60, ["birth", NOW, "state", "idle"]),
        ("started", TARGET, "node--1", "a1", "w", NOW),
        ("ended", TARGET, "node--1", "a1", "w", NOW, NOW, "finished", "", "1.5", 1),
    ]
    mirror(queue, records[:1], NOW, 1.0)
    queue.hset("rq:worker:w", "successful_job_count", "many")
    mirror(queue, records[1:], NOW, 1.0)
    assert queue.zrange("rq:finished:node", 0, -1) == [b"node--1"]
    assert queue.smembers("rq:workers") == {b"rq:worker:w"}


# ---------------------------------------------------------------------- when memory is short


@contextmanager
def no_memory_left(client: redis.Redis) -> Iterator[None]:
    before = str(client.config_get("maxmemory")["maxmemory"])
    client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        client.config_set("maxmemory", before)


def test_without_memory_what_makes_room_still_works_and_the_rest_is_refused(
    queue: redis.Redis, worker: Connect
) -> None:
    push(queue, TARGET, jobs(1, 2, 3), NOW)
    client = worker(A)
    ask(client, claim=2, say=[b"said"], finish=[("node--0", b"result", b"finished")])
    with no_memory_left(queue):
        for refused in (
            lambda: push(queue, TARGET, jobs(4), NOW),
            lambda: ask(client, say=[b"more"]),
        ):
            with pytest.raises(redis.RedisError, match=r"OOM|maxmemory"):
                refused()
        # What an orchestrator does that has just connected, up to the point where there is room again.
        load_library(queue)
        assert prepare(queue, "me", "/here", "m", own=False) is None
        queue.execute_command(*worker_user(TARGET, B, password_hash(B)).set_user)
        found, _ = collect(queue, [A], 100, 1 << 20, "m")
        assert [message.sealed for message in found[0].messages] == [b"said", b"finished"]
        free(queue, [(A, "9999999999999-0", ["node--0"])])
        tell(queue, [(A, b"acknowledged")])
        mirror(queue, [("left", "w", TARGET)], NOW, 1.0)
        assert take_back(queue, A, ids(1)) == ids(1)
        withdraw(queue, TARGET, ids(2, 3), [A])
    assert queue.xlen(keyspace.down(A)) == 1
    assert (waiting(queue), claimed(queue), heard(queue)) == ([], [], [])
    assert not queue.exists(keyspace.results(A))


def test_a_server_says_whose_it_is(queue: redis.Redis) -> None:
    assert prepare(queue, "me", "/here", "m1", own=False) is None
    assert prepare(queue, "me", "/moved", "m2", own=False) is None
    assert prepare(queue, "you", "/there", "m3", own=False) == "/moved"
    assert queue.hgetall(keyspace.REPO) == {b"owner": b"me", b"repository": b"/moved", b"marker": b"m2"}
    assert prepare(queue, "you", "/there", "m3", own=True) is None
    assert queue.hget(keyspace.REPO, "marker") == b"m3"


def test_a_claim_survives_that_memory_ran_short_before_it_could_begin(queue: redis.Redis, worker: Connect) -> None:
    push(queue, TARGET, jobs(1), NOW)
    client = worker(A)
    ask(client, claim=1)
    with no_memory_left(queue), pytest.raises(redis.RedisError):
        ask(client, begin=[("node--1", b"started")])
    assert claimed(queue) == ids(1)
    assert ask(client, begin=[("node--1", b"started")]).begin == [1]


# ---------------------------------------------------------------------- what is kept for tools


@pytest.mark.parametrize("state", ["finished", "failed", "canceled"])
def test_the_last_thousand_ended_jobs_of_a_target_are_kept_and_no_key_of_older_ones(
    queue: redis.Redis, state: str
) -> None:
    push(queue, TARGET, jobs(*range(1_200)), NOW)
    for first in range(0, 1_200, 300):
        records = [
            ("ended", TARGET, name, "a1", "w", NOW, NOW, state, "", "0.1", 0)
            for name in ids(*range(first, first + 300))
        ]
        mirror(queue, records, NOW, 1_000.0 + first)
    kept = texts(queue.zrange(keyspace.registry(state, TARGET), 0, -1))
    assert kept == ids(*range(200, 1_200))
    assert set(texts(queue.keys("rq:job:*"))) == {f"rq:job:{name}" for name in kept}
    assert len(queue.keys("rq:results:*")) == (0 if state == "canceled" else 1_000)
    assert not queue.hexists(keyspace.job(kept[0]), "swamp"), "what was sealed for a worker is not kept"

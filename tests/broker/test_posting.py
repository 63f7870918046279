"""Commands that go together, on a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import pytest
import redis

from bench.proxy import CountingProxy
from swamp.broker.client import Client, NoConnection, Refused, dial
from swamp.broker.posting import FULL, Posting


@pytest.fixture
def counted(full: redis.Redis, url: str) -> Iterator[tuple[Posting, CountingProxy]]:
    """A connection through a proxy that counts round trips."""
    with CountingProxy() as proxy:
        port = int(url.rpartition(":")[2].partition("/")[0])
        client = Client(partial(dial, proxy.listen(port)), "swamp-orchestrator", "all")
        client.execute_command("PING")
        yield Posting(client), proxy
        client.close()


def test_what_is_posted_is_done_in_order_before_what_is_asked_in_one_round_trip(
    full: redis.Redis, counted: tuple[Posting, CountingProxy]
) -> None:
    posting, proxy = counted
    before = proxy.trips["other"]
    for number in range(100):
        posting.post("RPUSH", "list", str(number))
    assert posting.holds
    assert full.exists("list") == 0
    assert posting.execute_command("LRANGE", "list", 0, -1) == [str(number).encode() for number in range(100)]
    assert not posting.holds
    posting.post("SET", "last", "1")
    posting.flush()
    assert full.get("last") == b"1"
    posting.flush()  # nothing is there any more
    assert proxy.trips["other"] - before == 2


def test_much_is_not_kept_back(full: redis.Redis, counted: tuple[Posting, CountingProxy]) -> None:
    posting, _ = counted
    posting.post("SET", "a", b"x" * (FULL // 2))
    assert posting.holds
    posting.post("SET", "b", b"x" * (FULL // 2))
    assert not posting.holds
    assert full.strlen("a") == full.strlen("b") == FULL // 2


def test_an_error_of_what_was_posted_is_told_by_what_comes_next_and_no_answer_is_taken_for_another(
    full: redis.Redis, counted: tuple[Posting, CountingProxy]
) -> None:
    posting, _ = counted
    full.set("text", "no list")
    posting.post("RPUSH", "text", "1")
    posting.post("SET", "behind", "1")
    with pytest.raises(Refused, match="WRONGTYPE"):
        posting.execute_command("GET", "text")
    assert full.get("behind") == b"1"
    for call in (lambda: posting.execute_command("GET", "text"), lambda: posting.execute_together([("PING",)])):
        with pytest.raises(NoConnection):
            call()


def test_an_error_of_what_was_asked_is_the_answer_to_it_alone(
    full: redis.Redis, counted: tuple[Posting, CountingProxy]
) -> None:
    posting, _ = counted
    full.set("text", "no list")
    with pytest.raises(Refused, match="WRONGTYPE"):
        posting.execute_command("RPUSH", "text", "1")
    assert posting.execute_together([("GET", "text"), ("GET", "nothing")]) == [b"no list", None]


def test_a_server_that_is_gone_is_told(full: redis.Redis, counted: tuple[Posting, CountingProxy]) -> None:
    posting, _ = counted
    assert posting.execute_command("PING") == b"PONG"
    identity = posting.execute_command("CLIENT", "ID")
    cut = threading.Thread(target=full.execute_command, args=("CLIENT", "KILL", "ID", identity))
    cut.start()
    cut.join()
    posting.post("SET", "key", "1")
    with pytest.raises(NoConnection):
        posting.flush()

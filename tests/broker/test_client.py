"""The client of workers and of the orchestrator."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
import redis

from swamp.broker import client as client_module
from swamp.broker.client import Client, NoConnection, RedisTrouble, dial
from swamp.broker.embedded import EmbeddedRedis


@pytest.fixture
def client(server: EmbeddedRedis, full: redis.Redis) -> Client:
    full.execute_command("ACL", "SETUSER", "somebody", "on", ">word", "~*", "&*", "+@all", "-flushall")
    return Client(partial(dial, f"unix://{server.socket_path}"), "somebody", "word", blocking=True)


def test_answers_come_as_the_server_gives_them(client: Client) -> None:
    big = bytes(range(256)) * 40_000
    assert client.execute_command("SET", "k", big) == b"OK"
    assert client.execute_command("GET", "k") == big
    assert client.execute_command("GET", "nothing") is None
    assert client.execute_command("RPUSH", "l", "ä", 1) == 2
    assert client.execute_command("LRANGE", "l", 0, -1) == ["ä".encode(), b"1"]


def test_commands_sent_together_are_done_in_order_and_the_first_may_wait(client: Client, full: redis.Redis) -> None:
    pusher = threading.Timer(0.2, lambda: full.rpush("queue", "a", "b"))
    pusher.start()
    answers = client.execute_together([("BLMOVE", "queue", "mine", "LEFT", "RIGHT", 5), ("LRANGE", "mine", 0, -1)])
    pusher.join()
    assert answers == [b"a", [b"a"]]


def test_an_answer_that_is_an_error_is_raised_and_harms_nothing_else(client: Client) -> None:
    with pytest.raises(RedisTrouble, match="NOPERM"):
        client.execute_command("FLUSHALL")
    with pytest.raises(RedisTrouble, match="NOPERM"):
        client.execute_together([("PING",), ("FLUSHALL",), ("PING",)])
    assert client.execute_command("PING") == b"PONG"


def test_a_wrong_password_and_a_server_that_is_not_there_are_trouble(
    server: EmbeddedRedis, full: redis.Redis, tmp_path: Path
) -> None:
    with pytest.raises(RedisTrouble, match="WRONGPASS"):
        Client(partial(dial, f"unix://{server.socket_path}"), "somebody", "wrong")
    with pytest.raises(RedisTrouble, match="no connection"):
        Client(partial(dial, f"unix://{tmp_path}/nobody"), None, None)
    with pytest.raises(RedisTrouble, match="no connection"):
        Client(partial(dial, "rediss://127.0.0.1:1", tmp_path / "no.pem"), None, None)


def test_silence_and_the_end_of_a_connection_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "REPLY_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        silent = Client(partial(dial, f"redis://127.0.0.1:{listener.getsockname()[1]}"), None, None)
        with pytest.raises(RedisTrouble, match="no answer in time"):
            silent.execute_command("PING")
        accepted, _ = listener.accept()
        accepted.close()
        with pytest.raises(RedisTrouble):
            silent.execute_command("PING")


def test_an_answer_that_comes_too_late_is_not_taken_for_that_of_the_next_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "REPLY_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = Client(partial(dial, f"redis://127.0.0.1:{listener.getsockname()[1]}"), None, None)
        server, _ = listener.accept()
        with server:
            with pytest.raises(NoConnection, match="no answer in time"):
                client.execute_command("GET", "first")
            server.sendall(b"$5\r\nfirst\r\n")
            with pytest.raises(NoConnection):
                client.execute_command("GET", "second")


def test_a_blocking_read_outlasts_the_timeout_of_other_commands(
    client: Client, server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "REPLY_TIMEOUT", 0.05)
    impatient = Client(partial(dial, f"unix://{server.socket_path}"), "somebody", "word")
    with pytest.raises(RedisTrouble, match="no answer in time"):
        impatient.execute_command("BLPOP", "never", 1)
    assert client.execute_command("BLPOP", "never", 1) is None


def test_who_has_subscribed_hears_what_is_published(client: Client, full: redis.Redis) -> None:
    assert client.execute_command("SUBSCRIBE", "bell") == [b"subscribe", b"bell", 1]
    assert client.hear(0.05) is None
    full.publish("bell", "ding")
    full.publish("bell", "dong")
    assert [client.hear(5), client.hear(5)] == [[b"message", b"bell", b"ding"], [b"message", b"bell", b"dong"]]
    client.say("PING")
    assert client.hear(5) == [b"pong", b""]
    client.say("GET", "k")  # not while subscribed
    with pytest.raises(RedisTrouble, match=r"(?i)get"):
        client.hear(5)
    client.cut()
    with pytest.raises(RedisTrouble):
        client.hear(5)
    with pytest.raises(RedisTrouble):
        client.say("PING")


def test_cutting_brings_back_who_waits(client: Client) -> None:
    heard: list[str] = []

    def wait() -> None:
        try:
            client.execute_command("BLPOP", "never", 10)
        except RedisTrouble as trouble:
            heard.append(str(trouble))

    thread = threading.Thread(target=wait)
    thread.start()
    client.cut()
    thread.join(5)
    assert heard


def test_a_worker_does_not_carry_the_big_client() -> None:
    code = "import workers.worker, sys; print(*sorted({'redis', 'rq', 'asyncio'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []

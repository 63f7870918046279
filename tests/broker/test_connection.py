from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from swamp.broker import connection
from swamp.broker.connection import Server, check_server, connect, is_away, unreachable, version_tuple
from swamp.broker.embedded import EmbeddedRedis
from swamp.broker.location import parse_server
from swamp.errors import Invalid


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a server that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"


def test_a_user_given_beside_the_url_wins_over_the_one_in_it(full: redis.Redis, url: str) -> None:
    wrong = url.replace("redis://", "redis://nobody:wrong@")
    client = connect(wrong, username="swamp-orchestrator", password="all")
    assert client.execute_command("ACL", "WHOAMI") == b"swamp-orchestrator"
    client.close()
    client = connect(url.replace("redis://", "redis://swamp-orchestrator:all@"))
    assert client.ping()
    client.close()


def test_the_unix_socket_serves_as_well(full: redis.Redis, server: EmbeddedRedis) -> None:
    client = connect(f"unix://{server.socket_path}", username="swamp-orchestrator", password="all")
    assert client.ping()
    client.close()


def test_connecting_sends_the_login_and_nothing_else(full: redis.Redis, url: str) -> None:
    full.config_resetstat()
    client = connect(url, username="swamp-orchestrator", password="all")
    client.ping()
    sent = {name for name in full.info("commandstats") if name not in ("cmdstat_config|resetstat", "cmdstat_info")}
    assert sent == {"cmdstat_auth", "cmdstat_ping"}
    client.close()


def test_a_silent_server_is_noticed(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REPLY_TIMEOUT", 0.05)
    begun = time.monotonic()
    with pytest.raises(redis.TimeoutError) as noticed:
        connect(silent).ping()
    assert is_away(noticed.value)
    assert time.monotonic() - begun < 2  # once, not several times


def test_a_command_is_sent_once_even_if_the_connection_breaks() -> None:
    asked: list[bytes] = []

    def answer_nothing(listener: socket.socket) -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                asked.append(peer.recv(1000))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer_nothing, args=(listener,), daemon=True).start()
        client = connect(f"redis://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(redis.ConnectionError):
            client.incr("once")
        assert len(asked) == 1
        listener.shutdown(socket.SHUT_RDWR)


def test_the_next_command_after_an_outage_connects_anew(full: redis.Redis, url: str) -> None:
    client = connect(url, username="swamp-orchestrator", password="all")
    full.client_kill_filter(_id=str(client.client_id()))
    with pytest.raises(redis.ConnectionError):
        client.ping()
    assert client.ping()
    client.close()


def test_errors_never_show_the_password(url: str) -> None:
    wrong = url.replace("redis://", "redis://me:hunter2@")
    with pytest.raises(redis.AuthenticationError) as refused:
        connect(wrong)
    told = unreachable(wrong, refused.value)
    assert "hunter2" not in f"{told.message} {told.hint}"
    assert "127.0.0.1" in told.message
    with pytest.raises(Invalid) as invalid:
        parse_server("redis://me:hunter2@127.0.0.1:1/0?timeout=hunter2")
    assert "hunter2" not in f"{invalid.value.message} {invalid.value.hint}"


def test_who_is_not_there_is_away_and_who_lets_nobody_in_is_not(url: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(redis.ConnectionError) as absent:
            connect(f"redis://127.0.0.1:{unused.getsockname()[1]}").ping()
    assert is_away(absent.value)
    assert "does not answer" in unreachable("redis://127.0.0.1", absent.value).message
    with pytest.raises(redis.ConnectionError) as unknown:
        connect("redis://no-such-host.invalid").ping()
    assert is_away(unknown.value), "a name may become known, as that of a container that starts"
    with pytest.raises(redis.ConnectionError) as refused:
        connect(url.replace("redis://", "redis://me:wrong@"))
    assert not is_away(refused.value)


def test_the_embedded_server_is_good_enough(full: redis.Redis, url: str) -> None:
    server = check_server(full, url)
    assert isinstance(server, Server)
    assert len(server.run_id) == len(server.replication_id) == 40


def test_a_server_that_throws_keys_away_is_refused(full: redis.Redis, url: str) -> None:
    full.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(Invalid, match="allkeys-lru") as refused:
            check_server(full, url)
        assert "noeviction" in (refused.value.hint or "")
    finally:
        full.config_set("maxmemory-policy", "noeviction")


@pytest.mark.parametrize(
    ("facts", "complaint"),
    [
        ({"redis_version": "6.2.14"}, "version 6.2.14"),
        ({"redis_version": "7.4.0", "redis_mode": "cluster"}, "is a cluster"),
        ({"redis_version": "7.4.0", "role": "slave"}, "is a replica"),
        ({}, "version 0"),
    ],
)
def test_a_server_that_cannot_keep_the_promises_is_refused(facts: dict[str, str], complaint: str) -> None:
    class Described(redis.Redis):
        def info(self, section: str | None = None, *args: str, **kwargs: Any) -> dict[str, Any]:
            return facts

    with pytest.raises(Invalid, match=complaint):
        check_server(Described(), "redis://h")


def test_versions_are_read_as_far_as_they_go() -> None:
    assert version_tuple("7.2.4") == (7, 2)
    assert version_tuple("255.255.255") == (255, 255)
    assert version_tuple("unstable") == (0, 0)

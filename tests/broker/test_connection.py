from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from swamp.broker import client as client_module
from swamp.broker.client import Client, NoConnection, Refused
from swamp.broker.connection import (
    NoSuchService,
    Server,
    check_server,
    connect,
    facts_of,
    is_away,
    unreachable,
    version_tuple,
)
from swamp.broker.embedded import EmbeddedRedis
from swamp.broker.location import Location, Watched, of_socket, parse_server
from swamp.broker.sentinel import find_master
from swamp.errors import Invalid


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a server that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def client(full: redis.Redis, server: EmbeddedRedis) -> Iterator[Client]:
    with closing(connect(Location(of_socket(server.socket_path).url, "swamp-orchestrator", "all"))) as made:
        yield made


def logged_in(url: str, username: str = "swamp-orchestrator", password: str = "all") -> Location:
    return parse_server(url.replace("redis://", f"redis://{username}:{password}@"))


def test_a_server_is_reached_over_tcp_as_by_its_socket(full: redis.Redis, url: str, client: Client) -> None:
    with closing(connect(logged_in(url))) as other:
        assert other.execute_command("ACL", "WHOAMI") == b"swamp-orchestrator"
    assert client.execute_command("ACL", "WHOAMI") == b"swamp-orchestrator"


def test_connecting_sends_the_login_and_nothing_else(full: redis.Redis, url: str) -> None:
    full.config_resetstat()
    with closing(connect(logged_in(url))) as client:
        client.execute_command("PING")
        sent = {name for name in full.info("commandstats") if name not in ("cmdstat_config|resetstat", "cmdstat_info")}
    assert sent == {"cmdstat_auth", "cmdstat_ping"}


def test_a_silent_server_is_noticed(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "REPLY_TIMEOUT", 0.05)
    begun = time.monotonic()
    with pytest.raises(NoConnection) as noticed:
        connect(parse_server(silent)).execute_command("PING")
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
        client = connect(parse_server(f"redis://127.0.0.1:{listener.getsockname()[1]}"))
        with pytest.raises(NoConnection):
            client.execute_command("INCR", "once")
        assert len(asked) == 1
        listener.shutdown(socket.SHUT_RDWR)


def test_a_connection_that_broke_stays_broken(full: redis.Redis, client: Client) -> None:
    full.client_kill_filter(_id=str(client.execute_command("CLIENT", "ID")))
    for _ in range(2):
        with pytest.raises(NoConnection) as broken:
            client.execute_command("PING")
        assert is_away(broken.value)


def test_errors_never_show_the_password(url: str) -> None:
    with pytest.raises(Refused) as refused:
        connect(logged_in(url, "me", "hunter2"))
    told = unreachable(url.replace("redis://", "redis://me:hunter2@"), refused.value)
    assert "refuses the login" in told.message
    assert "hunter2" not in f"{told.message} {told.hint}"
    assert "127.0.0.1" in told.message
    with pytest.raises(Invalid) as invalid:
        parse_server("redis://me:hunter2@127.0.0.1:1/0?timeout=hunter2")
    assert "hunter2" not in f"{invalid.value.message} {invalid.value.hint}"


def test_who_is_not_there_is_away_and_who_lets_nobody_in_is_not(url: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(NoConnection) as absent:
            connect(parse_server(f"redis://127.0.0.1:{unused.getsockname()[1]}"))
    assert is_away(absent.value)
    assert "does not answer" in unreachable("redis://127.0.0.1", absent.value).message
    with pytest.raises(NoConnection) as unknown:
        connect(parse_server("redis://no-such-host.invalid"))
    assert is_away(unknown.value), "a name may become known, as that of a container that starts"
    with pytest.raises(Refused) as refused:
        connect(logged_in(url, "me", "wrong"))
    assert not is_away(refused.value)
    with closing(connect(parse_server(url))) as stranger, pytest.raises(Refused, match="NOAUTH") as nobody:
        stranger.execute_command("PING")
    assert not is_away(nobody.value)
    assert "refuses the login" in unreachable(url, nobody.value).message


@pytest.mark.parametrize(
    "text",
    [
        "LOADING Redis is loading the dataset in memory",
        "MASTERDOWN Link with MASTER is down",
        "ERR max number of clients reached",
    ],
)
def test_a_server_that_is_not_ready_yet_is_away(text: str) -> None:
    assert is_away(Refused(text))
    assert "does not answer" in unreachable("redis://h", Refused(text)).message


def test_what_other_programs_answer_is_no_connection(full: redis.Redis) -> None:
    def answer(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(1000)
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, args=(listener,), daemon=True).start()
        client = connect(parse_server(f"redis://127.0.0.1:{listener.getsockname()[1]}"))
        with pytest.raises(NoConnection) as stranger:
            client.execute_command("PING")
        assert not is_away(stranger.value), "it will not become a server by waiting"
        assert "speaks another language than Redis" in unreachable("redis://h", stranger.value).message
        with pytest.raises(NoConnection):
            client.execute_command("PING")
        threading.Thread(target=answer, args=(listener,), daemon=True).start()
        with pytest.raises(NoSuchService):
            find_master(Watched((("127.0.0.1", listener.getsockname()[1]),), "service", tls=False), None)


def test_a_name_that_can_be_none_is_no_connection() -> None:
    for name in ("a..b", "a" * 64):
        with pytest.raises(NoConnection):
            connect(Location(f"redis://{name}:6379/0"))


def test_a_socket_may_lie_anywhere(full: redis.Redis, server: EmbeddedRedis, tmp_path: Path) -> None:
    odd = tmp_path / "a b%41+@é"
    odd.symlink_to(server.socket_path)
    for url in (of_socket(odd).url, parse_server(f"unix://{tmp_path}/a%20b%2541+%40%C3%A9").url):
        with closing(connect(Location(url, "swamp-orchestrator", "all"))) as client:
            assert client.execute_command("PING") == b"PONG"


def test_who_gives_a_name_and_no_password_is_not_taken_for_nobody(full: redis.Redis, url: str) -> None:
    full.execute_command("ACL", "SETUSER", "open", "on", "nopass", "~*", "+@all")
    full.execute_command("ACL", "SETUSER", "closed", "on", ">word", "~*", "+@all")
    try:
        with closing(connect(logged_in(url, "open", ""))) as client:
            assert client.execute_command("ACL", "WHOAMI") == b"open"
        with pytest.raises(Refused, match="WRONGPASS"):
            connect(logged_in(url, "closed", ""))
    finally:
        full.execute_command("ACL", "DELUSER", "open", "closed")


def test_facts_are_read_line_by_line() -> None:
    assert facts_of(b"# Server\r\nredis_version:7.4.0\r\nos:a:b\r\n\r\n") == {"redis_version": "7.4.0", "os": "a:b"}


def test_the_embedded_server_is_good_enough(client: Client, url: str) -> None:
    server = check_server(client, url)
    assert isinstance(server, Server)
    assert len(server.run_id) == len(server.replication_id) == 40


def test_a_server_that_throws_keys_away_is_refused(full: redis.Redis, client: Client, url: str) -> None:
    full.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(Invalid, match="allkeys-lru") as refused:
            check_server(client, url)
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
    class Described:
        def execute_command(self, *words: object) -> bytes:
            assert words == ("INFO",)
            return "".join(f"{name}:{value}\r\n" for name, value in facts.items()).encode()

    with pytest.raises(Invalid, match=complaint):
        check_server(Described(), "redis://h")


def test_versions_are_read_as_far_as_they_go() -> None:
    assert version_tuple("7.2.4") == (7, 2)
    assert version_tuple("255.255.255") == (255, 255)
    assert version_tuple("unstable") == (0, 0)

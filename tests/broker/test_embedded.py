from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from swamp.broker.embedded import EmbeddedRedis, config_text, runtime_directory
from swamp.broker.server_program import find_server
from swamp.errors import Busy, Unreachable
from tests.broker.conftest import ORCHESTRATOR
from tests.redis_py import connect
from tests.waiting import wait_until

RUN = Path("/tmp")

STARTER = """
import sys
from pathlib import Path
from swamp.broker.embedded import EmbeddedRedis
started = EmbeddedRedis.start(Path(sys.argv[1]), Path("/tmp"), [])
print(started.pid, started.port, started.socket_path, flush=True)
sys.stdin.read()
"""


def start(data_dir: Path, port: int | None = None) -> EmbeddedRedis:
    return EmbeddedRedis.start(data_dir, RUN, [ORCHESTRATOR], port)


def log_in(server: EmbeddedRedis) -> redis.Redis:
    return connect(unix_socket=server.socket_path, username=ORCHESTRATOR.name, password="all")


def gone(pid: int) -> Callable[[], bool]:
    def look() -> bool:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        return state == "Z"

    return look


def test_data_and_port_survive_from_start_to_start(tmp_path: Path) -> None:
    with start(tmp_path / "redis") as first:
        client = log_in(first)
        client.set("kept", "yes")
        client.function_load("#!lua name=l\nredis.register_function('f', function() return 1 end)")
        client.close()
    assert gone(first.pid)()
    assert not first.running
    assert not first.socket_path.parent.exists()
    with start(tmp_path / "redis") as second:
        client = log_in(second)
        assert client.get("kept") == b"yes"
        assert client.fcall("f", 0) == 1
        assert second.port == first.port
        client.close()
    second.stop()


def test_it_listens_on_this_machine_only_and_lets_nobody_in_without_a_name(tmp_path: Path) -> None:
    with start(tmp_path / "redis") as server:
        client = log_in(server)
        assert client.config_get("bind")["bind"] == "127.0.0.1"
        for name, value in (
            ("maxmemory", str(1 << 30)),
            ("maxmemory-policy", "noeviction"),
            ("appendonly", "yes"),
            ("appendfsync", "everysec"),
            ("aof-use-rdb-preamble", "no"),
        ):
            assert client.config_get(name)[name] == value
        client.close()
        with pytest.raises(redis.AuthenticationError):
            connect(f"redis://127.0.0.1:{server.port}").ping()
        with pytest.raises(redis.AuthenticationError):
            connect(f"redis://default:@127.0.0.1:{server.port}").ping()
        assert server.socket_path.stat().st_mode & 0o777 == 0o700
        assert server.socket_path.parent.stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "redis").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "redis" / "redis.conf").stat().st_mode & 0o777 == 0o600


def test_no_password_is_in_the_arguments_or_the_configuration(tmp_path: Path) -> None:
    with start(tmp_path / "redis") as server:
        arguments = Path(f"/proc/{server.pid}/cmdline").read_bytes()
        environment = Path(f"/proc/{server.pid}/environ").read_bytes()
        config = (tmp_path / "redis" / "redis.conf").read_text()
    assert b"all" not in arguments.split(b"\0")
    assert environment == b"LC_ALL=C\0"
    assert ">" not in config
    assert "nopass" not in config


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_ends_when_its_orchestrator_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    starter = subprocess.Popen([sys.executable, "-c", STARTER, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert starter.stdout is not None
    assert starter.stdin is not None
    pid, port, socket_path = starter.stdout.readline().decode().split()
    assert not gone(int(pid))()
    starter.send_signal(number)
    starter.wait()
    starter.stdin.close()
    starter.stdout.close()
    wait_until(gone(int(pid)), "the server to end with its parent")
    with start(tmp_path) as again:
        assert again.port == int(port)
        assert not Path(socket_path).parent.exists()


def test_the_server_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    started: list[EmbeddedRedis] = []
    thread = threading.Thread(target=lambda: started.append(start(tmp_path / "redis")))
    thread.start()
    thread.join()
    client = log_in(started[0])
    for _ in range(20):
        assert client.ping()
    client.close()
    assert started[0].running
    started[0].stop()


def test_a_server_left_over_from_a_crash_is_ended_first(tmp_path: Path) -> None:
    with start(tmp_path / "redis") as first:
        pass
    first.socket_path.parent.mkdir(mode=0o700)
    leftover = subprocess.Popen([find_server(), tmp_path / "redis" / "redis.conf"], stderr=subprocess.DEVNULL)
    wait_until(lambda: (tmp_path / "redis" / "redis.pid").exists(), "the leftover server's pid file")
    reaper = threading.Thread(target=leftover.wait)
    reaper.start()
    with start(tmp_path / "redis") as second:
        reaper.join(10)
        ended_by = leftover.poll()
        leftover.kill()
        assert ended_by == 0
        assert second.port == first.port
    assert not first.socket_path.parent.exists()


def test_a_process_that_merely_has_the_old_number_is_left_alone(tmp_path: Path) -> None:
    with start(tmp_path / "redis"):
        pass
    stranger = subprocess.Popen(["sleep", "60"])
    (tmp_path / "redis" / "redis.pid").write_text(f"{stranger.pid}\n")
    with start(tmp_path / "redis"):
        assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_a_taken_port_is_an_error_when_asked_for_and_avoided_when_not(tmp_path: Path) -> None:
    with start(tmp_path / "redis") as first:
        last_port = first.port
    with socket.create_server(("127.0.0.1", last_port)):
        with pytest.raises(Busy, match=str(last_port)):
            start(tmp_path / "redis", port=last_port)
        with start(tmp_path / "redis") as moved:
            assert moved.port != last_port
    with start(tmp_path / "redis", port=last_port) as chosen:
        assert chosen.port == last_port


def _in_the_middle(data: Path) -> None:
    (part,) = data.glob("*.incr.aof")
    content = part.read_bytes()
    at = content.index(b"\r\n*")
    part.write_bytes(content[:at] + b"\r\nno command at all" + content[at:])


def _zeros_at_the_end(data: Path) -> None:
    (part,) = data.glob("*.incr.aof")
    part.write_bytes(part.read_bytes() + bytes(4096))


def _a_file_gone(data: Path) -> None:
    next(data.glob("*.base.aof")).unlink()


def _an_empty_list_of_files(data: Path) -> None:
    next(data.glob("*.manifest")).write_bytes(b"")


@pytest.mark.parametrize("damage", [_in_the_middle, _zeros_at_the_end, _a_file_gone, _an_empty_list_of_files])
def test_data_that_cannot_be_read_are_put_aside(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    with start(tmp_path / "redis") as first:
        assert not first.damage
        client = log_in(first)
        client.set("kept", "yes")
        client.close()
    data, aside = tmp_path / "redis/appendonlydir", tmp_path / "redis/appendonlydir.damaged"
    damage(data)
    damaged = {file.name: file.read_bytes() for file in data.iterdir()}
    with start(tmp_path / "redis") as second:
        assert re.search("AOF|append only file", second.damage)
        client = log_in(second)
        assert client.dbsize() == 0
        client.set("kept", "again")
        client.close()
    assert {file.name: file.read_bytes() for file in aside.iterdir()} == damaged
    damage(data)
    with start(tmp_path / "redis") as third:
        assert third.damage, "what is put aside does not pile up"
    assert list((tmp_path / "redis").glob("appendonlydir.*")) == [aside]


def test_a_server_that_ends_at_its_start_is_reported_with_its_own_words(tmp_path: Path) -> None:
    with start(tmp_path / "redis"):
        pass
    program = tmp_path / "server"
    program.write_text("#!/bin/sh\necho it is too late for that >&2; exit 1\n")
    program.chmod(0o700)
    with pytest.raises(Unreachable, match="ended at its start: it is too late for that") as refused:
        EmbeddedRedis.start(tmp_path / "redis", tmp_path, [ORCHESTRATOR], server=program)
    assert "redis.log" in (refused.value.hint or "")
    assert not list(tmp_path.glob("swamp-*"))
    assert (tmp_path / "redis/appendonlydir").is_dir()


def test_any_directory_name_will_do(tmp_path: Path) -> None:
    odd = tmp_path / "a b" / 'quote" \\ é # $x'
    with start(odd) as server:
        client = log_in(server)
        assert client.ping()
        client.close()
    assert (odd / "appendonlydir").is_dir()


def test_a_server_that_ended_by_itself_shows(tmp_path: Path) -> None:
    with start(tmp_path / "redis") as server:
        assert server.running
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: not server.running, "the end of the server to show")


def test_the_runtime_directory_is_short_writable_and_real(tmp_path: Path) -> None:
    assert runtime_directory({}) == Path("/tmp")
    assert runtime_directory({"XDG_RUNTIME_DIR": str(tmp_path)}) == tmp_path
    assert runtime_directory({"XDG_RUNTIME_DIR": str(tmp_path / "missing")}) == Path("/tmp")
    assert runtime_directory({"XDG_RUNTIME_DIR": "relative"}) == Path("/tmp")
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    assert runtime_directory({"XDG_RUNTIME_DIR": str(deep)}) == Path("/tmp")


def test_the_configuration_is_private_durable_and_portable() -> None:
    text = config_text(Path("/data"), Path("/run/s/redis.sock"), 7000, [ORCHESTRATOR], 1024)
    for line in (
        "bind 127.0.0.1",
        "unixsocketperm 700",
        "appendonly yes",
        "aof-use-rdb-preamble no",
        "maxmemory-policy noeviction",
        "maxmemory 1024",
        "user default reset off",
        ORCHESTRATOR.config_line,
    ):
        assert line in text.splitlines()


def test_without_the_package_a_new_enough_server_on_the_path_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def program(name: str, version: str) -> None:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\necho '{version}'\n")
        path.chmod(0o755)

    assert shutil.which(find_server())
    monkeypatch.setattr("swamp.broker.server_program.find_spec", lambda _name: None)
    with pytest.raises(Unreachable, match="no Redis server to start") as nothing:
        find_server(str(tmp_path))
    assert "--redis-url" in (nothing.value.hint or "")
    program("valkey-server", "Redis server v=6.2.14 sha=00000000:0")
    with pytest.raises(Unreachable, match=r"older than 7\.0"):
        find_server(str(tmp_path))
    program("redis-server", "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc bits=64")
    assert find_server(str(tmp_path)) == tmp_path / "redis-server"
    program("valkey-server", "Valkey server v=10.1.2 sha=00000000:0")
    assert find_server(str(tmp_path)) == tmp_path / "valkey-server"

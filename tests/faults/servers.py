"""Redis servers of every kind that Swamp may be given: alone, as master and replica, watched by Sentinels."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from swamp.broker.server_process import Keeper
from swamp.broker.server_program import find_server
from tests.faults import debian_redis
from tests.processes import free_port
from tests.waiting import wait_until

PASSWORD = "open-sesame"
SERVICE = "the-master"


def server_program(name: str) -> Path:
    """The server `bundled` with Swamp, or Debian's `redis-server`. Skips the test where there is none, and says why."""
    if name == "bundled":
        return find_server()
    found = debian_redis.program()
    if found is None:
        pytest.skip(debian_redis.lacking())
    return found


class Server:
    """A server on a port of its own. Its data stay in `directory` from start to start."""

    def __init__(self, directory: Path, *options: str, program: Path | None = None) -> None:
        self.directory = directory
        self.port = free_port()
        self.options: Sequence[str] = options
        self._program = program or find_server()
        self._keeper: Keeper | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._keeper is not None
        return self._keeper.pid

    def start(self) -> None:
        """Begin, on the same port, with what is in the directory; returns when it answers and has loaded it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        keeper = Keeper(
            [
                str(self._program),
                *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory)),
                *("--save", "", "--appendonly", "yes", "--appendfsync", "always", "--set-proc-title", "no"),
                *("--requirepass", PASSWORD, "--masterauth", PASSWORD, "--logfile", "log"),
                *self.options,
            ],
            self.directory,
        )
        self._keeper = keeper

        def answers() -> bool:
            assert not keeper.ended.is_set(), self.log()
            with suppress(redis.RedisError), closing(self.client()) as client:
                return bool(client.ping())
            return False

        try:
            wait_until(answers, f"the server on port {self.port} to answer")
        except BaseException:
            keeper.end()
            raise

    def stop(self) -> None:
        """Let it end in order; what it holds is on its disk. May be called again."""
        if self._keeper is not None:
            self._keeper.end()

    def kill(self) -> None:
        """End it as a crash would."""
        assert self._keeper is not None
        with suppress(ProcessLookupError):
            os.kill(self._keeper.pid, signal.SIGKILL)
        self._keeper.ended.wait()

    def client(self) -> redis.Redis:
        """With all rights."""
        return redis.Redis(port=self.port, password=PASSWORD, socket_timeout=5)

    def log(self) -> str:
        log = self.directory / "log"
        return log.read_text(errors="replace") if log.exists() else ""

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Watched:
    """A master, a replica of it, and Sentinels that promote the replica when the master is gone."""

    def __init__(self, directory: Path, program: Path | None = None, sentinels: int = 3) -> None:
        self._program = program or find_server()
        self._started: list[Server] = []
        self._keepers: list[Keeper] = []
        try:
            self.master = self._server(directory / "one")
            self.replica = self._server(directory / "two", "--replicaof", f"127.0.0.1 {self.master.port}")
            wait_until(self.in_step, "the replica to be in step with its master")
            self.sentinels = [self._sentinel(directory / f"sentinel-{n}", sentinels) for n in range(sentinels)]
            wait_until(lambda: all(self._knows_the_others(port, sentinels) for port in self.sentinels), "the Sentinels")
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        return f"redis+sentinel://:{PASSWORD}@{hosts}/{SERVICE}"

    def in_step(self) -> bool:
        """Whether the replica has everything that the master has."""
        with closing(self.master.client()) as master, closing(self.replica.client()) as replica:
            behind, ahead = replica.info("replication"), master.info("replication")
            in_step = behind["slave_repl_offset"] == ahead["master_repl_offset"]
            return bool(behind["master_link_status"] == "up" and in_step)

    def keep_the_replica_behind(self) -> None:
        """From now on it gets nothing new, though it tries. The Sentinels still take it for good enough."""
        with closing(self.replica.client()) as replica, closing(self.master.client()) as master:
            replica.config_set("masterauth", "another password")
            master.execute_command("CLIENT", "KILL", "TYPE", "replica")

    def promoted(self) -> bool:
        """Whether the Sentinels name the replica as the master."""
        with closing(redis.Redis(port=self.sentinels[0])) as sentinel:
            address = cast("tuple[bytes, int]", sentinel.sentinel_get_master_addr_by_name(SERVICE))
            return int(address[1]) == self.replica.port

    def close(self) -> None:
        for keeper in self._keepers:
            keeper.end()
        for server in self._started:
            server.stop()

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _server(self, directory: Path, *options: str) -> Server:
        # A replica asks its master at once, and an orphan gives up soon.
        server = Server(
            directory, "--repl-diskless-sync-delay", "0", "--repl-timeout", "5", *options, program=self._program
        )
        self._started.append(server)
        return server

    def _sentinel(self, directory: Path, sentinels: int) -> int:
        directory.mkdir(parents=True)
        port = free_port()
        (directory / "sentinel.conf").write_text(
            f"bind 127.0.0.1\nport {port}\ndir {directory}\nlogfile log\nset-proc-title no\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.master.port} {sentinels // 2 + 1}\n"
            f"sentinel auth-pass {SERVICE} {PASSWORD}\n"
            f"sentinel down-after-milliseconds {SERVICE} 2000\n"
            f"sentinel failover-timeout {SERVICE} 5000\n"
        )
        keeper = Keeper([str(self._program), str(directory / "sentinel.conf"), "--sentinel"], directory)
        self._keepers.append(keeper)

        def answers() -> bool:
            assert not keeper.ended.is_set(), keeper.complaint() or (directory / "log").read_text()
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return True
            return False

        wait_until(answers, "a Sentinel to answer")
        return port

    def _knows_the_others(self, port: int, sentinels: int) -> bool:
        with closing(redis.Redis(port=port)) as sentinel:
            state = cast("dict[str, dict[str, Any]]", sentinel.sentinel_masters())[SERVICE]
            return bool(state["num-other-sentinels"] == sentinels - 1 and state["num-slaves"] == 1)

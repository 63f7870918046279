"""The Redis server that belongs to one `swamp serve`: started with it, ended with it, reachable from this machine only.

In the data directory (0700): `appendonlydir/` (the data), `redis.conf` (0600), `redis.log`, `redis.pid` (while it
runs) and `embedded.json` (the port and socket directory of the last start); `appendonlydir.damaged/` once there were
data that no server could read.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from swamp.broker.acl import AclUser, password_hash
from swamp.broker.server_process import FAREWELL, Keeper, arguments_of
from swamp.broker.server_program import find_server
from swamp.errors import Busy, Unreachable

MAX_MEMORY = 1 << 30  # bytes
_LONGEST_SOCKET_PATH = 100  # bytes; systems refuse between 104 and 108
_PATIENCE = 15.0  # seconds until the new server must answer at all; loading old data may take longer
# What a server says that ends because it cannot read its data: a machine that lost its power can leave zeros in a file.
_UNREADABLE = re.compile(r"append.only file|append.only dir|AOF|truncated file", re.IGNORECASE)


class EmbeddedRedis:
    """A running server. Made by `start`; `stop` ends it, as does the end of this process, however it comes."""

    def __init__(self, keeper: Keeper, socket_path: Path, port: int, data_dir: Path) -> None:
        self._keeper = keeper
        self.socket_path = socket_path
        self.port = port
        self.data_dir = data_dir
        self.pid = keeper.pid
        self.damage = ""  #: what the server said of the data of before, if it could not read them and began without

    @classmethod
    def start(
        cls,
        data_dir: Path,
        run_dir: Path,
        users: Sequence[AclUser],
        port: int | None = None,
        *,
        server: Path | None = None,
        max_memory: int = MAX_MEMORY,
    ) -> EmbeddedRedis:
        """Starts the server on the data in `data_dir` and returns when it answers and has loaded them.

        A directory for the socket is made in `run_dir` (see `runtime_directory`). Without `port` the port of the last
        start is taken again if it is free, else any. `server` is the program, found by `find_server` if None.
        A server that an earlier `swamp serve` could not end on this directory is ended first; the caller makes sure
        that no other orchestrator is using it (the lock of `serve`).

        Data that cannot be read are put aside, and the server begins without: the orchestrator makes again what Redis
        should hold, and would wait for ever for what is broken.

        Raises `Busy` when the given port is taken, `Unreachable` when no server can be found or started.
        """
        program = find_server() if server is None else server
        data_dir = data_dir.resolve()
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        data_dir.chmod(0o700)
        last_port = _end_leftover(data_dir)
        if port is not None and not _is_free(port):
            raise Busy(
                f"port {port} is taken, so the embedded Redis server cannot listen there",
                hint="choose another port, or none to take any free one",
                code="port_in_use",
            )
        damage = ""
        # A port found free can be taken before the server binds it.
        for _ in range(5):
            chosen = port if port is not None else last_port if last_port and _is_free(last_port) else _any_port()
            try:
                started = cls._start_on(program, data_dir, run_dir, users, chosen, max_memory)
            except _PortTaken:
                last_port = None
            except _Unreadable as unreadable:
                damage = str(unreadable)
            else:
                started.damage = damage
                return started
        raise Unreachable("the embedded Redis server found no port to listen on", hint=f"see {data_dir / 'redis.log'}")

    @classmethod
    def _start_on(
        cls, program: Path, data_dir: Path, run_dir: Path, users: Sequence[AclUser], port: int, max_memory: int
    ) -> EmbeddedRedis:
        socket_dir = Path(tempfile.mkdtemp(prefix="swamp-", dir=run_dir))
        socket_path = socket_dir / "redis.sock"
        try:
            _write_private(data_dir / "embedded.json", json.dumps({"port": port, "directory": str(socket_dir)}))
            password = secrets.token_hex(32)
            probe = AclUser("swamp-probe", ("reset", "on", f"#{password_hash(password)}", "+ping"))
            config = data_dir / "redis.conf"
            _write_private(config, config_text(data_dir, socket_path, port, (*users, probe), max_memory))
            log = data_dir / "redis.log"
            log_begins = log.stat().st_size if log.exists() else 0
            keeper = Keeper([str(program), str(config)], data_dir)
            try:
                _wait_until_it_answers(keeper, socket_path, f"AUTH {probe.name} {password}\r\nPING\r\n".encode())
            except _Exited:
                said = log.read_bytes()[log_begins:].decode(errors="replace") if log.exists() else ""
                if "Address already in use" in said or "Failed listening on port" in said:
                    raise _PortTaken from None
                reason = keeper.complaint() or said.strip().rpartition("\n")[2] or "it said nothing"
                if _UNREADABLE.search(reason) and "No space left" not in reason and _put_aside(data_dir):
                    raise _Unreadable(reason) from None
                raise Unreachable(
                    f"the embedded Redis server ended at its start: {reason}", hint=f"its log: {log}"
                ) from None
            except BaseException:
                keeper.end()
                raise
        except BaseException:
            shutil.rmtree(socket_dir, ignore_errors=True)
            raise
        return cls(keeper, socket_path, port, data_dir)

    @property
    def log_path(self) -> Path:
        """The server's own log; kept from start to start."""
        return self.data_dir / "redis.log"

    @property
    def running(self) -> bool:
        """False once the server has ended, whoever ended it."""
        return not self._keeper.ended.is_set()

    def stop(self) -> None:
        """Lets the server write its data and ends it; waits until it is gone. May be called again."""
        self._keeper.end()
        shutil.rmtree(self.socket_path.parent, ignore_errors=True)

    def __enter__(self) -> EmbeddedRedis:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def runtime_directory(environ: Mapping[str, str]) -> Path:
    """Where sockets go: XDG_RUNTIME_DIR if it can be used and is short, else the system's place for temporary files.

    A repository may lie deeper than a socket's path may be long, so its own directory cannot serve.
    """
    for candidate in (environ.get("XDG_RUNTIME_DIR"), environ.get("TMPDIR")):
        if not candidate or len(os.fsencode(candidate)) + len("/swamp-01234567/redis.sock") > _LONGEST_SOCKET_PATH:
            continue
        path = Path(candidate)
        if path.is_absolute() and path.is_dir() and os.access(path, os.W_OK | os.X_OK):
            return path
    return Path("/tmp")  # noqa: S108 - the directory made in it is private and has a random name


def config_text(data_dir: Path, socket_path: Path, port: int, users: Sequence[AclUser], max_memory: int) -> str:
    """The server's configuration file.

    `set-proc-title no` leaves the path of this file in the process's arguments, by which a leftover server is known.
    `aof-use-rdb-preamble no` makes data that every server from 7.0 on can load. The hash of a job has 17 short fields
    and some of a few hundred bytes; kept in one piece, which `hash-max-listpack` is about, it takes 1.0 kB instead of
    1.7, and a fifth less of the server's time until it is deleted. The hash of results may grow long, and is searched:
    hence few entries.
    """
    return "\n".join(
        (
            "bind 127.0.0.1",
            f"port {port}",
            f"unixsocket {_quoted(socket_path)}",
            "unixsocketperm 700",
            f"dir {_quoted(data_dir)}",
            f"pidfile {_quoted(data_dir / 'redis.pid')}",
            f"logfile {_quoted(data_dir / 'redis.log')}",
            "daemonize no",
            "set-proc-title no",
            'save ""',
            "appendonly yes",
            "appendfsync everysec",
            "aof-use-rdb-preamble no",
            f"maxmemory {max_memory}",
            "maxmemory-policy noeviction",
            "hash-max-listpack-entries 32",
            "hash-max-listpack-value 1024",
            "user default reset off",
            *(user.config_line for user in users),
            "",
        )
    )


class _Exited(Exception):
    """The server ended before it answered."""


class _PortTaken(Exception):
    """Somebody else listens on the port that was chosen."""


class _Unreadable(Exception):
    """The server could not read its data, which are out of its way now; its own words."""


def _wait_until_it_answers(keeper: Keeper, socket_path: Path, greeting: bytes) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not keeper.ended.is_set():
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            probe.connect(str(socket_path))
            probe.sendall(greeting)
            answer = b""
            while answer.count(b"\r\n") < 2 and (more := probe.recv(1024)):
                answer += more
            if b"+PONG" in answer:
                return
            if b"-LOADING" in answer:
                deadline = time.monotonic() + _PATIENCE
                keeper.ended.wait(0.05)
        if time.monotonic() > deadline:
            raise Unreachable(f"the embedded Redis server (process {keeper.pid}) does not answer", hint="try again")
        keeper.ended.wait(0.001)
    raise _Exited


def _end_leftover(data_dir: Path) -> int | None:
    """Ends the server of an earlier start, if one still runs, and removes its socket. Returns the port it had."""
    config = str(data_dir / "redis.conf")
    with contextlib.suppress(OSError, ValueError):
        pid = int((data_dir / "redis.pid").read_text())
        for how, patience in ((signal.SIGTERM, FAREWELL), (signal.SIGKILL, FAREWELL)):
            deadline = time.monotonic() + patience
            if config in arguments_of(pid):
                os.kill(pid, how)
            while config in arguments_of(pid) and time.monotonic() < deadline:
                time.sleep(0.005)
    try:
        last = json.loads((data_dir / "embedded.json").read_text())
        port, directory = int(last["port"]), Path(last["directory"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if directory.name.startswith("swamp-"):
        with contextlib.suppress(OSError):
            (directory / "redis.sock").unlink(missing_ok=True)
            directory.rmdir()
    return port


def _put_aside(data_dir: Path) -> bool:
    """Whether data were there, and are out of the way now. Only the last that were damaged are kept."""
    data, aside = data_dir / "appendonlydir", data_dir / "appendonlydir.damaged"
    with contextlib.suppress(OSError):
        if aside.is_dir():
            shutil.rmtree(aside)
        data.replace(aside)
        return True
    return False


def _is_free(port: int) -> bool:
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _any_port() -> int:
    with socket.socket() as attempt:
        attempt.bind(("127.0.0.1", 0))
        port: int = attempt.getsockname()[1]
    return port


def _quoted(path: Path) -> str:
    """A path as one word of the configuration file, whatever bytes it holds."""
    return (
        '"'
        + "".join(
            chr(b) if b < 0x80 and (chr(b).isalnum() or b in b"/._-") else f"\\x{b:02x}" for b in os.fsencode(path)
        )
        + '"'
    )


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(text, encoding="utf-8")

"""Processes that the bench starts. Every one ends with the block that started it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from swamp.broker.server_process import Keeper
from swamp.broker.server_program import find_server

PATIENCE = 60.0  #: seconds that anything may take that is not measured

Fact = TypeVar("Fact")


class BenchFailed(Exception):
    """Something that had to be there to be measured was not."""


def wait_until(predicate: Callable[[], Fact], what: str, patience: float = PATIENCE) -> Fact:
    """Wait for a fact. Raises `BenchFailed` when it does not come within `patience` seconds."""
    deadline = time.monotonic() + patience
    while not (fact := predicate()):
        if time.monotonic() > deadline:
            raise BenchFailed(f"waited {patience:g} s in vain for {what}")
        time.sleep(0.01)
    return fact


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Our own environment without the SWAMP_ settings of the person who runs this, plus `extra`."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith("SWAMP_")}, **extra}


def run(command: Sequence[str | Path], cwd: Path, env: Mapping[str, str], patience: float = PATIENCE) -> str:
    """Run a command to its end and return what it printed on stdout. Raises `BenchFailed` unless it succeeded."""
    try:
        done = subprocess.run(
            command, cwd=cwd, env=environment(env), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=patience, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise BenchFailed(f"`{_line(command)}` did not end within {patience:g} s") from None
    if done.returncode != 0:
        raise BenchFailed(f"`{_line(command)}` ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr}")
    return done.stdout


class Running:
    """A command that keeps running, as the leader of its own process group; what it prints goes into a file."""

    def __init__(self, command: Sequence[str | Path], cwd: Path, env: Mapping[str, str], screen: Path) -> None:
        self._command = command
        self._screen = screen
        with screen.open("wb") as out:
            self._process = subprocess.Popen(
                command, cwd=cwd, env=environment(env), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for_line(self, pattern: str) -> None:
        """Wait until a line like this was printed. Raises `BenchFailed`, showing what was, when it never is."""

        def printed() -> bool:
            if re.search(pattern, self.output()):
                return True
            if self._process.poll() is not None:
                raise BenchFailed(f"`{_line(self._command)}` ended; it printed:\n{self.output()[-3000:]}")
            return False

        try:
            wait_until(printed, f"a line like '{pattern}'")
        except BenchFailed as failed:
            raise BenchFailed(f"{failed} from `{_line(self._command)}`:\n{self.output()[-3000:]}") from None

    def output(self) -> str:
        return self._screen.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """To all of its process group."""
        os.killpg(self.pid, number)

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Asked to end, and after ten seconds made to."""
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        with suppress(ProcessLookupError):  # whatever is left of its group
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


class RedisServer:
    """A server of the program that Swamp starts too, with the persistence that Swamp asks for, on a loopback port."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.port = free_port()
        self._keeper = Keeper(
            [
                str(find_server()),
                *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(directory)),
                *("--save", "", "--appendonly", "yes", "--appendfsync", "everysec", "--set-proc-title", "no"),
            ],
            directory,
        )
        try:
            wait_until(lambda: self._keeper.ended.is_set() or _answers(self.port), "the Redis server to answer")
            if self._keeper.ended.is_set():
                raise BenchFailed(f"the Redis server ended: {self._keeper.complaint()}")
        except BaseException:
            self._keeper.end()
            raise

    @property
    def pid(self) -> int:
        return self._keeper.pid

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keeper.end()


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """A directory that is removed at the end. Its path is short enough for sockets to be made in it."""
    with tempfile.TemporaryDirectory(prefix="swamp-bench-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def free_port() -> int:
    """A loopback TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as probe:
            probe.sendall(b"PING\r\n")
            return probe.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def _line(command: Sequence[str | Path]) -> str:
    """For people; a token is no part of it."""
    return re.sub(r"\.[0-9a-f]{64}", ".…", " ".join(map(str, command)))[:300]

"""Programs as children of a keeper (see `swamp.models.keeper`), which ends them when this process ends in any way."""

from __future__ import annotations

import array
import itertools
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from swamp.models import keeper
from swamp.models.direct import Direct
from swamp.models.spawner import NotStarted, Spawner, why_not_started

_FAREWELL = keeper.GRACE + 1.0  # seconds that the keeper gets to end what is left
_AFTER_KILL = 1.0  # seconds; what is left then cannot be killed: the system holds it
_LOST = "The keeper of this machine's steps was killed, and the step was ended with it"


class Kept:
    """The spawner for processes that live long: one keeper, started with `start` or the first program.

    A keeper that was killed is replaced when the next program is to start. `close` ends everything that still runs,
    processes that steps left behind included, unless it is to `leave` them. All methods may be called from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mark = os.urandom(8).hex()  # random: nobody else's processes bear it
        self._numbers = itertools.count(1)
        self._line: _Line | None = None
        self._dead: list[_Line] = []
        self._closed = False
        self._environment: tuple[Mapping[str, str], bytes] = ({}, b"")  # of the last program; most are alike

    @property
    def pid(self) -> int | None:
        """Of the keeper; None while there is none."""
        line = self._line
        return None if line is None else line.process.pid

    def start(self) -> None:
        with suppress(OSError):  # the first program will say why
            self._open_line()

    def spawn(
        self,
        command: Sequence[str],
        executable: str,
        directory: Path,
        environment: Mapping[str, str],
        stdout: int,
        stderr: int,
    ) -> KeptProgram:
        token = f"{self._mark}-{next(self._numbers)}"
        try:
            request = _joined(("start", token, executable, str(directory), str(len(command)), *command))
            request += self._lines_of(environment)
        except ValueError as error:
            raise NotStarted(f"The command cannot be started: {error}") from error
        reader, writer = os.pipe()
        try:
            line = self._send(request, [writer, stdout, stderr])
        except OSError as error:
            os.close(reader)
            raise NotStarted(f"The command cannot be started, because its keeper cannot: {error}") from error
        finally:
            os.close(writer)
        return KeptProgram(line, token, reader, executable, directory)

    def close(self, *, leave: bool = False) -> None:
        with self._lock:
            self._closed = True
            lines = [*self._dead, self._line] if self._line else self._dead
            self._dead, self._line = [], None
        for line in lines:
            line.close(leave=leave)

    def _lines_of(self, environment: Mapping[str, str]) -> bytes:
        known, lines = self._environment
        if environment != known:
            lines = _encoded(environment)
            self._environment = (dict(environment), lines)
        return lines

    def _send(self, request: bytes, descriptors: list[int]) -> _Line:
        line = self._open_line()
        try:
            line.send(request, descriptors)
        except (BrokenPipeError, ConnectionResetError):
            line = self._open_line(dead=line)
            line.send(request, descriptors)
        return line

    def _open_line(self, dead: _Line | None = None) -> _Line:
        """The line to the keeper; to a new one if there is none, or only this dead one."""
        with self._lock:
            if self._closed:
                raise OSError("this process is about to end")
            if self._line is not None and self._line is dead:
                # Others may be about to use it, so it stays open: its number must not come to mean something else.
                self._dead.append(self._line)
                self._line.process.wait()
                self._line = None
            if self._line is None:
                self._line = _Line(self._mark)
            return self._line


class _Line:
    """A keeper process and the socket to it. Raises `OSError` if it cannot be started."""

    def __init__(self, mark: str) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", keeper.__file__, str(theirs.fileno()), mark],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd="/",
                # A Python that is built to be moved may need this one to start.
                env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
                start_new_session=True,
            )
        except OSError:
            self._socket.close()
            raise
        finally:
            theirs.close()

    def send(self, request: bytes, descriptors: list[int]) -> None:
        """Raises `OSError`; of it, `BrokenPipeError` or `ConnectionResetError` if the keeper is dead."""
        if len(request) <= keeper.PACKET:
            self._send(request, descriptors)
            return
        file = os.memfd_create("request")
        try:
            with open(file, "wb", closefd=False) as content:
                content.write(request)
            os.lseek(file, 0, os.SEEK_SET)
            self._send(b"\0", [*descriptors, file])
        finally:
            os.close(file)

    def _send(self, request: bytes, descriptors: list[int]) -> None:
        # Without a lock: a packet goes whole, and the keeper often takes over the processor in the midst of this.
        self._socket.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])

    def signal(self, token: str, number: int) -> None:
        """To all processes of a step; if the keeper is dead, this is too late."""
        with suppress(OSError):
            self._socket.send(b"end\0%s\0%d" % (token.encode(), number))

    def close(self, *, leave: bool) -> None:
        with suppress(OSError):
            if leave:  # it goes when it has read this; a socket that had ended by then would say otherwise
                self._socket.send(b"leave\0")
            else:
                self._socket.shutdown(socket.SHUT_RDWR)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_FAREWELL)
        self._socket.close()


class KeptProgram:
    """A `Program` that is a child of the keeper."""

    def __init__(self, line: _Line, token: str, status: int, executable: str, directory: Path) -> None:
        self._line = line
        self._token = token
        self._executable = executable
        self._directory = directory
        self.exit_code: int | None = None
        self.fault: str | None = None
        self.exit_fd: int | None = status

    def look(self) -> None:
        if self.exit_fd is None:
            return
        what, _, number = os.read(self.exit_fd, 64).partition(b" ")
        if what == b"exit":
            self.exit_code = int(number)
            return
        os.close(self.exit_fd)
        self.exit_fd = None
        if what:
            why = why_not_started(int(number), self._executable, self._directory, of_directory=what == b"directory")
            raise NotStarted(why)
        if self.exit_code is None:
            end_marked(self._token)
            self.exit_code, self.fault = -signal.SIGKILL, _LOST

    def watch(self) -> None:
        pass

    def lives(self) -> bool:
        return self.exit_fd is not None

    def signal(self, number: int) -> None:
        self._line.signal(self._token, number)

    def close(self) -> None:
        if self.exit_code is None and self.exit_fd is not None:
            self.signal(signal.SIGKILL)
            until = time.monotonic() + _AFTER_KILL
            while self.exit_fd is not None and time.monotonic() < until:
                poll = select.poll()
                poll.register(self.exit_fd, select.POLLIN)
                if poll.poll(_AFTER_KILL * 1000):
                    with suppress(NotStarted):
                        self.look()
        if self.exit_fd is not None:
            os.close(self.exit_fd)
            self.exit_fd = None


def spawner_that_leaves_nothing() -> Spawner:
    """A keeper where the system can do that (Linux); elsewhere process groups have to do."""
    return Kept() if sys.platform == "linux" else Direct()


def end_marked(token: str) -> None:
    """Kill what is left of a step whose keeper is dead: nobody else watches over it."""
    until = time.monotonic() + _AFTER_KILL
    quiet = 0
    while quiet < 2 and time.monotonic() < until:  # twice, because the keeper may have died while it started it
        processes = keeper.look()
        left = keeper.tree(processes, processes.keys(), (), lambda pid: keeper.is_of_step(pid, token.encode()))
        left -= keeper.send(processes, left, signal.SIGKILL)
        quiet = 0 if left else quiet + 1
        time.sleep(0.01)


def _encoded(environment: Mapping[str, str]) -> bytes:
    """`name=value` lines, each ended by NUL. Raises `ValueError` for what cannot be in an environment."""
    if any("=" in name for name in environment):
        raise ValueError("illegal environment variable name")
    return _joined([f"{name}={value}" for name, value in environment.items()])


def _joined(texts: Sequence[str]) -> bytes:
    joined = os.fsencode("\0".join((*texts, "")))
    if joined.count(b"\0") != len(texts):
        raise ValueError("embedded null byte")
    return joined

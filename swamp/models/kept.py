"""Programs as children of a keeper (see `swamp.models.keeper`), which ends them when this process ends in any way."""

from __future__ import annotations

import array
import itertools
import os
import secrets
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
    processes that steps left behind included. All methods may be called from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mark = secrets.token_hex(8)  # random: nobody else's processes bear it
        self._numbers = itertools.count(1)
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Of the keeper; None before it was started."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        with self._lock, suppress(OSError):  # the first program will say why
            if self._socket is None:
                self._begin()

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
        request = _request(token, command, executable, directory, environment)
        reader, writer = os.pipe()
        try:
            self._send(request, [writer, stdout, stderr])
        except OSError as error:
            os.close(reader)
            raise NotStarted(f"The command cannot be started, because its keeper cannot: {error}") from error
        finally:
            os.close(writer)
        return KeptProgram(self, token, reader, executable, directory)

    def signal(self, token: str, number: int) -> None:
        """To all processes of a step; if there is no keeper any more, this is too late."""
        with self._lock, suppress(OSError):
            if self._socket is not None:
                self._socket.send(b"end\0%s\0%d" % (token.encode(), number))

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._socket is not None:
                self._socket.close()
                self._socket = None
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_FAREWELL)

    def _send(self, request: bytes, descriptors: list[int]) -> None:
        with self._lock:
            if self._socket is None:
                self._begin()
            try:
                self._send_now(request, descriptors)
            except (BrokenPipeError, ConnectionResetError):
                self._begin()
                self._send_now(request, descriptors)

    def _send_now(self, request: bytes, descriptors: list[int]) -> None:
        if self._socket is None:
            raise OSError("this process is about to end")
        file = None
        if len(request) > keeper.PACKET:
            file = os.memfd_create("request")
            with open(file, "wb", closefd=False) as content:
                content.write(request)
            os.lseek(file, 0, os.SEEK_SET)
            request, descriptors = b"\0", [*descriptors, file]
        try:
            self._socket.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])
        finally:
            if file is not None:
                os.close(file)

    def _begin(self) -> None:
        """Start a keeper; the one before it, if there was one, is dead."""
        if self._closed:
            raise OSError("this process is about to end")
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.wait()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", keeper.__file__, str(theirs.fileno()), self._mark],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    cwd="/",
                    # A Python that is built to be moved may need this one to start.
                    env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
                    start_new_session=True,
                )
            except OSError:
                ours.close()
                raise
        self._socket = ours


class KeptProgram:
    """A `Program` that is a child of the keeper."""

    def __init__(self, kept: Kept, token: str, status: int, executable: str, directory: Path) -> None:
        self._kept = kept
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
        self._kept.signal(self._token, number)

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
    marker = keeper.MARKER + b"=" + token.encode() + b"\0"
    until = time.monotonic() + _AFTER_KILL
    quiet = 0
    while quiet < 2 and time.monotonic() < until:  # twice, because the keeper may have died while it started it
        processes = keeper.look()
        left = keeper.tree(processes, processes.keys(), (), lambda pid: keeper.bears(pid, marker))
        left -= keeper.send(processes, left, signal.SIGKILL)
        quiet = 0 if left else quiet + 1
        time.sleep(0.01)


def _request(
    token: str, command: Sequence[str], executable: str, directory: Path, environment: Mapping[str, str]
) -> bytes:
    lines = [f"{name}={value}" for name, value in environment.items()]
    parts = ("start", token, executable, str(directory), str(len(command)), *command, *lines, "")
    try:
        request = os.fsencode("\0".join(parts))
    except ValueError as error:
        raise NotStarted(f"The command cannot be started: {error}") from error
    if request.count(b"\0") != len(parts) - 1:
        raise NotStarted("The command cannot be started: embedded null byte")
    if any("=" in name for name in environment):
        raise NotStarted("The command cannot be started: illegal environment variable name")
    return request

"""Programs as children of a keeper (see `swamp.models.keeper`), which ends them when this process ends in any way."""

from __future__ import annotations

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
from typing import NamedTuple

from swamp.models import keeper
from swamp.models.direct import Direct
from swamp.models.spawner import NotBegun, NotStarted, Spawner, why_not_started

_FAREWELL = keeper.GRACE + 1.0  # seconds that the keeper gets to end what is left
_AFTER_KILL = 1.0  # seconds; what is left then cannot be killed: the system holds it
_OUTPUTS = 2
_LOST = "The keeper of this machine's steps was killed, and the step was ended with it"
_UNHEARD = "What the command prints could not be heard: too many files are open, or it is too much at once"


class Kept:
    """The spawner for processes that live long: one keeper, started with `start` or the first program.

    A keeper that was killed is replaced when the next program is to start. `close` ends everything that still runs,
    processes that steps left behind included, unless it is to `leave` them. All methods may be called from any thread.
    """

    def __init__(self, most: int = 0) -> None:
        """`most` programs run at once, 0 for any number."""
        self._most = most
        self._lock = threading.Lock()
        self._mark = os.urandom(8).hex()  # random: nobody else's processes bear it
        self._numbers = itertools.count(1)
        self._line: _Line | None = None
        self._dead: list[_Line] = []
        self._closed = False
        self._environment: tuple[Mapping[str, str], bytes] = ({}, b"")  # of the last program; most are alike

    @property
    def has_a_queue(self) -> bool:
        return bool(self._most)

    @property
    def pid(self) -> int | None:
        """Of the keeper; None while there is none."""
        line = self._line
        return None if line is None else line.process.pid

    def start(self) -> None:
        with suppress(OSError):  # the first program will say why
            self._open_line()

    def spawn(
        self, command: Sequence[str], executable: str, directory: Path, environment: Mapping[str, str]
    ) -> KeptProgram:
        token = f"{self._mark}-{next(self._numbers)}"
        try:
            request = _joined((token, executable, str(directory), str(len(command)), *command))
            request += self._lines_of(environment)
        except ValueError as error:
            raise NotStarted(f"The command cannot be started: {error}") from error
        try:
            line, step_line = self._send(request)
        except OSError as error:
            raise NotStarted(f"The command cannot be started, because its keeper cannot: {error}") from error
        return KeptProgram(line, step_line, token, executable, directory)

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

    def _send(self, request: bytes) -> tuple[_Line, _StepLine]:
        """On which lines the step is now: the owner's, and its own."""
        line = self._open_line()
        try:
            return line, line.begin(request)
        except (BrokenPipeError, ConnectionResetError):
            line = self._open_line(dead=line)
            return line, line.begin(request)

    def _open_line(self, dead: _Line | None = None) -> _Line:
        """The line to the keeper; to a new one if there is none, or only this dead one."""
        with self._lock:
            if self._closed:
                raise OSError("this process is about to end")
            if self._line is not None and self._line is dead:
                # Others may be about to use it, so it stays open: its number must not come to mean something else.
                self._dead.append(self._line)
                self._line.hang_up()
                self._line = None
            if self._line is None:
                self._line = _Line(self._mark, self._most)
            return self._line


class _StepLine(NamedTuple):
    """A socket on which the keeper tells of one step at a time, and what it is called there."""

    number: int
    socket: socket.socket


class _Line:
    """A keeper process, the socket to it, and lines for steps. Raises `OSError` if it cannot be started."""

    def __init__(self, mark: str, most: int) -> None:
        self._free: list[_StepLine] = []  # those without a step; taken and given back in one operation each
        self._numbers = itertools.count(1)
        self._closed = False
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", keeper.__file__, str(theirs.fileno()), mark, str(most)],
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

    def begin(self, request: bytes) -> _StepLine:
        """Have a step begun, behind those before it; the line that tells of it, to be given back with `free` when there
        is no more to tell.

        Raises `OSError`; of it, `BrokenPipeError` or `ConnectionResetError` if the keeper is dead.
        """
        try:
            line = self._free.pop()
        except IndexError:
            line = self._new_line()
        try:
            if len(request) <= keeper.PACKET:
                self._socket.send(b"start\0%d\0" % line.number + request)
            else:
                self._send_long(line.number, request)
        except OSError:
            line.socket.close()
            raise
        return line

    def free(self, line: _StepLine) -> None:
        """The step on this line has ended."""
        self._free.append(line)
        if self._closed:
            self.hang_up()

    def is_dead(self) -> bool:
        """Whether the keeper has ended, of which its sockets may have told just now. One that lives may have dropped a
        line because it has too many files open."""
        try:
            self.process.wait(_AFTER_KILL)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _new_line(self) -> _StepLine:
        number = next(self._numbers)
        line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            keeper.deliver(self._socket, b"line\0%d" % number, [theirs.fileno()])
        except OSError:
            line.close()
            raise
        finally:
            theirs.close()
        return _StepLine(number, line)

    def _send_long(self, number: int, request: bytes) -> None:
        file = os.memfd_create("request")
        try:
            with open(file, "wb", closefd=False) as content:
                content.write(request)
            os.lseek(file, 0, os.SEEK_SET)
            keeper.deliver(self._socket, b"start\0%d\0" % number, [file])
        finally:
            os.close(file)

    def hang_up(self) -> None:
        """Close the lines without a step; those with one are closed when it has ended."""
        self._closed = True
        with suppress(IndexError):
            while True:
                self._free.pop().socket.close()

    def signal(self, token: str, number: int) -> None:
        """To all processes of a step; if the keeper is dead, this is too late."""
        with suppress(OSError):
            self._socket.send(b"end\0%s\0%d" % (token.encode(), number))

    def withdraw(self, token: str) -> None:
        """Have a step that waits for its turn not started. A keeper that is too busy to listen is not waited for."""
        with suppress(OSError):
            self._socket.send(b"withdraw\0" + token.encode(), socket.MSG_DONTWAIT)

    def close(self, *, leave: bool) -> None:
        with suppress(OSError):
            if leave:  # it goes when it has read this; a socket that had ended by then would say otherwise
                self._socket.send(b"leave\0")
            else:
                self._socket.shutdown(socket.SHUT_RDWR)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_FAREWELL)
        self._socket.close()
        self.hang_up()


class KeptProgram:
    """A `Program` that is a child of the keeper."""

    def __init__(self, to_keeper: _Line, line: _StepLine, token: str, executable: str, directory: Path) -> None:
        self._to_keeper = to_keeper
        self._line: _StepLine | None = line  # None: there is no more to tell
        self._token = token
        self._executable = executable
        self._directory = directory
        self.exit_code: int | None = None
        self.fault: str | None = None
        self.began = 0.0
        self.printed: tuple[bytes, bytes] = (b"", b"")
        self.outputs: tuple[int, int] | None = None

    @property
    def exit_fd(self) -> int | None:
        return None if self._line is None else self._line.socket.fileno()

    def ends_soon(self) -> bool:
        while self.outputs is None and self._line is not None:
            self.look()
        return self.outputs is None

    def look(self) -> None:
        if self._line is None:
            return
        try:
            packet, descriptors = keeper.receive(self._line.socket, 2)
        except OSError:  # the keeper was killed with something of ours unread
            packet, descriptors = b"", []
        head, _, content = packet.partition(b"\0")
        what, *words = head.split() or [b""]
        if what in (b"ended", b"on"):
            first = int(words[-2])
            self.printed = (content[:first], content[first:])
            self.began = int(words[-1]) / 1e9
        if what in (b"ended", b"exit", b"unheard"):
            self.exit_code = int(words[0])
        if what == b"on" and len(descriptors) == _OUTPUTS:
            self.outputs = (descriptors[0], descriptors[1])
        elif what == b"on":
            for descriptor in descriptors:
                os.close(descriptor)
            self.signal(signal.SIGKILL)
        elif what == b"unheard" or (what == b"exit" and self.outputs is None):
            self.fault = _UNHEARD
        if not what:
            self._keeper_is_dead()
        elif what not in (b"on", b"exit") or words[-1] == b"over":
            self._to_keeper.free(self._line)
            self._line = None
        if what == b"withdrawn":
            raise NotBegun
        if what in (b"directory", b"program"):
            number, of_directory = int(words[0]), what == b"directory"
            raise NotStarted(why_not_started(number, self._executable, self._directory, of_directory=of_directory))

    def withdraw(self) -> None:
        self._to_keeper.withdraw(self._token)

    def watch(self) -> None:
        pass

    def lives(self) -> bool:
        return self._line is not None

    def signal(self, number: int) -> None:
        self._to_keeper.signal(self._token, number)

    def close(self) -> None:
        if self.exit_code is None and self._line is not None:
            self.signal(signal.SIGKILL)
            until = time.monotonic() + _AFTER_KILL
            while self._line is not None and time.monotonic() < until:
                poll = select.poll()
                poll.register(self._line.socket, select.POLLIN)
                if poll.poll(_AFTER_KILL * 1000):
                    with suppress(NotStarted, NotBegun):
                        self.look()
        if self._line is not None:
            self._line.socket.close()
            self._line = None

    def _keeper_is_dead(self) -> None:
        if self._line is not None:
            self._line.socket.close()
            self._line = None
        if not self._to_keeper.is_dead() and self.outputs is None:
            raise NotStarted("The command cannot be started: its keeper has too many files open")
        if self.exit_code is None:
            end_marked(self._token, self._to_keeper.process.pid)
            self.exit_code, self.fault = -signal.SIGKILL, _LOST


def spawner_that_leaves_nothing(most: int = 0) -> Spawner:
    """A keeper where the system can do that (Linux), which runs `most` programs at once, 0 for any number; elsewhere
    process groups have to do, and whoever starts programs counts them."""
    return Kept(most) if sys.platform == "linux" else Direct()


def end_marked(token: str, of: int) -> None:
    """Kill what is left of a step whose keeper (its process id) is dead: nobody else watches over it. The keeper itself
    bears the mark of the step that it started last, and may be seen still."""
    until = time.monotonic() + _AFTER_KILL
    quiet = 0
    while quiet < 2 and time.monotonic() < until:  # twice, because the keeper may have died while it started it
        processes = keeper.look()
        left = keeper.tree(processes, processes.keys() - {of}, (), lambda pid: keeper.is_of_step(pid, token.encode()))
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

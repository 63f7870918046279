"""Runs one program in a process group of its own, hears its output while it runs, and ends the whole group when asked.

One thread does it all, the caller's: it waits in a single `poll` for output, the program's exit, a cancellation and the
clock, so a running step costs nothing while nothing happens, and a short one little more than its `exec`.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from swamp.models.lines import LineCutter
from swamp.models.stopping import Stopping
from swamp.models.surroundings import Cancellation

DRAIN = 0.2  #: seconds to wait, after the program has exited, for output of processes that it left behind
_READ = 64 * 1024  # what a pipe holds
_LONGEST_WAIT = 3600.0  # seconds; `poll` cannot count past 24 days
_GROUP_LOOK = 0.005  # seconds to the first look at a group whose leader has exited; each next one takes twice as long
_GROUP_LOOK_LONGEST = 0.1
_SHORT = 0.02  # seconds in which most programs are done; also between looks at one where it has no descriptor


class NotStarted(Exception):
    """The program could not be started; the text says why, for people."""


@dataclass(frozen=True)
class Finished:
    """What is known of a program that has ended."""

    exit_code: int  #: as the program gave it; minus the signal's number if a signal ended it
    stdout: bytes
    stderr: bytes
    ended_by: str | None  #: `timeout` or `canceled` if we ended it; None if it ended by itself


def run_group(
    command: Sequence[str],
    *,
    executable: str,
    directory: Path,
    environment: Mapping[str, str],
    emit: Callable[[str, bytes], None],
    cancellation: Cancellation,
    timeout: float | None,
) -> Finished:
    """Run `command`, in a new session and with no input, until it exits, `timeout` seconds pass or it is canceled.

    `emit` hears whole lines of `stdout` and `stderr`. Processes that the program leaves running in the background
    keep running, but nobody waits for them or hears them after `DRAIN`; those of a program that was stopped are
    stopped with it. Raises `NotStarted`; whatever `emit` raises passes through, after the group was killed.
    """
    with _Group(command, executable, directory, environment, emit) as group:
        return group.wait(cancellation, timeout)


class _Stream:
    """One of the two outputs: what has come of it so far, and its cutter for those who listen."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.content = bytearray()
        self.lines = LineCutter()


class _Group:
    """A started program, its group and its pipes. Leaving the `with` leaves no descriptor and no zombie."""

    def __init__(
        self,
        command: Sequence[str],
        executable: str,
        directory: Path,
        environment: Mapping[str, str],
        emit: Callable[[str, bytes], None],
    ) -> None:
        self._emit = emit
        self._streams: dict[int, _Stream] = {}  # by the descriptor that is read, while it is open
        self._poll = select.poll()
        writers: list[int] = []
        try:
            self._outputs = [self._pipe(name, writers) for name in ("stdout", "stderr")]
            # Nothing here needs a function to run in the child, so CPython uses vfork: the start costs the same in a
            # process of any size.
            self._process = subprocess.Popen(
                command,
                executable=executable,
                cwd=str(directory),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=writers[0],
                stderr=writers[1],
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            self._close()
            raise NotStarted(_why_not_started(error, directory, executable)) from error
        finally:
            for writer in writers:
                os.close(writer)
        self._exit_fd: int | None = None
        self._short_until = time.monotonic() + _SHORT

    def _pipe(self, name: str, writers: list[int]) -> _Stream:
        reader, writer = os.pipe()
        writers.append(writer)
        self._poll.register(reader, select.POLLIN)
        self._streams[reader] = stream = _Stream(name)
        return stream

    def wait(self, cancellation: Cancellation, timeout: float | None) -> Finished:
        """Hear the program out, or end it."""
        self._poll.register(cancellation.wait_fd(), select.POLLIN)
        stopping = Stopping(None if timeout is None else time.monotonic() + timeout)
        while not self._has_exited():
            asked = self._look(stopping.due, None, cancellation)
            if not self._has_exited():  # else it was done before this could stop it
                self._signal(stopping.signal(time.monotonic(), cancellation.grace if asked else None))
        pause = _GROUP_LOOK
        while stopping.ended_by and not stopping.killed and _lives(self._process.pid):
            asked = self._look(stopping.due, pause, cancellation)
            self._signal(stopping.signal(time.monotonic(), cancellation.grace if asked else None))
            pause = min(pause * 2, _GROUP_LOOK_LONGEST)
        self._poll.unregister(cancellation.wait_fd())
        self._drain()
        stdout, stderr = (bytes(stream.content) for stream in self._outputs)
        return Finished(self._process.returncode, stdout, stderr, stopping.ended_by)

    def _look(self, until: float | None, at_most: float | None, cancellation: Cancellation | None) -> bool:
        """Wait for the next thing to happen, not past `until` nor longer than `at_most` seconds.

        Says whether somebody asked for the end.
        """
        if self._exit_fd is None and not self._has_exited():
            at_most = _SHORT
        seconds = None if until is None else max(0.0, until - time.monotonic())
        if at_most is not None:
            seconds = at_most if seconds is None else min(seconds, at_most)
        elif seconds is not None:
            seconds = min(seconds, _LONGEST_WAIT)
        asked = False
        for fd, _ in self._poll.poll(None if seconds is None else seconds * 1000):
            if fd in self._streams:
                self._read(fd)
            elif fd == self._exit_fd:
                self._poll.unregister(fd)
                self._process.wait()
            elif cancellation is not None:
                cancellation.take()
                asked = True
        if self._exit_fd is None and not self._has_exited():
            self._look_for_exit()
        return asked

    def _look_for_exit(self) -> None:
        """Notice the exit without a descriptor for it, or get one.

        The outputs of most programs end when they do, and soon, so that a descriptor would only cost time. The others
        run long, or leave their outputs to a process in the background.
        """
        if self._streams and time.monotonic() < self._short_until:
            return
        if self._process.poll() is None:
            self._exit_fd = _process_fd(self._process.pid)
            if self._exit_fd is not None:
                self._poll.register(self._exit_fd, select.POLLIN)

    def _read(self, fd: int) -> None:
        # The descriptor is readable and nobody else reads it, so this never blocks.
        data = os.read(fd, _READ)
        stream = self._streams[fd]
        if not data:
            self._poll.unregister(fd)
            del self._streams[fd]
            os.close(fd)
        stream.content += data
        piece = stream.lines.feed(data) if data else stream.lines.rest()
        if piece:
            self._emit(stream.name, piece)

    def _drain(self) -> None:
        """Take what is still in the pipes, and for `DRAIN` what others that hold them still write."""
        until = time.monotonic() + DRAIN
        while self._streams and time.monotonic() < until:
            self._look(until, None, None)
        for stream in self._streams.values():
            if piece := stream.lines.rest():
                self._emit(stream.name, piece)

    def _has_exited(self) -> bool:
        return self._process.returncode is not None

    def _signal(self, number: signal.Signals | None) -> None:
        if number is None or (self._has_exited() and not _lives(self._process.pid)):
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _close(self) -> None:
        for fd in self._streams:
            os.close(fd)
        self._streams = {}

    def __enter__(self) -> _Group:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._has_exited():
            self._signal(signal.SIGKILL)
            self._process.wait()
        if self._exit_fd is not None:
            os.close(self._exit_fd)
        self._close()


def _lives(group: int) -> bool:
    """Whether any process of the group is left. Its number is not given to another group while one is."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's by now (setuid), but alive
    # The dead count for `killpg` until their parent, now process 1, notices. In a container it may never do so.
    states = [state for member, state in _groups_and_states() if member == group]
    return not states or any(state not in "ZX" for state in states)


def _groups_and_states() -> Iterator[tuple[int, str]]:
    """The group and the state of every process, on Linux; elsewhere nothing."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):  # it ended while we looked
            # The name comes before, in brackets, and may itself hold anything.
            state, _, group = (entry / "stat").read_text("utf-8", "replace").rpartition(") ")[2].split()[:3]
            yield int(group), state


def _why_not_started(error: OSError | ValueError, directory: Path, executable: str) -> str:
    if not isinstance(error, OSError):
        return f"The command cannot be started: {error}"
    if error.errno == errno.E2BIG:
        return "The command cannot be started: it is longer than this system allows, or its environment is"
    if error.filename != str(directory):
        return f"The command cannot be started with {executable}: {error.strerror}"
    if error.errno == errno.ENOENT:
        return f"The working directory {directory} does not exist"
    return f"The working directory {directory} cannot be used: {error.strerror}"


def _process_fd(pid: int) -> int | None:
    """A descriptor that becomes readable when the process exits; None where the system has no such thing."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None

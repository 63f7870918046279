"""Runs one program in a session of its own, hears its output while it runs, and ends all of it when asked.

One thread does it all, the caller's: it waits in a single `poll` for output, the program's exit, a cancellation and the
clock, so a running step costs nothing while nothing happens, and a short one little more than its `exec`: it has the
moment in which most programs end to itself. Who starts the program, and how far "all of it" reaches, is the spawner's
business.
"""

from __future__ import annotations

import math
import os
import select
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from swamp.models.lines import LineCutter
from swamp.models.spawner import Program, Spawner
from swamp.models.stopping import Stopping
from swamp.models.surroundings import Cancellation
from swamp.values import value

DRAIN = 0.2  #: seconds to wait, after the program has exited, for output of processes that it left behind
_READ = 64 * 1024  # what a pipe holds
_LONGEST_WAIT = 3600.0  # seconds; `poll` cannot count past 24 days
_LOOK = 0.005  # seconds to the first look at what outlives a program that was ended; each next one takes twice as long
_LOOK_LONGEST = 0.1
_AFTER_KILL = 1.0  # seconds; what is left then cannot be killed: the system holds it
_SHORT = 0.02  # seconds in which most programs are done; also between looks at one where it has no descriptor


@value
class Finished:
    """What is known of a program that has ended."""

    exit_code: int  #: as the program gave it; minus the signal's number if a signal ended it
    stdout: bytes
    stderr: bytes
    ended_by: str | None  #: `timeout` or `canceled` if we ended it; None if it ended by itself
    began: float  #: when it was started, by the monotonic clock
    fault: str | None  #: why it was ended, for people, if it was neither of that


def run_program(
    command: Sequence[str],
    *,
    executable: str,
    directory: Path,
    environment: Mapping[str, str],
    spawner: Spawner,
    emit: Callable[[str, bytes], None],
    cancellation: Cancellation,
    timeout: float | None,
    begun: Callable[[], None] = lambda: None,
) -> Finished:
    """Run `command`, in a new session and with no input, until it exits, `timeout` seconds pass or it is canceled.

    `emit` hears whole lines of `stdout` and `stderr`. `begun` is called soon after the program has begun, for which it
    may have to wait. Processes that it leaves running in the background keep running, but nobody waits for them or
    hears them after `DRAIN`; those of a program that was stopped are stopped with it. Raises `NotStarted`, and
    `NotBegun` when it was withdrawn before it began, through the cancellation; whatever `emit` raises passes through,
    after the program was killed.
    """
    program = spawner.spawn(command, executable, directory, environment)
    try:
        cancellation.waits(program.withdraw)
        try:
            is_over = program.ends_soon()
        finally:
            cancellation.waits(None)
        begun()
        if is_over:
            return _all_at_once(program, emit)
        with _Run(program, emit) as run:
            return run.wait(cancellation, None if timeout is None else program.began + timeout)
    finally:
        program.close()


def _all_at_once(program: Program, emit: Callable[[str, bytes], None]) -> Finished:
    stdout, stderr = program.printed
    if stdout:
        emit("stdout", stdout)
    if stderr:
        emit("stderr", stderr)
    return Finished(program.exit_code or 0, stdout, stderr, None, program.began, program.fault)


class _Stream:
    """One of the two outputs: what has come of it so far, and its cutter for those who listen."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.content = bytearray()
        self.lines = LineCutter()


class _Run:
    """A program that was started, and its pipes. Leaving the `with` leaves no descriptor."""

    def __init__(self, program: Program, emit: Callable[[str, bytes], None]) -> None:
        self._program = program
        self._emit = emit
        self._outputs = [_Stream(name) for name in ("stdout", "stderr")]
        # By the descriptor that is read, while it is open:
        self._streams = dict(zip(program.outputs or (), self._outputs, strict=False))
        self._poll = select.poll()
        self._exit_fd: int | None = None  # of the program, while it is polled
        self._poll_exit()
        for reader in self._streams:
            self._poll.register(reader, select.POLLIN)
        self._short_until = time.monotonic() + _SHORT

    def wait(self, cancellation: Cancellation, until: float | None) -> Finished:
        """Hear the program out, or end it."""
        program = self._program
        for stream, content in zip(self._outputs, program.printed, strict=True):
            self._take(stream, content)
        self._poll.register(cancellation.wait_fd(), select.POLLIN)
        stopping = Stopping(until)
        while program.exit_code is None:
            asked = self._look(stopping.due, None, cancellation)
            if program.exit_code is None:  # else it was done before this could stop it
                self._signal(stopping, cancellation, asked)
        pause, patience = _LOOK, math.inf
        while stopping.ended_by and program.lives() and time.monotonic() < patience:
            asked = self._look(stopping.due, pause, cancellation)
            self._signal(stopping, cancellation, asked)
            if stopping.killed:
                patience = min(patience, time.monotonic() + _AFTER_KILL)
            pause = min(pause * 2, _LOOK_LONGEST)
        self._poll.unregister(cancellation.wait_fd())
        self._drain()
        stdout, stderr = (bytes(stream.content) for stream in self._outputs)
        return Finished(program.exit_code, stdout, stderr, stopping.ended_by, program.began, program.fault)

    def _signal(self, stopping: Stopping, cancellation: Cancellation, asked: bool) -> None:
        number = stopping.signal(time.monotonic(), cancellation.grace if asked else None)
        if number is not None:
            self._program.signal(number)

    def _look(self, until: float | None, at_most: float | None, cancellation: Cancellation | None) -> bool:
        """Wait for the next thing to happen, not past `until` nor longer than `at_most` seconds.

        Says whether somebody asked for the end.
        """
        if self._exit_fd is None and self._program.exit_code is None:
            at_most = _SHORT
        seconds = None if until is None else max(0.0, until - time.monotonic())
        if at_most is not None:
            seconds = at_most if seconds is None else min(seconds, at_most)
        elif seconds is not None:
            seconds = min(seconds, _LONGEST_WAIT)
        asked = False
        for fd, events in self._poll.poll(None if seconds is None else seconds * 1000):
            if fd in self._streams:
                self._read(fd, to_its_end=bool(events & select.POLLHUP))
            elif fd == self._exit_fd:
                self._program.look()
                self._poll_exit()
            elif cancellation is not None:
                cancellation.take()
                asked = True
        if self._exit_fd is None and self._program.exit_code is None:
            self._look_for_exit()
        return asked

    def _poll_exit(self) -> None:
        """Poll the descriptor that tells of the exit, as long as there is one."""
        if self._program.exit_fd != self._exit_fd:
            if self._exit_fd is not None:
                self._poll.unregister(self._exit_fd)
            if self._program.exit_fd is not None:
                self._poll.register(self._program.exit_fd, select.POLLIN)
            self._exit_fd = self._program.exit_fd

    def _look_for_exit(self) -> None:
        """Notice the exit without a descriptor for it, or get one.

        The outputs of most programs end when they do, and soon, so that a descriptor would only cost time. The others
        run long, or leave their outputs to a process in the background.
        """
        if self._streams and time.monotonic() < self._short_until:
            return
        self._program.look()
        if self._program.exit_code is None:
            self._program.watch()
            self._poll_exit()

    def _read(self, fd: int, *, to_its_end: bool) -> None:
        # The descriptor is readable, or has no writer any more, and nobody else reads it, so this never blocks.
        stream = self._streams[fd]
        while data := os.read(fd, _READ):
            self._take(stream, data)
            if not to_its_end:
                return
        self._poll.unregister(fd)
        del self._streams[fd]
        os.close(fd)
        if piece := stream.lines.rest():
            self._emit(stream.name, piece)

    def _take(self, stream: _Stream, data: bytes) -> None:
        stream.content += data
        if piece := stream.lines.feed(data):
            self._emit(stream.name, piece)

    def _drain(self) -> None:
        """Take what is still in the pipes, and for `DRAIN` what others that hold them still write."""
        until = time.monotonic() + DRAIN
        while self._streams and time.monotonic() < until:
            self._look(until, None, None)
        for stream in self._streams.values():
            if piece := stream.lines.rest():
                self._emit(stream.name, piece)

    def _close(self) -> None:
        for fd in self._streams:
            os.close(fd)
        self._streams = {}

    def __enter__(self) -> _Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

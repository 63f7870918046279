"""The keeper: a small process that starts the steps of its owner, and leaves none of them behind.

`swamp.models.kept` starts it as `python -I -S keeper.py <descriptor of a socket> <mark>`; it imports nothing of Swamp
and little else, so that it is small and soon there. Whatever a step leaves behind becomes the keeper's own child (it is
a "child subreaper", Linux), so nothing that a step starts is ever lost sight of: not in a session of its own, nor after
a double fork. When the socket ends, its owner has ended, however that came; then the keeper ends all of them, and goes.

Requests, one a packet, fields parted by NUL (which is in no argument and no environment):

    start  token executable directory n argument₁ … argumentₙ name=value …    + descriptors: status, stdout, stderr
    end    token signal                                                        TERM once, or KILL until nothing is left
    leave                                                                      go now, and end nothing of what is left

A request too long for a packet is empty and has a fourth descriptor: a file that holds it.

A step's status pipe says `exit <code>` (minus the signal's number if a signal ended it), or `directory <errno>` or
`program <errno>` if the step could not be started. Its end means that nothing is left to tell: of a step that was to be
ended, that no process of it is left.

Which processes are a step's: those that bear its marker, the variable `SWAMP_STEP=<token>`, or its brand; those in a
session of one of them; those that one of them started. Only what every process inherits still tells whose it is when
its parent is gone and its session is its own. The marker is the one variable of Swamp's own that a step sees; it opens
no door. The brand is a resource limit that Linux keeps and does not enforce, so that also a daemon that emptied its
environment is known. One that takes off all of it on purpose lives until the owner ends.
"""

from __future__ import annotations

import array
import errno
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

MARKER = b"SWAMP_STEP"
PACKET = 32 * 1024  #: bytes of the longest request that travels by itself
GRACE = 2.0  #: seconds between TERM and KILL for what is left when the owner has gone

_PR_SET_CHILD_SUBREAPER = 36
_BRAND = 10  # RLIMIT_LOCKS, for which Python has no name: file locks, not limited by Linux since 2.4.25
_BITS = (1 << 31) - 1  # of a brand that are the owner's, and as many that are the step's
_PAUSE, _PAUSE_LONGEST = 0.002, 0.1  # seconds between looks at what is to end; each is twice as long as the one before
_DESCRIPTORS = 4

Process = tuple[int, int, int]  #: parent, group and session of a process that lives


# ---------------------------------------------------------------------- which processes are whose: pure


def descendants(processes: Mapping[int, Process], ancestor: int) -> set[int]:
    """All that `ancestor` started or adopted, and all that those did."""
    children: dict[int, list[int]] = {}
    for pid, (parent, _, _) in processes.items():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    waiting = [ancestor]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found


def tree(
    processes: Mapping[int, Process], among: Collection[int], sessions: Collection[int], marked: Callable[[int], bool]
) -> set[int]:
    """The processes of one step: its sessions, what bears its mark, and whatever is tied to those."""
    found: set[int] = set()
    sessions = set(sessions)
    unsure = set(among)
    more = {pid for pid in unsure if processes[pid][2] in sessions or marked(pid)}
    while more:
        found |= more
        unsure -= more
        sessions |= {processes[pid][2] for pid in more}
        more = {pid for pid in unsure if processes[pid][2] in sessions or processes[pid][0] in found}
    return found


# ---------------------------------------------------------------------- the system


def look() -> dict[int, Process]:
    """Every process that lives. One that has ended and only waits for its parent to notice does not."""
    processes = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib would make the keeper larger and slower to start
        if name.isdecimal():
            # The program's name comes before, in brackets, and may itself hold anything.
            state = _read(f"/proc/{name}/stat").rpartition(b") ")[2].split(b" ", 4)
            if len(state) > 4 and state[0] not in b"ZX":
                processes[int(name)] = (int(state[1]), int(state[2]), int(state[3]))
    return processes


def is_of_step(pid: int, token: bytes) -> bool:
    """Whether the process bears the marker or the brand of this step."""
    return _bears(pid, token + b"\0") or _brand(pid) == _brand_of(token)


def is_of_owner(pid: int, mark: bytes) -> bool:
    """Whether the process bears those of any step of the owner whose tokens begin with this."""
    return _bears(pid, mark) or _brand(pid) >> 31 == _brand_of(mark + b"-0") >> 31


def _bears(pid: int, beginning: bytes) -> bool:
    """Whether the marker in the environment that the process was started with begins so."""
    return b"\0" + MARKER + b"=" + beginning in b"\0" + _read(f"/proc/{pid}/environ")


def _brand_of(token: bytes) -> int:
    """A number that a token `<mark, hex digits>-<number>` alone has, as far as 31 bits of each can tell."""
    mark, _, number = token.partition(b"-")
    return 1 << 62 | (int(mark, 16) & _BITS) << 31 | int(number) & _BITS


def _brand(pid: int) -> int:
    """The process's limit of file locks; 0 if it has none."""
    for line in _read(f"/proc/{pid}/limits").splitlines():
        if line.startswith(b"Max file locks"):
            soft = line.split()[3]
            return int(soft) if soft.isdigit() else 0
    return 0


def send(processes: Mapping[int, Process], pids: Collection[int], number: int) -> set[int]:
    """Signal them, a whole group at a time: no shell gets to its next command because only its child was ended.

    Returns those that cannot be signaled, because they are somebody else's by now (setuid).
    """
    not_ours = set()
    for group in sorted({processes[pid][1] for pid in pids}):
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            pass
        except PermissionError:
            not_ours |= {pid for pid in pids if processes[pid][1] == group}
    return not_ours


def _read(path: str) -> bytes:
    """The content of a file of /proc; nothing if the process has ended or is somebody else's."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            content = b""
            while piece := os.read(descriptor, 65536):
                content += piece
            return content
        finally:
            os.close(descriptor)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


# ---------------------------------------------------------------------- the keeper


class _Step:
    """A step whose end is not told yet. `signal` is the one to send at the next look, 0 for none."""

    __slots__ = ("ends", "pid", "sessions", "signal", "status", "token")

    def __init__(self, token: bytes, pid: int, status: int | None) -> None:
        self.token = token
        self.pid = pid  # of the leader; 0 when it has exited
        self.status = status
        self.sessions = {pid} if pid else set()
        self.ends = False
        self.signal = 0


class Keeper:
    """`mark` begins the token of every step of this owner."""

    def __init__(self, owner: socket.socket, mark: bytes) -> None:
        self._owner = owner
        self._mark = mark
        self._me = os.getpid()
        self._running: dict[int, _Step] = {}  # by the leader's pid, until it exits
        self._steps: dict[bytes, _Step] = {}  # by token, until there is nothing left to tell
        self._ending: list[_Step] = []
        self._pause, self._next_look = _PAUSE, 0.0  # at the steps that are to end
        self._environment: tuple[bytes, dict[bytes, bytes]] = (b"", {})  # of the last step; most are alike
        self._unbranded = resource.getrlimit(_BRAND)
        self._wake, wake = os.pipe()
        for descriptor in (self._wake, wake):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        # Whoever stops a machine or a session signals everything in it. Only the end of the owner ends the keeper, or
        # steps that are given time to finish would lose it. (A handler, because what is ignored stays so in steps.)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)

    def run(self) -> None:
        """Serve the owner until it goes, and then until nothing is left; or until it says to leave things be."""
        poll = select.poll()
        poll.register(self._owner, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            wait = max(0.0, self._next_look - time.monotonic()) * 1000 if self._ending else None
            for descriptor, events in poll.poll(wait):
                if descriptor == self._wake:
                    os.read(self._wake, 4096)
                    self._reap()
                elif events & select.POLLHUP:  # what it still asked for is not begun
                    return self._end_all()
                elif not self._serve():
                    return None
            if self._ending and time.monotonic() >= self._next_look:
                self._end_more()

    # What the owner asks for

    def _serve(self) -> bool:
        """Do what the next request asks for; whether it leaves anything to do."""
        request, ancillary, _, _ = self._owner.recvmsg(
            PACKET, socket.CMSG_SPACE(_DESCRIPTORS * 4), socket.MSG_CMSG_CLOEXEC
        )
        descriptors = array.array("i")
        for _, _, data in ancillary:
            descriptors.frombytes(data[: len(data) // 4 * 4])
        if len(descriptors) == _DESCRIPTORS:
            with open(descriptors.pop(), "rb") as file:  # noqa: PTH123
                request = file.read()
        kind, _, rest = request.partition(b"\0")
        if kind == b"start" and descriptors:
            self._start(rest, *descriptors)
        elif kind == b"end":
            token, _, number = rest.partition(b"\0")
            self._end(token, int(number))
        return kind != b"leave"

    def _start(self, request: bytes, status: int, stdout: int = -1, stderr: int = -1) -> None:
        token, executable, directory, count, rest = request.split(b"\0", 4)
        *command, environment = rest.split(b"\0", int(count))
        problem = b"directory"
        try:
            os.chdir(directory)
            problem = b"program"
            self._set_brand(_brand_of(token))
            pid = os.posix_spawn(
                executable,
                command,
                self._environment_of(environment, token),
                file_actions=((os.POSIX_SPAWN_DUP2, stdout, 1), (os.POSIX_SPAWN_DUP2, stderr, 2)),
                setsid=True,
                setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),  # Python ignores them
            )
        except (OSError, ValueError) as error:
            self._tell(status, problem, getattr(error, "errno", None) or errno.EINVAL)
            os.close(status)
        else:
            self._running[pid] = self._steps[token] = _Step(token, pid, status)
        finally:
            self._set_brand(self._unbranded[0])
            os.chdir("/")  # not to hold a directory that somebody wants to remove
            for descriptor in (stdout, stderr):
                if descriptor >= 0:  # there was none if this process has too many open; then the start has failed
                    os.close(descriptor)

    def _set_brand(self, brand: int) -> None:
        """Ours, which what we start inherits."""
        with suppress(OSError, ValueError):  # where it may not be raised, markers have to do
            resource.setrlimit(_BRAND, (brand, self._unbranded[1]))

    def _environment_of(self, lines: bytes, token: bytes) -> dict[bytes, bytes]:
        known, environment = self._environment
        if lines != known:
            parts = (line.partition(b"=") for line in lines.split(b"\0") if line)
            environment = {name: value for name, _, value in parts}
            self._environment = (lines, environment)
        environment[MARKER] = token
        return environment

    def _end(self, token: bytes, number: int) -> None:
        # A step that has just exited may have left processes that are to go with it.
        step = self._steps.setdefault(token, _Step(token, 0, None))
        if not step.ends:
            step.ends = True
            self._ending.append(step)
        if step.signal != signal.SIGKILL:
            step.signal = number
        self._look_soon()

    def _look_soon(self) -> None:
        """Not at once: requests to end come in crowds, and one look serves them all."""
        self._pause = _PAUSE
        self._next_look = min(self._next_look, time.monotonic() + _PAUSE)

    # What the system says

    def _reap(self) -> None:
        """Take note of every child that has exited, adopted ones included."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            step = self._running.pop(pid, None)
            if step is not None and step.status is not None:
                step.pid = 0
                self._tell(step.status, b"exit", os.waitstatus_to_exitcode(status))
                if not step.ends:
                    self._forget(step)
            if self._ending and (step is None or step.ends):
                self._look_soon()

    def _look_at(self, step: _Step, processes: dict[int, Process]) -> set[int]:
        """The processes of the step. Remembers their sessions: what ties them to the step may be gone the next time."""
        found = tree(
            processes, descendants(processes, self._me), step.sessions, lambda pid: is_of_step(pid, step.token)
        )
        # Only as long as somebody is in them: the numbers are given out again.
        step.sessions = {processes[pid][2] for pid in found}
        return found

    def _end_more(self) -> None:
        """One more look at the steps that are to end."""
        processes = look()
        for step in self._ending[:]:
            left = self._look_at(step, processes)
            if step.signal and left:
                left -= send(processes, left, step.signal)
            if step.signal != signal.SIGKILL:  # which is sent until nothing is left: they may be starting more
                step.signal = 0
            if not left and not step.pid:
                self._ending.remove(step)
                self._forget(step)
        self._next_look = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, _PAUSE_LONGEST)

    def _forget(self, step: _Step) -> None:
        del self._steps[step.token]
        if step.status is not None:
            os.close(step.status)

    def _tell(self, status: int, what: bytes, number: int) -> None:
        with suppress(BrokenPipeError):  # the owner does not want to know any more
            os.write(status, b"%s %d\n" % (what, number))

    # The end

    def _end_all(self) -> None:
        """TERM once, and after the grace time KILL until nothing is left: they may be starting more."""
        kill_at = time.monotonic() + GRACE
        pause, number = _PAUSE, int(signal.SIGTERM)
        while self._all_that_is_left(number):
            if select.select([self._wake], [], [], pause)[0]:
                os.read(self._wake, 4096)
            pause = min(pause * 2, _PAUSE_LONGEST)
            number = int(signal.SIGKILL) if time.monotonic() >= kill_at else 0

    def _all_that_is_left(self, number: int) -> set[int]:
        """After `number`, if it is not 0, was sent to them; without those that cannot be signaled."""
        self._reap()
        processes = look()
        left = descendants(processes, self._me)
        # An earlier keeper of this owner may have been killed; its steps are not our children.
        left |= {pid for pid in processes.keys() - left if is_of_owner(pid, self._mark)}
        return left - send(processes, left, number) if number else left


def main(descriptor: int, mark: str) -> None:
    import ctypes  # not for those who only speak to a keeper

    os.set_inheritable(descriptor, False)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "this system does not let a process adopt orphans")
    Keeper(socket.socket(fileno=descriptor), os.fsencode(mark)).run()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])

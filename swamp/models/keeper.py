"""The keeper: a small process that starts the steps of its owner, and leaves none of them behind.

`swamp.models.kept` starts it as `python -I -S keeper.py <descriptor of a socket> <mark> <most>`; it imports nothing of
Swamp and little else, so that it is small and soon there. Whatever a step leaves behind becomes the keeper's own child
(it is a "child subreaper", Linux), so nothing that a step starts is ever lost sight of: not in a session of its own,
nor after a double fork. When the socket ends, its owner has ended, however that came; then the keeper ends all of them,
and goes.

The owner says on the socket, one a packet, fields parted by NUL (which is in no argument and no environment):

    line   number                       + descriptor: a line, on which is told of one step at a time
    start  number step                  start it, or, if `most` run, when one ends: in the order of the packets
    end    token signal                 TERM once, or KILL until nothing is left
    withdraw   token                    do not start it, if it waits for its turn
    leave                               go now, and end nothing of what is left

A step is `token executable directory n argument₁ … argumentₙ name=value …`; one that is too long for a packet is empty
and has a descriptor: a file that holds it. On the line of its number is told of it:

    ended <code> <n> <began>   it has exited, and these are its outputs: n bytes of the first, then the other  (the end)
    unheard <code>             it has exited, and its outputs could not be told (the end)
    on <n> <began>             it takes longer, or its outputs do, of which this much has come so far; the rest comes
                               through the descriptors                                 + descriptors: stdout, stderr
    exit <code>                it has exited; it was to be ended, and perhaps not all of it is
    over                       behind that: no process of it is left                                           (the end)
    exit <code> over           it has exited by itself                                                         (the end)
    withdrawn                  it was not started and never will be                                            (the end)
    directory <errno>          it could not be started there                                                   (the end)
    program <errno>            it could not be started                                                         (the end)

A code is the program's own, or minus the number of the signal that ended it; <began> is when it was started, in
nanoseconds of the system's monotonic clock. Most steps are short: the moment in which
they end belongs to the keeper, so that such a step is one packet there and one back, and no descriptor is passed.

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
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

MARKER = b"SWAMP_STEP"
PACKET = 32 * 1024  #: bytes of the longest step that travels by itself; of each output, as many
MOMENT = 0.005  #: seconds that a step has to end before its outputs are somebody else's
GRACE = 2.0  #: seconds between TERM and KILL for what is left when the owner has gone

_LONGEST = 2 * PACKET + 64
_PR_SET_CHILD_SUBREAPER = 36
_BRAND = 10  # RLIMIT_LOCKS, for which Python has no name: file locks, not limited by Linux since 2.4.25
_BITS = (1 << 31) - 1  # of a brand that are the owner's, and as many that are the step's
_PAUSE, _PAUSE_LONGEST = 0.002, 0.1  # seconds between looks at what is to end; each is twice as long as the one before

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


def deliver(line: socket.socket, packet: bytes, descriptors: Collection[int] = ()) -> None:
    """Send a packet with descriptors. Raises `OSError`."""
    if descriptors:
        line.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])
    else:
        line.send(packet)


def receive(line: socket.socket, most: int) -> tuple[bytes, list[int]]:
    """The next packet, and the descriptors that came with it: at most so many, fewer if too many are open here. Empty
    when there is nobody at the other end any more. Raises `OSError`."""
    packet, ancillary, _, _ = line.recvmsg(_LONGEST, socket.CMSG_SPACE(most * 4), socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for _, _, data in ancillary:
        descriptors.frombytes(data[: len(data) // 4 * 4])
    return packet, descriptors.tolist()


def _are_at_end(descriptors: Collection[int]) -> bool:
    """Whether nobody has these pipes open for writing, so that what they hold is all that will ever come."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, 0)
    return len(poll.poll(0)) == len(descriptors)


def _read_to_end(descriptor: int) -> tuple[bytes, bool]:
    """What a pipe at its end holds, up to the length of a packet; whether that is all."""
    content = os.read(descriptor, PACKET)
    return content, len(content) < PACKET


# ---------------------------------------------------------------------- the keeper


class _Step:
    """A step whose end is not told yet. `signal` is the one to send at the next look, 0 for none."""

    __slots__ = ("began", "ends", "line", "outputs", "pid", "sessions", "signal", "token")

    def __init__(self, token: bytes, pid: int, line: socket.socket | None, outputs: tuple[int, int] | None) -> None:
        self.token = token
        self.pid = pid  # of the leader; 0 when it has exited
        self.line = line
        self.outputs = outputs  # to be read from, as long as it is short
        self.began = time.monotonic()
        self.sessions = {pid} if pid else set()
        self.ends = False
        self.signal = 0


class Keeper:
    """`mark` begins the token of every step of this owner; `most` run at once, 0 for any number."""

    def __init__(self, owner: socket.socket, mark: bytes, most: int) -> None:
        self._owner = owner
        self._mark = mark
        self._most = most
        self._waiting: dict[bytes, tuple[socket.socket, bytes]] = {}  # steps by token, in their order: line, itself
        self._me = os.getpid()
        self._lines: dict[bytes, socket.socket] = {}  # by number
        self._numbers: dict[int, bytes] = {}  # of lines, by descriptor
        self._short: deque[_Step] = deque()  # steps, in the order of their beginning, of which some may have ended
        self._running: dict[int, _Step] = {}  # by the leader's pid, until it exits
        self._steps: dict[bytes, _Step] = {}  # by token, until there is nothing left to tell
        self._ending: list[_Step] = []
        self._pause, self._next_look = _PAUSE, 0.0  # at the steps that are to end
        self._environment: tuple[bytes, dict[bytes, bytes]] = (b"", {})  # of the last step; most are alike
        self._hard_limit = resource.getrlimit(_BRAND)[1]
        self._poll = select.poll()
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
        owner = self._owner.fileno()
        self._poll.register(owner, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        while True:
            if not self._running:
                os.chdir("/")  # not to hold a directory that somebody wants to remove
            ready = dict(self._poll.poll(self._patience()))
            said = ready.pop(owner, 0)
            if said & ~select.POLLIN:  # it has gone: what it asked for is not begun
                return self._end_all()
            for descriptor in ready:
                if descriptor == self._wake:
                    os.read(self._wake, 4096)
                    self._reap()
                else:  # nothing is said on a line: its other end was closed
                    self._forget_line(descriptor)
            if said and not self._serve():
                return None
            if self._short:
                self._let_go()
            if self._ending and time.monotonic() >= self._next_look:
                self._end_more()

    def _patience(self) -> float | None:
        """Milliseconds until there is something to do that nobody says."""
        until = self._short[0].began + MOMENT if self._short else None
        if self._ending:
            until = self._next_look if until is None else min(until, self._next_look)
        return None if until is None else max(0.0, until - time.monotonic()) * 1000

    # What the owner asks for

    def _serve(self) -> bool:
        """Do what the owner says; whether that leaves anything to do."""
        request, descriptors = receive(self._owner, 1)
        kind, _, rest = request.partition(b"\0")
        what, _, more = rest.partition(b"\0")
        if kind == b"start":
            self._take(what, more, descriptors)
        elif kind == b"line" and descriptors:
            line = self._lines[what] = socket.socket(fileno=descriptors[0])
            self._numbers[line.fileno()] = what
            self._poll.register(line, 0)
        elif kind == b"end":
            if not self._withdraw(what):
                self._end(what, int(more))
        elif kind == b"withdraw":
            self._withdraw(what)
        return kind != b"leave"

    def _forget_line(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        line = self._lines.pop(self._numbers.pop(descriptor))
        self._waiting = {token: waits for token, waits in self._waiting.items() if waits[0] is not line}
        line.close()

    def _take(self, number: bytes, step: bytes, descriptors: Collection[int]) -> None:
        """Start the step, or have it wait for its turn."""
        line = self._lines.get(number)
        for descriptor in descriptors:
            with open(descriptor, "rb") as file:  # noqa: PTH123
                step = file.read()
        if line is None:  # it did not come, because this process had too many open
            return
        if not step:
            self._tell(line, b"program %d" % errno.EMFILE)
        elif self._waiting or not self._has_room():
            self._waiting[step.partition(b"\0")[0]] = (line, step)
        else:
            self._start(line, step)

    def _start_waiting(self) -> None:
        """There may be room for those that wait."""
        while self._waiting and self._has_room():
            self._start(*self._waiting.pop(next(iter(self._waiting))))

    def _has_room(self) -> bool:
        """Whether one more may run. What is left of a step that is being ended runs, too."""
        return not self._most or len(self._running) + sum(not step.pid for step in self._ending) < self._most

    def _withdraw(self, token: bytes) -> bool:
        """Whether the step was waiting; then it is never started."""
        line, _ = self._waiting.pop(token, (None, b""))
        if line is not None:
            self._tell(line, b"withdrawn")
        return line is not None

    def _start(self, line: socket.socket, step: bytes) -> None:
        token, executable, directory, count, rest = step.split(b"\0", 4)
        *command, environment = rest.split(b"\0", int(count))
        problem, pipes = b"program", list[int]()
        try:
            pipes += os.pipe()
            pipes += os.pipe()
            problem = b"directory"
            os.chdir(directory)
            problem = b"program"
            self._brand_myself(token)
            pid = os.posix_spawn(
                executable,
                command,
                self._environment_of(environment, token),
                file_actions=((os.POSIX_SPAWN_DUP2, pipes[1], 1), (os.POSIX_SPAWN_DUP2, pipes[3], 2)),
                setsid=True,
                setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),  # Python ignores them
            )
        except (OSError, ValueError) as error:
            self._tell(line, b"%s %d" % (problem, getattr(error, "errno", None) or errno.EINVAL))
        else:
            running = self._running[pid] = self._steps[token] = _Step(token, pid, line, (pipes[0], pipes[2]))
            self._short.append(running)
            pipes = [pipes[1], pipes[3]]
        finally:
            for descriptor in pipes:
                os.close(descriptor)

    def _brand_myself(self, token: bytes) -> None:
        """What we start inherits it. Ours is that of the step begun last, which nobody asks for."""
        with suppress(OSError, ValueError):  # where it may not be raised, markers have to do
            resource.setrlimit(_BRAND, (_brand_of(token), self._hard_limit))

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
        step = self._steps.setdefault(token, _Step(token, 0, None, None))
        if step.outputs is not None:
            self._hand_over(step)
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
            if step is not None:
                step.pid = 0
                self._start_waiting()  # before anything is told: to hear of the exit takes longer than to use it
                self._tell_exit(step, os.waitstatus_to_exitcode(status))
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
        self._start_waiting()
        self._next_look = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, _PAUSE_LONGEST)

    # What is told

    def _let_go(self) -> None:
        """Those that take longer are not short; of those that have ended nothing is left to do."""
        now = time.monotonic()
        while self._short and (self._short[0].outputs is None or self._short[0].began + MOMENT <= now):
            step = self._short.popleft()
            if step.outputs is not None:
                self._hand_over(step)

    def _hand_over(self, step: _Step, first: bytes = b"", second: bytes = b"") -> None:
        """Its outputs from now on, and what was read of them."""
        outputs, step.outputs = step.outputs, None
        if outputs is None or step.line is None:
            return
        try:
            deliver(step.line, b"on %d %d\0" % (len(first), step.began * 1e9) + first + second, outputs)
        except OSError:  # nobody would ever hear it
            self._end(step.token, signal.SIGKILL)
        for descriptor in outputs:
            os.close(descriptor)

    def _tell_exit(self, step: _Step, code: int) -> None:
        if step.outputs is not None and step.line is not None:
            if not _are_at_end(step.outputs):  # something that it left in the background holds them
                self._hand_over(step)
            else:
                first, is_all = _read_to_end(step.outputs[0])
                second, is_all_too = _read_to_end(step.outputs[1])
                if is_all and is_all_too:
                    head = b"ended %d %d %d\0" % (code, len(first), step.began * 1e9)
                    if not self._tell(step.line, head + first + second):  # more than this system passes on at once
                        self._tell(step.line, b"unheard %d" % code)
                    for descriptor in step.outputs:
                        os.close(descriptor)
                    step.outputs, step.line = None, None
                else:
                    self._hand_over(step, first, second)
        if step.line is not None:
            self._tell(step.line, (b"exit %d" if step.ends else b"exit %d over") % code)
        if not step.ends:
            step.line = None
            self._forget(step)

    def _forget(self, step: _Step) -> None:
        del self._steps[step.token]
        if step.line is not None:
            self._tell(step.line, b"over")

    def _tell(self, line: socket.socket, what: bytes) -> bool:
        """Whether it is told; it is not if the owner does not want to know any more."""
        with suppress(OSError):
            line.send(what)
            return True
        return False

    # The end

    def _end_all(self) -> None:
        """TERM once, and after the grace time KILL until nothing is left: they may be starting more."""
        self._waiting.clear()
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
        left |= {pid for pid in processes.keys() - left if pid != self._me and is_of_owner(pid, self._mark)}
        return left - send(processes, left, number) if number else left


def main(descriptor: int, mark: str, most: int) -> None:
    import ctypes  # not for those who only speak to a keeper

    os.set_inheritable(descriptor, False)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "this system does not let a process adopt orphans")
    Keeper(socket.socket(fileno=descriptor), os.fsencode(mark), most).run()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))

"""Swamp as a person runs it: the installed `swamp` command in processes of its own, on free ports."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sysconfig
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import wait_until

SWAMP = Path(sysconfig.get_path("scripts")) / "swamp"
"""The command that the package installs, beside the Python that runs the tests."""

MARK = "STARTED_BY_TESTS"
"""Environment variable that every process started by a test inherits, so that what stays behind can be found."""

PORTS_GIVEN: set[int] = set()
"""Every port that `free_port` handed out; all must be free again at the end."""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The tests' own environment without the SWAMP_ settings of the person who runs them, plus `extra`.

    Output is buffered, as for most people: what cannot be flushed at the end is another story than what cannot be
    written.
    """
    left_out = ("SWAMP_", "PYTHONUNBUFFERED")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return {**kept, **(extra or {})}


@dataclass(frozen=True)
class Ended:
    """A command that ran to its end."""

    code: int
    stdout: str
    stderr: str


def run_swamp(
    *arguments: str | Path,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    timeout: float = 30.0,
    inside: Sequence[str] = (),
) -> Ended:
    """Run `swamp <arguments>` to its end in `cwd`; `timeout` is in seconds, `inside` is a command that runs it in
    another place."""
    done = subprocess.run(
        [*inside, SWAMP, *arguments],
        cwd=cwd,
        env=environment(env),
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=timeout,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def type_line(line: str, cwd: Path, timeout: float = 30.0) -> str:
    """Type a command line that must succeed into a shell in `cwd`; what a person sees: both streams, in their order."""
    path = os.pathsep.join([str(SWAMP.parent), os.environ["PATH"]])
    shell = subprocess.Popen(
        ["sh", "-c", line],
        cwd=cwd,
        env=environment({"PATH": path}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    )
    try:
        screen, _ = shell.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(shell.pid, signal.SIGKILL)
        screen, _ = shell.communicate()
        raise AssertionError(f"this did not end within {timeout:g} s:\n$ {line}\n{screen}") from None
    assert shell.returncode == 0, f"exit code {shell.returncode}:\n$ {line}\n{screen}"
    return screen


class RunningSwamp:
    """A `swamp` command that keeps running, as the leader of its own process group; all it prints is kept as lines."""

    def __init__(
        self,
        *arguments: str | Path,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        program: Sequence[str | Path] = (SWAMP,),
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.arguments = tuple(str(argument) for argument in arguments)
        self.lines: list[str] = []
        self._next_line = 0
        self._process = subprocess.Popen(
            [*program, *self.arguments],
            cwd=cwd,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            pass_fds=pass_fds,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __str__(self) -> str:
        return f"swamp {' '.join(self.arguments)}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def code(self) -> int | None:
        """The exit code, minus the signal's number if a signal ended it; None while it runs."""
        return self._process.poll()

    @property
    def output(self) -> str:
        """Everything printed so far: stdout and stderr in the order of printing."""
        return "\n".join(self.lines)

    def wait_for_line(self, pattern: str, timeout: float = 15.0) -> re.Match[str]:
        """The first line that matches `pattern` behind the one that the last call found.

        Raises AssertionError, showing all that was printed, when `timeout` seconds pass or the process ends without it.
        """
        wanted = re.compile(pattern)

        matches: list[re.Match[str]] = []

        def found_or_over() -> bool:
            over = not self._reader.is_alive()
            for index in range(self._next_line, len(self.lines)):
                if found := wanted.search(self.lines[index]):
                    self._next_line = index + 1
                    matches.append(found)
                    return True
            return over

        try:
            wait_until(found_or_over, f"a line like {pattern!r}", timeout)
        except AssertionError as late:
            raise AssertionError(f"{late} from `{self}`, which printed:\n{self.output}") from None
        if not matches:
            raise AssertionError(f"`{self}` ended without a line like {pattern!r}; it printed:\n{self.output}")
        return matches[0]

    def press_ctrl_c(self) -> None:
        """What a terminal does on Ctrl-C: SIGINT to the whole process group."""
        os.killpg(self.pid, signal.SIGINT)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the command alone."""
        self._process.send_signal(number)

    def wait_for_end(self, timeout: float = 15.0) -> int:
        """The exit code, once the command has ended and all it printed has been read."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"`{self}` did not end within {timeout:g} s; it printed:\n{self.output}") from None
        self._reader.join(timeout)
        return code

    def stop(self, timeout: float = 15.0) -> int:
        """Ctrl-C, then the exit code."""
        self.press_ctrl_c()
        return self.wait_for_end(timeout)

    def kill(self) -> None:
        """End it as a crash would: SIGKILL to the command alone; what it had started must cope by itself."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Make sure that nothing of it runs on; harmless when it has ended."""
        if self.running:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
        self._reader.join(5)
        if self._process.stdout is not None and not self._reader.is_alive():
            self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))


def free_port() -> int:
    """A loopback TCP port that nobody listens on now; remembered, because it must be free again after the tests."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in PORTS_GIVEN:  # the one who got it may not listen yet
            PORTS_GIVEN.add(port)
            return port


def port_is_free(port: int) -> bool:
    """Whether nobody listens on the loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def left_behind(mark: str) -> dict[int, str]:
    """Living processes, other than this one, that carry `mark`: process id to command line. Empty without /proc."""
    wanted = f"{MARK}={mark}".encode()
    found: dict[int, str] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            marked = wanted in (entry / "environ").read_bytes().split(b"\0")
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # ended meanwhile, or another person's
        if marked and command and int(entry.name) != os.getpid():
            found[int(entry.name)] = command
    return found

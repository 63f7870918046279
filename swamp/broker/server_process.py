"""A server process that never outlives the process that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from swamp.errors import Unreachable

FAREWELL = 10.0  # seconds a server may take to write its data and go
_PR_SET_PDEATHSIG = 1


class Keeper:
    """Owns the server process in a thread of its own.

    The kernel sends the parent-death signal when the *thread* that started the child ends, so that thread has to live
    as long as the server; and it is there to reap it.
    """

    def __init__(self, command: Sequence[str], directory: Path) -> None:
        self.ended = threading.Event()
        self._command = command
        self._directory = directory
        self._begun = threading.Event()
        self._error: OSError | None = None
        self._complaint = b""
        threading.Thread(target=self._keep, name="embedded-redis", daemon=True).start()
        self._begun.wait()
        if self._error is not None:
            raise Unreachable(
                f"the Redis server cannot be started: {self._error}", hint="use --redis-url to name a running one"
            ) from self._error
        self.pid = self._process.pid

    def _keep(self) -> None:
        try:
            with warnings.catch_warnings():
                # Python 3.12 and newer warn of code between fork and exec in a process with threads. Ours is one
                # system call whose address was looked up before.
                warnings.simplefilter("ignore", DeprecationWarning)
                self._process = subprocess.Popen(
                    self._command,
                    cwd=self._directory,
                    env={"LC_ALL": "C"},  # the orchestrator's environment may hold secrets
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    start_new_session=True,  # Ctrl-C at the terminal is the orchestrator's to handle
                    umask=0o077,
                    preexec_fn=_die_with_parent(),
                )
        except OSError as error:
            self._error = error
            self.ended.set()
            return
        finally:
            self._begun.set()
        # A server that cannot read its configuration says so here; later it writes to its log only.
        self._complaint = self._process.communicate()[1]
        self.ended.set()

    def complaint(self) -> str:
        """The last line that a server which has ended wrote to its standard error."""
        return self._complaint.decode(errors="replace").strip().rpartition("\n")[2]

    def end(self) -> None:
        """Ends the server and waits until it is gone."""
        if not self.ended.is_set():
            self._process.terminate()
        if not self.ended.wait(FAREWELL):
            self._process.kill()
            self.ended.wait()


def _die_with_parent() -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask_the_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return ask_the_kernel


def arguments_of(pid: int) -> Sequence[str]:
    """What the process was started with; nothing if there is no such process."""
    if Path("/proc/self").exists():
        try:
            return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")
        except OSError:
            return ()
    said = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    command = said.stdout.strip()
    return (command, command.partition(" ")[2])

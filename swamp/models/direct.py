"""Programs as children of this very process. Ending one ends its process group; what left the group stays."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from swamp.models.spawner import NotStarted, why_not_started


class Direct:
    """The spawner for systems without a keeper, and for where nothing is to be ended."""

    has_a_queue = False

    def start(self) -> None:
        pass

    def close(self, *, leave: bool = False) -> None:
        pass

    def spawn(self, command: Sequence[str], executable: str, directory: Path, environment: Mapping[str, str]) -> Child:
        pipes = list[int]()
        try:
            try:
                pipes += os.pipe()
                pipes += os.pipe()
            except OSError as error:
                raise NotStarted(f"The command cannot be started: {error.strerror}") from error
            # Nothing here needs a function to run in the child, so CPython uses vfork: the start costs the same in a
            # process of any size.
            process = subprocess.Popen(
                command,
                executable=executable,
                cwd=str(directory),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=pipes[1],
                stderr=pipes[3],
                start_new_session=True,
            )
            outputs = (pipes[0], pipes[2])
            pipes = [pipes[1], pipes[3]]
        except ValueError as error:
            raise NotStarted(f"The command cannot be started: {error}") from error
        except OSError as error:
            of_directory = error.filename == str(directory)
            why = why_not_started(error.errno or 0, executable, directory, of_directory=of_directory)
            raise NotStarted(why) from error
        finally:
            for descriptor in pipes:
                os.close(descriptor)
        return Child(process, outputs)


DIRECT = Direct()


class Child:
    """A `Program` that is a child of this process."""

    def __init__(self, process: subprocess.Popen[bytes], outputs: tuple[int, int]) -> None:
        self._process = process
        self.began = time.monotonic()
        self.printed = (b"", b"")
        self.outputs: tuple[int, int] | None = outputs
        self.exit_code: int | None = None
        self.fault: str | None = None
        self.exit_fd: int | None = None

    def ends_soon(self) -> bool:
        return False

    def withdraw(self) -> None:
        pass

    def look(self) -> None:
        self.exit_code = self._process.poll()

    def watch(self) -> None:
        # None where the system has no such thing: not Linux, or an old one.
        with suppress(AttributeError, OSError):
            self.exit_fd = os.pidfd_open(self._process.pid)

    def lives(self) -> bool:
        return _lives(self._process.pid)

    def signal(self, number: int) -> None:
        if self.exit_code is not None and not self.lives():
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def close(self) -> None:
        if self.exit_code is None:
            self.signal(signal.SIGKILL)
            self.exit_code = self._process.wait()
        if self.exit_fd is not None:
            os.close(self.exit_fd)
            self.exit_fd = None


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

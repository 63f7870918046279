"""What every test may use, and the check that none leaves a process or a port behind."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings

from tests.processes import MARK, PORTS_GIVEN, SWAMP, RunningSwamp, left_behind, port_is_free
from tests.waiting import wait_until

# How long an example takes says something of the machine, and nothing of what is tested.
settings.register_profile("swamp", deadline=None)
settings.load_profile("swamp")

# A shell that starts the tests with `&` has them ignore Ctrl-C; what they start shall hear it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

StartSwamp = Callable[..., RunningSwamp]


@pytest.fixture
def start_swamp() -> Iterator[StartSwamp]:
    """Start a `swamp` command that keeps running: `start_swamp("serve", cwd=repository)`. Ended after the test. What is
    named `inside` is a command that runs it somewhere else."""
    started: list[RunningSwamp] = []

    def start(
        *arguments: str | Path, cwd: Path, env: dict[str, str] | None = None, inside: Sequence[str] = ()
    ) -> RunningSwamp:
        process = RunningSwamp(*arguments, cwd=cwd, env=env, program=(*inside, SWAMP))
        started.append(process)
        return process

    yield start
    for process in reversed(started):
        process.close()
        print(f"── {process}\n{process.output}")  # pytest shows it when the test has failed


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Every process that a test started, directly or not, has ended and every port is free when the tests are over."""
    mark = uuid.uuid4().hex
    os.environ[MARK] = mark
    yield
    try:
        wait_until(lambda: not left_behind(mark), "the processes started by tests to end", timeout=5)
    except AssertionError:
        leftovers = left_behind(mark)
        for pid in leftovers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        pytest.fail(f"processes were left behind (ended now): {leftovers}")
    taken = sorted(port for port in PORTS_GIVEN if not port_is_free(port))
    assert not taken, f"ports are still listened on: {taken}"

"""Nothing that a step started outlives the process that it was started for, nor the step itself if that is ended."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from swamp.models.direct import DIRECT
from swamp.models.keeper import PACKET
from swamp.models.kept import Kept
from swamp.models.process import run_program
from swamp.models.spawner import NotStarted, Program
from swamp.models.surroundings import Cancellation
from tests.models.steps import SPAWNERS, Step, is_alive, result, shell
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is no keeper elsewhere")

_SAY = "echo pid $$"
_DEAF = f"trap '' TERM; {_SAY}; while :; do sleep 60; done"

_UNBRANDED = "ulimit -w unlimited 2>/dev/null || ulimit -x unlimited"  # dash, and other shells

#: Each prints the pids of its processes, and how many that are.
TREES = {
    "a plain program": (f"{_SAY}; exec sleep 60", 1),
    "a child in the background": ("sleep 60 & echo pid $!; echo pid $$; wait", 2),
    "a child in a session of its own": (f"setsid sh -c '{_SAY}; exec sleep 60' & echo pid $$; wait", 2),
    "a double fork": (f"(setsid sh -c '{_SAY}; exec sleep 60' &); echo pid $$; sleep 60", 2),
    "a double fork that empties its environment": (f"(setsid env -i sh -c '{_SAY}; exec sleep 60' &); sleep 60", 1),
    "a program that does not heed TERM": (_DEAF, 1),
    "a double fork that does not heed TERM": (f'(setsid sh -c "{_DEAF}" &); sleep 60'.replace("$$", "\\$\\$"), 1),
    "a child that hides and does not heed TERM": (f'setsid env -i sh -c "{_DEAF}" & wait'.replace("$$", "\\$\\$"), 1),
    "a deaf program that never stops starting more": (
        f"trap '' TERM; {_SAY}; while :; do setsid sh -c '{_SAY}; exec sleep 60' & sleep 0.02; done",
        5,
    ),
}
trees = pytest.mark.parametrize(("command", "count"), TREES.values(), ids=TREES.keys())


def pids_in(printed: bytes) -> list[int]:
    return [int(line.split()[1]) for line in printed.splitlines() if line.startswith(b"pid ")]


def grown(step: Step, count: int) -> list[int]:
    """The pids of the step's processes, all of which run by now."""
    wait_until(lambda: len(pids_in(step.printed("stdout"))) >= count, f"{count} processes")
    return pids_in(step.printed("stdout"))


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if is_alive(pid)]


# ---------------------------------------------------------------------- the owner ends

_OWNER = """
import sys
from pathlib import Path
from swamp.models.kept import Kept
from tests.models.steps import SPAWNERS, Step

def emit(stream, lines):
    sys.stdout.buffer.write(lines)
    sys.stdout.flush()

kept = Kept()
kept.start()
print("pid", kept.pid, flush=True)
SPAWNERS.append(kept)
with Step(Path(sys.argv[1]), sys.argv[2], emit) as step:
    step.run()
    print("done", flush=True)
    sys.stdin.read()
kept.close()
"""


class Owner:
    """A process that runs one step through a keeper of its own."""

    def __init__(self, directory: Path, command: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _OWNER, directory, command],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.printed = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed += line

    def grown(self, count: int) -> list[int]:
        """The pids of the keeper and of the step's processes, all of which run by now."""
        wait_until(lambda: len(pids_in(self.printed)) > count, f"the keeper and {count} processes")
        return pids_in(self.printed)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(10)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


@contextmanager
def owner(directory: Path, command: str) -> Iterator[Owner]:
    started = Owner(directory, command)
    try:
        yield started
    finally:
        started.close()


@trees
def test_killing_the_owner_leaves_nothing_running(tmp_path: Path, command: str, count: int) -> None:
    with owner(tmp_path, command) as killed:
        pids = killed.grown(count)
        assert alive(pids) == pids
        killed.process.kill()
        wait_until(lambda: not alive(pids_in(killed.printed)), "the keeper and all that it started to end")


def test_killing_the_owner_ends_what_hides_from_everybody(tmp_path: Path) -> None:
    with owner(tmp_path, f"({_UNBRANDED}; setsid env -i sh -c '{_SAY}; exec sleep 60' &); sleep 60") as killed:
        pids = killed.grown(1)
        killed.process.kill()
        wait_until(lambda: not alive(pids), "the process without a trace of its step to end")


def test_what_a_step_leaves_behind_stays_until_the_owner_ends(tmp_path: Path) -> None:
    with owner(tmp_path, f"(setsid sh -c '{_SAY}; exec sleep 60 >&- 2>&-' &)") as ending:
        pids = ending.grown(1)
        wait_until(lambda: b"done" in ending.printed, "the step to end")
        assert alive(pids) == pids, "a service that a step starts stays"
        assert ending.process.stdin is not None
        ending.process.stdin.close()
        assert ending.process.wait(10) == 0
        assert not alive(pids), "the owner has waited for their end"


def test_nothing_begins_after_the_owner_has_gone(tmp_path: Path, keeper: Kept) -> None:
    keeper.start()
    pid = keeper.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    with Step(tmp_path, "touch traces") as step:
        step._thread.start()
        wait_until(lambda: next(keeper._numbers) > 1, "the step to be asked for")
        closing = threading.Thread(target=keeper.close)
        closing.start()
        wait_until(lambda: keeper._line is None, "the keeper's owner to go")
        os.kill(pid, signal.SIGCONT)
        closing.join(10)
        assert step.end().status == "failed"
    assert not (tmp_path / "traces").exists()


def test_what_waits_for_its_turn_does_not_begin_after_the_owner_has_gone(tmp_path: Path) -> None:
    kept = Kept(2)
    SPAWNERS.append(kept)
    try:
        with ExitStack() as stack:
            steps = [stack.enter_context(Step(tmp_path, f"touch begun-{n}; exec sleep 60")) for n in range(6)]
            for step in steps[:2]:
                step._thread.start()
            wait_until(lambda: len([*tmp_path.glob("begun-*")]) == 2, "two steps to run")
            for step in steps[2:]:
                step._thread.start()
            wait_until(lambda: next(kept._numbers) > 6, "the others to be asked for")
            kept.close()
            assert {step.end().status for step in steps} == {"failed"}
    finally:
        SPAWNERS.pop()
        kept.close()
    assert sorted(path.name for path in tmp_path.glob("begun-*")) == ["begun-0", "begun-1"]


# ---------------------------------------------------------------------- a step is ended


@trees
def test_canceling_a_step_ends_all_of_it_and_nothing_of_another(
    tmp_path: Path, keeper: Kept, command: str, count: int
) -> None:
    with Step(tmp_path, command) as canceled, Step(tmp_path, command) as other:
        canceled._thread.start()
        other._thread.start()
        pids, others = grown(canceled, count), grown(other, count)
        canceled.cancellation.set("enough", grace=0.2)
        assert canceled.end().status == "canceled"
        assert not alive(pids_in(canceled.printed("stdout"))), "all of it has ended when its end is told"
        assert alive(others) == others
        assert alive(pids) == []


def test_the_time_limit_ends_all_of_a_step(tmp_path: Path, keeper: Kept) -> None:
    with Step(tmp_path, TREES["a double fork"][0], timeout=1000) as step:
        outcome = step.run()
        assert outcome.error == "Command timed out after 1000 ms"
        assert not alive(pids_in(step.printed("stdout")))


def test_a_crowd_can_be_canceled_at_once(tmp_path: Path, keeper: Kept) -> None:
    with ExitStack() as stack:
        steps = [stack.enter_context(Step(tmp_path, TREES["a double fork"][0])) for _ in range(20)]
        for step in steps:
            step._thread.start()
        pids = [pid for step in steps for pid in grown(step, 2)]
        for step in steps:
            step.cancellation.set("enough", grace=10)
        assert {step.end().status for step in steps} == {"canceled"}
        assert not alive(pids)


# ---------------------------------------------------------------------- what a step sees, and what is told of it


@pytest.mark.parametrize(
    ("command", "code"),
    [("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -9 $$", -9), ("kill -TERM $$", -15), ("kill -6 $$", -6)],
)
def test_exit_codes_and_signals_are_told_as_they_are(tmp_path: Path, keeper: Kept, command: str, code: int) -> None:
    assert result(shell(tmp_path, command))["exitCode"] == code


def test_a_step_sees_the_same_whoever_started_it_but_for_its_marks(tmp_path: Path, keeper: Kept) -> None:
    command = (
        "env | sort; pwd; umask; nice; ulimit -a; ls /proc/self/fd; readlink /proc/self/fd/0; "
        "grep -E '^(SigBlk|SigCgt|Uid|Groups|NoNewPrivs)' /proc/self/status; "
        # without those that are the C library's own
        "sed -n 's/^SigIgn:.*\\(.......\\)$/ignored: \\1/p' /proc/self/status"
    )
    seen = str(result(shell(tmp_path, command))["stdout"]).splitlines()
    SPAWNERS.append(DIRECT)
    try:
        expected = str(result(shell(tmp_path, command))["stdout"]).splitlines()
    finally:
        SPAWNERS.pop()
    marks = set(seen) - set(expected)
    assert all(mark.startswith(("SWAMP_STEP=", "locks ", "file locks ")) for mark in marks)
    unlimited = set(expected) - set(seen)
    assert all(line.startswith(("locks ", "file locks ")) for line in unlimited)
    assert [line for line in seen if line not in marks] == [line for line in expected if line not in unlimited]


def test_a_program_that_is_not_there_is_not_started(tmp_path: Path, keeper: Kept) -> None:
    with Cancellation() as cancellation, pytest.raises(NotStarted, match="/no/such/program: No such file"):
        run_program(
            ("x",),
            executable="/no/such/program",
            directory=tmp_path,
            environment={},
            spawner=keeper,
            emit=lambda *_: None,
            cancellation=cancellation,
            timeout=None,
        )


def test_a_request_may_be_longer_than_a_packet(tmp_path: Path, keeper: Kept) -> None:
    environment = {f"LONG_{number}": "x" * 10_000 for number in range(30)}
    outcome = shell(tmp_path, "echo $LONG_0$LONG_29 | wc -c; exit 4", env=environment)
    assert (result(outcome)["stdout"], result(outcome)["exitCode"]) == ("20001", 4)


def test_many_steps_at_once_get_what_is_theirs(tmp_path: Path, keeper: Kept) -> None:
    wrong: list[str] = []

    def ten(slot: int) -> None:
        for number in range(10):
            attributes = result(shell(tmp_path, f"echo {slot}-{number}; exit {slot}", env={"N": str(number)}))
            if (attributes["stdout"], attributes["exitCode"]) != (f"{slot}-{number}", slot):
                wrong.append(f"{slot}-{number}: {attributes}")

    threads = [threading.Thread(target=ten, args=(slot,)) for slot in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_programs_start_in_the_order_in_which_they_were_asked_for(tmp_path: Path) -> None:
    """Also when the keeper hears of several at once, on lines that it has had for a while."""
    kept = Kept(1)

    def start(name: str) -> Program:
        return kept.spawn(("sh", "-c", f"echo {name} >> order"), "/bin/sh", tmp_path, {"PATH": "/usr/bin:/bin"})

    def end(programs: list[Program]) -> None:
        for program in programs:
            assert program.ends_soon() or program.outputs
            program.close()

    try:
        end([start(f"first-{number}") for number in range(6)])
        assert kept.pid is not None
        (tmp_path / "order").unlink()
        for _ in range(3):
            os.kill(kept.pid, signal.SIGSTOP)
            programs = [start(str(number)) for number in range(6)]
            os.kill(kept.pid, signal.SIGCONT)
            end(programs)
    finally:
        kept.close()
    assert (tmp_path / "order").read_text().split() == [str(number) for number in range(6)] * 3


def test_descriptors_do_not_pile_up(tmp_path: Path, keeper: Kept) -> None:
    def held() -> tuple[int, int]:
        return len([*Path("/proc/self/fd").iterdir()]), len([*Path(f"/proc/{keeper.pid}/fd").iterdir()])

    shell(tmp_path, "true")
    before = held()
    for number in range(200):
        shell(tmp_path, f"(sleep 0.001 &); exit {number % 2}", workingDir="missing" if number % 10 == 0 else ".")
    wait_until(lambda: all(now <= then for now, then in zip(held(), before, strict=True)), f"{before} descriptors")
    children = Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children")
    wait_until(lambda: not children.read_text(), "the keeper to have no children left, dead ones included")


def test_a_keeper_without_room_for_more_descriptors_fails_steps_and_goes_on(tmp_path: Path, keeper: Kept) -> None:
    shell(tmp_path, "true")
    pid = keeper.pid
    assert pid is not None
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    with Step(tmp_path, "echo begun; until [ -e go ]; do sleep 0.01; done") as step:
        step.start("begun")  # it has the only line
        held = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
        lowest_free = next(number for number in range(1000) if number not in held)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free, before[1]))
        other = shell(tmp_path, "touch traces")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        assert other.status == "failed"
        assert "too many files open" in str(other.error)
        (tmp_path / "go").touch()
        assert step.end().status == "succeeded"
    assert not (tmp_path / "traces").exists()
    assert shell(tmp_path, "true").status == "succeeded"
    assert keeper.pid == pid, "it was not taken for dead"


def test_a_step_whose_outputs_cannot_be_heard_is_ended_and_says_why(tmp_path: Path, keeper: Kept) -> None:
    shell(tmp_path, "true")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, before[1]))
    try:
        outcome = shell(tmp_path, "echo $$ > pid; exec sleep 60")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert str(outcome.error).startswith("What the command prints could not be heard: too many files are open")
    assert not is_alive(int((tmp_path / "pid").read_text()))
    assert shell(tmp_path, "sleep 0.1").status == "succeeded"


def test_a_step_whose_outputs_are_too_much_for_the_system_fails_and_says_why(
    tmp_path: Path, keeper: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    def narrow(*arguments: int) -> tuple[socket.socket, socket.socket]:
        pair = original(*arguments)
        for end in pair:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the least that it has, some 4 kB
        return pair

    original = socket.socketpair
    monkeypatch.setattr(socket, "socketpair", narrow)
    assert result(shell(tmp_path, "echo little; exit 3"))["stdout"] == "little"
    much = PACKET - 1

    def fails() -> bool:
        """Or was too slow for the moment in which outputs are the keeper's business, and is heard."""
        outcome = shell(tmp_path, f"printf %0{much}d 0")
        return "it is too much at once" in str(outcome.error) or result(outcome)["stdout"] != "0" * much

    wait_until(fails, "a step that is short enough")
    assert result(shell(tmp_path, "echo little again; exit 3"))["stdout"] == "little again"


def test_a_step_that_prints_more_than_a_packet_holds_is_heard_to_its_end(tmp_path: Path, keeper: Kept) -> None:
    for size in (PACKET - 1, PACKET, PACKET + 1, 2 * PACKET):
        outcome = shell(tmp_path, f"head -c {size} /dev/zero | tr '\\0' x; head -c {size} /dev/zero | tr '\\0' y >&2")
        assert result(outcome)["stdout"] == "x" * size
        assert result(outcome)["stderr"] == "y" * size


# ---------------------------------------------------------------------- the keeper ends


@pytest.mark.parametrize(
    "name",
    [
        "a child in the background",
        "a double fork",
        "a double fork that empties its environment",
        "a double fork that does not heed TERM",
    ],
)
def test_a_step_whose_keeper_is_killed_ends_and_says_why(tmp_path: Path, keeper: Kept, name: str) -> None:
    command, count = TREES[name]
    with Step(tmp_path, command) as step:
        step._thread.start()
        pids = grown(step, count)
        killed = keeper.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        outcome = step.end()
    assert (outcome.status, outcome.error) == (
        "failed",
        "The keeper of this machine's steps was killed, and the step was ended with it",
    )
    assert [output.name for output in outcome.outputs] == ["result", "log"], "what it said until then is kept"
    assert not alive(pids)
    assert result(shell(tmp_path, "echo on we go"))["stdout"] == "on we go"
    assert keeper.pid != killed


def test_what_steps_left_behind_is_ended_by_the_next_keeper_too(tmp_path: Path, keeper: Kept) -> None:
    with Step(tmp_path, f"(setsid sh -c '{_SAY}; exec sleep 60 >&- 2>&-' &)") as step:
        step.run()
        pids = grown(step, 1)
    killed = keeper.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: not is_alive(killed), "the keeper to die")
    assert shell(tmp_path, "true").status == "succeeded"
    assert alive(pids) == pids
    keeper.close()
    assert not alive(pids)


def test_a_keeper_that_is_killed_takes_nothing_with_it_but_what_runs(tmp_path: Path, keeper: Kept) -> None:
    with Step(tmp_path, f"(setsid sh -c '{_SAY}; exec sleep 60 >&- 2>&-' &)") as before:
        before.run()
        service = grown(before, 1)
    with Step(tmp_path, f"{_SAY}; exec sleep 60") as step:
        step._thread.start()
        pids = grown(step, 1)
        assert keeper.pid is not None
        os.kill(keeper.pid, signal.SIGKILL)
        assert step.end().status == "failed"
    assert (alive(pids), alive(service)) == ([], service)
    assert shell(tmp_path, "true").status == "succeeded"  # whose keeper ends the service in the end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_everything_does_not_end_the_keeper(tmp_path: Path, keeper: Kept, number: int) -> None:
    with Step(tmp_path, "echo begun; until [ -e go ]; do sleep 0.01; done") as step:
        step.start("begun")
        assert keeper.pid is not None
        os.kill(keeper.pid, number)
        (tmp_path / "go").touch()
        assert step.end().status == "succeeded"
    assert is_alive(keeper.pid)


def test_getting_ready_again_disturbs_nothing(tmp_path: Path, keeper: Kept) -> None:
    with Step(tmp_path, "echo begun; until [ -e go ]; do sleep 0.01; done") as step:
        step.start("begun")
        pid = keeper.pid
        keeper.start()
        (tmp_path / "go").touch()
        assert step.end().status == "succeeded"
    assert keeper.pid == pid


def test_nothing_is_started_after_the_close(tmp_path: Path, keeper: Kept) -> None:
    keeper.close()
    assert "is about to end" in str(shell(tmp_path, "touch traces").error)
    assert not (tmp_path / "traces").exists()

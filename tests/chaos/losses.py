"""How soon losses are noticed."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from random import Random

from swamp.clock import from_iso
from tests.chaos import evidence
from tests.chaos.cluster import FLEET, PATIENCE, RAN, Cluster, placed
from tests.chaos.evidence import Noted
from tests.chaos.judging import Report, journal_of, swamp
from tests.waiting import wait_until

NOTICED, AGAIN = 15.0, 20.0  #: seconds: what G2 promises
EXCUSED = 3.0  #: seconds that the machine must have stood still for a loss to be counted anew


class Witness:
    """Writes and syncs a byte all the time while it is on. It has nothing to do with Swamp: it stands still when the
    machine does, or its disk."""

    def __init__(self, file: Path, pause: float = 0.1) -> None:
        self._file = file
        self._pause = pause
        self._beats = [time.time()]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Witness:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        with self._file.open("wb", buffering=0) as file:
            while not self._over.wait(self._pause):
                file.write(b".")
                os.fsync(file.fileno())
                self._beats.append(time.time())

    def stood_still(self, since: float, until: float) -> float:
        """Seconds between the two beats in that time (unix seconds) that lie farthest apart."""
        return longest_pause(self._beats, since, until)


def longest_pause(beats: Sequence[float], since: float, until: float) -> float:
    """Of any that reaches into the time from `since` to `until`, in seconds."""
    return max((b - a for a, b in pairwise([*beats, until]) if b > since and a < until), default=0.0)


def losses(seed: int, rounds: int, steps: int = 120) -> Report:
    """G2: a machine with many steps is killed, alone or together with the orchestrator or its server. How long until
    that is noticed, and until each of its steps runs again, counted from when it had happened and both worked."""
    random, report = Random(seed), Report()
    noticed: list[float] = []
    again: list[float] = []
    late: list[str] = []
    excused: list[str] = []
    with swamp() as made, Witness(made.stage.scratch / "witness") as witness:
        go = made.stage.scratch / "go"
        made.stage.model("patient", f"{RAN}; while [ ! -e {go} ]; do sleep 2; done")
        many = [placed(f"s{number}", "patient", FLEET, "retry") for number in range(steps)]
        made.workflow("patient", {"name": "job", "steps": many})
        names = [f"{FLEET}-{letter}" for letter in "abc"]
        made.ready(*names, concurrency=steps // 2)
        for round_ in range(rounds):
            if round_ % 6 == 0:  # a step is not dispatched more than ten times
                go.touch()
                wait_until(lambda: made.runs_under_way() == 0, "the run to end", timeout=PATIENCE)
                go.unlink()
                run = made.submitted("patient")
                _wait_for_all(made, run, steps)
            latest = _latest(made, run).values()
            # One that has nothing, and is not connected to a new orchestrator, is missed by nobody.
            doomed = random.choice([n for n in names if any(note.machine == made.machine_id(n) for note in latest)])
            worker, machine = made.machines[doomed].process, made.machine_id(doomed)
            lost = [note for note in latest if note.machine == machine]
            how = ("alone", "with the orchestrator", "with the server")[round_ % 3]
            begin = _lose(made, worker.kill, how)
            shown = f"fleet-{machine[:8]}"
            moment = _logged(made, f"worker {shown} is lost", begin, PATIENCE)
            worked, stood = worked_again(made.orchestrator.lines, begin, moment), witness.stood_still(begin, moment)
            if worked is not None and stood >= EXCUSED:
                after = f"a loss {how}, noticed after {moment - begin:.1f} s"
                excused.append(f"{after}, is counted anew: the machine stood still for {stood:.1f} s, then: {worked}")
                begin = _unix(worked)
            noticed.append(moment - begin)
            if noticed[-1] > NOTICED:
                said = [line for line in made.orchestrator.lines if " started on " not in line and _unix(line) > begin]
                late.append("\n".join((f"a loss {how} was noticed after {noticed[-1]:.1f} s", *said[:50])))
            for note in lost:
                again.append(_ran_after(made, note.place, begin) - begin)
            made.join(doomed, "--concurrency", str(steps // 2)).wait_for_line("and waiting for work", timeout=60)
        go.touch()
        made.come_to_rest(PATIENCE)
        journal = journal_of(made)
        report.judge("G1", evidence.every_run_ended([], journal))
        report.judge("G3", evidence.started_as_often_as_allowed(made.notes.noted, journal))
    slow = percentile(again, 99)
    report.judge("G2", late)
    report.judge("G2", [f"p99 of steps that ran again is {slow:.1f} s"] if slow > AGAIN else [])
    report.figures = [
        f"{rounds} losses noticed after p50 {percentile(noticed, 50):.1f} s, p99 {percentile(noticed, 99):.1f} s",
        *excused,
        f"{len(again)} steps ran again after p50 {percentile(again, 50):.1f} s, p99 {slow:.1f} s",
    ]
    return report


def _lose(made: Cluster, kill: Callable[[], None], how: str) -> float:
    """Since when the loss has happened, and orchestrator and Redis work."""
    if how == "with the server":
        lines = len(made.orchestrator.lines)
        os.kill(made.redis_pid(), signal.SIGKILL)
        kill()
        wait_until(
            lambda: any("Redis is back" in line for line in made.orchestrator.lines[lines:]),
            "Redis to be back",
            PATIENCE,
        )
        return time.time()
    kill()
    if how == "with the orchestrator":
        made.orchestrator.kill()
        made.serve().wait_for_line("listening on ws://", timeout=PATIENCE)
    return time.time()


def _latest(made: Cluster, run: str) -> dict[evidence.Place, Noted]:
    made.notes.look()
    return {note.place: note for note in made.notes.noted if note.kind == "ran" and note.place[0] == run}


def _ran_after(made: Cluster, place: evidence.Place, moment: float) -> float:
    """When the step ran next."""

    def found() -> list[float]:
        made.notes.look()
        return [note.at for note in made.notes.noted if note.kind == "ran" and note.place == place and note.at > moment]

    return wait_until(found, "a step to run again", PATIENCE)[0]


def _wait_for_all(made: Cluster, run: str, steps: int) -> None:
    wait_until(lambda: len(_latest(made, run)) == steps, "all steps to run", PATIENCE)


def _logged(made: Cluster, text: str, since: float, timeout: float) -> float:
    """When the running orchestrator said so first, `since` then; unix seconds."""

    def found() -> list[float]:
        return [moment for line in made.orchestrator.lines if text in line and (moment := _unix(line)) > since]

    return wait_until(found, f"the orchestrator to say '{text}'", timeout)[0]


#: What an orchestrator says that did not work for a while, or whose Redis did not, once both do.
WORKS_AGAIN = ("nothing was heard or stored for", "Redis is back after")


def worked_again(lines: Sequence[str], since: float, until: float) -> str | None:
    """What the orchestrator said last, if it or Redis did not work in between (unix seconds), as both do not while
    their disk does not."""
    said = [line for line in lines if any(text in line for text in WORKS_AGAIN)]
    return next((line for line in reversed(said) if since < _unix(line) < until), None)


def _unix(line: str) -> float:
    moment: datetime = from_iso(line.split()[0])
    return moment.timestamp()


def percentile(values: list[float], part: int) -> float:
    """The value that `part` percent of them do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * part / 100) - 1)]

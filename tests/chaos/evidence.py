"""What was noted while things went wrong, and what the journal says of it: do they agree with what is promised? Pure,
but for the reading of both."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from swamp.orchestrator.ledger import MOST_ATTEMPTS
from swamp.workflows.plan import plan_from_json

#: How the failure of a step begins whose worker was lost.
LOST = re.compile(r"worker '[\w-]+' was (lost|stopped|restarted) while |worker '[\w-]+' has had this dispatch before")

ENDED = {"succeeded", "failed", "canceled", "skipped"}

Place = tuple[str, int]  #: run id and position: a step


# ---------------------------------------------------------------------- what was noted


@dataclass(frozen=True, slots=True)
class Noted:
    """A worker was about to start a step (`start`), or gave it back before its turn came (`withdrawn`), the step itself
    said that it runs (`ran`), or its result has come into the worker's outbox (`kept`)."""

    kind: str
    dispatch: str
    machine: str
    epoch: int
    at: float

    @property
    def place(self) -> Place:
        return place_of(self.dispatch)


@dataclass(frozen=True, slots=True)
class Hit:
    point: str
    action: str
    pid: int
    at: float


def place_of(dispatch: str) -> Place:
    """Ids are `<target>--<run>-<position>-<attempt>`."""
    run, position, _ = dispatch.partition("--")[2].rsplit("-", 2)
    return run, int(position)


class Notes:
    """The side file that all processes under test append to. It is read on from where the last look ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()
        self._rest = ""
        self._offset = 0
        self.noted: list[Noted] = []
        self.hits: list[Hit] = []

    def look(self) -> None:
        with self.path.open(encoding="utf-8") as file:
            file.seek(self._offset)
            text = file.read()
            self._offset = file.tell()
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            kind, *words = line.split("\t")
            if kind == "hit":
                self.hits.append(Hit(words[0], words[1], int(words[2]), float(words[3])))
            else:
                self.noted.append(Noted(kind, words[0], words[1], int(words[2]), float(words[3])))

    def kills(self) -> Counter[str]:
        """How often a process was killed at each point."""
        return Counter(hit.point for hit in self.hits if hit.action == "kill")


# ---------------------------------------------------------------------- what the journal says


@dataclass(frozen=True, slots=True)
class Step:
    place: Place
    name: str  #: `job/step`
    retry: bool
    status: str
    dispatch: str | None
    error: str | None
    ends: int  #: events that tell its end
    results: tuple[str, ...]  #: the machines of its stored results


@dataclass(frozen=True, slots=True)
class Dispatched:
    id: str
    state: str
    machine: str | None
    late: frozenset[str]  #: the machines whose results came too late, and are kept with it


@dataclass(frozen=True)
class Journal:
    runs: dict[str, str] = field(default_factory=dict)  #: id to status
    steps: Sequence[Step] = ()
    dispatches: Sequence[Dispatched] = ()


def read_journal(database: Path) -> Journal:
    steps = []
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        runs = dict(connection.execute("SELECT id, status FROM runs"))
        ends: Counter[tuple[str, str]] = Counter()
        for run, event in connection.execute("SELECT run_id, event FROM run_events WHERE event LIKE '%step-finished%'"):
            told = json.loads(event)
            if told["kind"] == "step-finished":
                ends[run, f"{told['job']}/{told['step']}"] += 1
        results: dict[tuple[str, str], list[str]] = defaultdict(list)
        for run, job, step, machine in connection.execute(
            "SELECT run_id, job_name, step_name, machine FROM data WHERE spec_name = 'result'"
        ):
            results[run, f"{job}/{step}"].append(machine)
        for run, text in connection.execute("SELECT id, plan FROM runs JOIN plans ON run_seq = seq"):
            plan = plan_from_json(text)
            for position, status, dispatch, error in connection.execute(
                "SELECT position, status, dispatch_id, error FROM steps WHERE run_id = ?", (run,)
            ):
                planned = plan.steps[position]
                name = f"{plan.jobs[planned.job].name}/{planned.name}"
                steps.append(
                    Step(
                        (run, position), name, planned.on_worker_lost == "retry", status, dispatch, error,
                        ends[run, name], tuple(results[run, name]),
                    )
                )  # fmt: skip
        dispatches = [
            Dispatched(name, state, machine, frozenset(one["machine"] for one in json.loads(evidence or "[]")))
            for name, state, machine, evidence in connection.execute(
                "SELECT id, state, machine, evidence FROM dispatches"
            )
        ]
    return Journal(runs, steps, dispatches)


# ---------------------------------------------------------------------- whether they agree: a list of what does not


def every_run_ended(accepted: Iterable[str], journal: Journal) -> list[str]:
    """G1."""
    lost = [f"run {run} was accepted and is not in the journal" for run in accepted if run not in journal.runs]
    return lost + [f"run {run} is {status}" for run, status in journal.runs.items() if status not in ENDED]


def nothing_runs_for_ever(journal: Journal) -> list[str]:
    """G2, at rest."""
    steps = [f"step {step.name} of {step.place} is {step.status}" for step in journal.steps if step.status not in ENDED]
    live = [d for d in journal.dispatches if d.state not in ("finished", "superseded", "lost")]
    return steps + [f"dispatch {dispatch.id} is {dispatch.state}" for dispatch in live]


def starts(noted: Iterable[Noted]) -> Counter[Place]:
    """How often each step was started: was about to be, and not withdrawn while it waited for its turn."""
    noted = list(noted)
    about_to = Counter(note.place for note in noted if note.kind == "start")
    about_to.subtract(note.place for note in noted if note.kind == "withdrawn")
    return +about_to


def started_as_often_as_allowed(noted: Iterable[Noted], journal: Journal) -> list[str]:
    """G3. A worker that was about to start a step counts as one that did. A step that may be retried fails for the loss
    of its worker only when it was lost as often as it may be."""
    noted = list(noted)
    started = starts(noted)
    lost = Counter(place_of(dispatch.id) for dispatch in journal.dispatches if dispatch.state == "lost")
    ran = {note.dispatch for note in noted if note.kind == "ran"}
    ran_where = {(note.dispatch, note.machine, note.epoch) for note in noted if note.kind == "ran"}
    wrong = [
        f"{note.dispatch} was withdrawn on {note.machine} and ran there"
        for note in noted
        if note.kind == "withdrawn" and (note.dispatch, note.machine, note.epoch) in ran_where
    ]
    for step in journal.steps:
        if not step.retry and started[step.place] > 1:
            wrong.append(f"step {step.name} of {step.place} started {started[step.place]} times")
        if step.retry and step.status == "failed":
            if not started[step.place]:
                wrong.append(f"step {step.name} of {step.place} failed and never started")
            if LOST.match(step.error or "") and lost[step.place] < MOST_ATTEMPTS:
                wrong.append(f"step {step.name} of {step.place} was given up after {lost[step.place]} losses")
        if step.status == "succeeded" and step.dispatch not in ran:
            wrong.append(f"step {step.name} of {step.place} succeeded as {step.dispatch}, which never ran")
    known = {step.place for step in journal.steps}
    return wrong + [f"{place} was started and is in no journal" for place in started if place not in known]


def one_result_each(journal: Journal) -> list[str]:
    """G4."""
    finished = Counter(place_of(d.id) for d in journal.dispatches if d.state == "finished")
    wrong = []
    for step in journal.steps:
        if step.status in ENDED and step.ends != 1:
            wrong.append(f"the end of {step.name} of {step.place} was told {step.ends} times")
        if len(step.results) > 1 or finished[step.place] > 1:
            wrong.append(f"{step.name} of {step.place} has {len(step.results)} results")
        if step.status == "succeeded" and len(step.results) != 1:
            wrong.append(f"{step.name} of {step.place} succeeded with {len(step.results)} results")
    return wrong


def no_result_was_lost(noted: Iterable[Noted], journal: Journal) -> list[str]:
    """G4: what was in an outbox of a machine is the result of its step, or is kept as evidence."""
    dispatches = {dispatch.id: dispatch for dispatch in journal.dispatches}
    wrong = []
    for name, machine in {(note.dispatch, note.machine) for note in noted if note.kind == "kept"}:
        dispatch = dispatches.get(name)
        its_own = dispatch is not None and dispatch.state == "finished" and dispatch.machine == machine
        if dispatch is None or not (its_own or machine in dispatch.late):
            wrong.append(f"{name} had a result on {machine}, and is {dispatch.state if dispatch else 'in no journal'}")
    return wrong


def late_workers_changed_nothing(noted: Iterable[Noted], journal: Journal) -> list[str]:
    """G5: a step's result is that of its last dispatch, from the machine that ran it; late ones are beside it."""
    started = {(note.dispatch, note.machine) for note in noted if note.kind == "start"}
    dispatches = {dispatch.id: dispatch for dispatch in journal.dispatches}
    wrong = []
    for step in journal.steps:
        for machine in step.results:
            if step.dispatch is None or (step.dispatch, machine) not in started:
                wrong.append(f"{step.name} of {step.place} has a result of {machine}, {step.dispatch} ran elsewhere")
        if step.results and step.dispatch is not None and dispatches[step.dispatch].state != "finished":
            wrong.append(f"{step.name} of {step.place} has its result from a dispatch that was given up")
    return wrong + [
        f"{d.id} is finished by {d.machine}, and has a late result of it"
        for d in journal.dispatches
        if d.state == "finished" and d.machine in d.late
    ]


#: Why a step may fail where processes are killed.
EXPECTED = re.compile(
    r"Command exited with code 3$"  # it is meant to
    rf"|{LOST.pattern}"
    r"|Command was ended by signal SIGKILL|The keeper of this machine's steps was killed"
)


def failures(journal: Journal) -> Counter[str]:
    """Why steps failed, and how many."""
    reasons = (re.sub(r"'[\w-]+'", "…", step.error or "no reason") for step in journal.steps if step.status == "failed")
    return Counter(reasons)


def no_surprises(journal: Journal) -> list[str]:
    """No step failed for another reason than the faults that were made."""
    return [
        f"step {step.name} of {step.place} {step.status}: {step.error}"
        for step in journal.steps
        if step.status == "canceled" or (step.status == "failed" and not EXPECTED.match(step.error or ""))
    ]

"""One experiment for each kind of trouble: each builds a whole Swamp, does its worst, and says what broke."""

from __future__ import annotations

import math
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import redis

from swamp.clock import from_iso
from tests.chaos import evidence
from tests.chaos.cluster import FLEET, NODE, NOTE, RAN, Armed, Cluster, Load, cluster, placed
from tests.chaos.evidence import Journal, Noted
from tests.chaos.storm import Storm
from tests.e2e.stage import until
from tests.waiting import wait_until

PATIENCE = 120.0  #: seconds in which anything comes to an end that is not disturbed
NOTICED, AGAIN = 15.0, 20.0  #: seconds: what G2 promises


@dataclass
class Report:
    """`verdicts`: promise to what is wrong with it. `figures`: what there is to know besides."""

    verdicts: dict[str, list[str]] = field(default_factory=dict)
    figures: list[str] = field(default_factory=list)

    def judge(self, promise: str, problems: list[str]) -> None:
        self.verdicts.setdefault(promise, []).extend(problems)


@contextmanager
def swamp() -> Iterator[Cluster]:
    """A cluster in a directory that is removed at the end."""
    with TemporaryDirectory(prefix="swamp-chaos-", dir="/tmp", ignore_cleanup_errors=True) as directory:
        scratch, runtime = Path(directory) / "scratch", Path(directory) / "run"
        scratch.mkdir()
        runtime.mkdir()
        with cluster(scratch, runtime) as made:
            yield made


def journal_of(swamp: Cluster) -> Journal:
    swamp.notes.look()
    return evidence.read_journal(swamp.stage.root / ".swamp/data/swamp.db")


def judge_what_happened(report: Report, made: Cluster, accepted: Iterable[str], deserters: Iterable[str]) -> None:
    """G1 to G6, by the journal and by what was noted beside it, after everything has come to rest. The processes are
    stopped for it. `accepted` are runs whose id was told, `deserters` what is to be said of processes that ended by
    themselves."""
    journal, noted = journal_of(made), made.notes.noted
    report.judge("G1", evidence.every_run_ended(accepted, journal))
    report.judge("G2", evidence.nothing_runs_for_ever(journal))
    report.judge("G3", evidence.started_as_often_as_allowed(noted, journal))
    report.judge("G4", evidence.one_result_each(journal))
    report.judge("G4", evidence.no_result_was_lost(noted, journal))
    report.judge("G5", evidence.late_workers_changed_nothing(noted, journal))
    report.judge("G6", [*deserters, *evidence.no_surprises(journal), *goodbye(made)])
    report.figures += [
        f"{len(journal.runs)} runs, {len(journal.steps)} steps, {len(journal.dispatches)} dispatches,"
        f" {sum(len(dispatch.late) for dispatch in journal.dispatches)} late results",
        *(f"failed {count} times: {reason}" for reason, count in evidence.failures(journal).most_common()),
    ]


# ---------------------------------------------------------------------- everything at once


def storm(seed: int, points: list[str], seconds: float, calm: float, *, until_hit: bool, width: int = 12) -> Report:
    """G1 to G5: kills at the named points and, `calm` seconds apart, at random. Afterwards everybody comes back, every
    run must end by itself, and the journal must agree with what the steps themselves noted."""
    report, random = Report(), Random(seed)
    with swamp() as made:
        workflows = made.mixture(width)
        made.ready(NODE, f"{FLEET}-a", f"{FLEET}-b")
        raging = Storm(made, random, points, calm)
        with Load(made, workflows, Random(seed + 1), at_once=4) as load:
            raging.rage(seconds, until_hit=until_hit)
            raging.calm = 0  # what was hit by chance alone may have kept others from their points
            raging.rage(seconds, until_hit=True)
        raging.end()
        made.come_to_rest(PATIENCE)
        judge_what_happened(report, made, load.accepted, raging.deserters)
        report.judge("points", [f"nothing was killed at '{name}'" for name in raging.missed])
        kills = made.notes.kills()
        report.figures += [
            *(f"killed {kills[name]:3} times: {name}" for name in points),
            *(f"at a point, {action}: {count}" for action, count in _counted(h.action for h in made.notes.hits)),
            *(f"at random, {fault}: {count}" for fault, count in sorted(raging.faults.items())),
        ]
    return report


def _counted(words: Iterator[str]) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return sorted(counts.items())


def goodbye(made: Cluster) -> list[str]:
    """Everybody who is on the way arrives, can still be stopped in the ordinary way, and no worker keeps a result that
    it could not deliver."""
    wrong = []
    for name, machine in made.machines.items():
        # One that was killed at the very last is still on its way; Ctrl-C would meet it before it listens.
        wait_until(partial(_has_arrived, machine.process), f"{name} to join", PATIENCE)
        code = machine.process.stop(60)
        if code != 0 or "not delivered" in machine.process.output:
            wrong.append(f"{name} ended with {code}:\n{machine.process.output[-1000:]}")
    code = made.orchestrator.stop(60)
    return wrong + ([f"the orchestrator ended with {code}"] if code != 0 else [])


def _has_arrived(process: Armed) -> bool:
    return "waiting for work" in process.output or not process.running


# ---------------------------------------------------------------------- restarts under load


def restarts(seed: int, times: int) -> Report:
    """G7: the orchestrator is killed or stopped again and again while workers work. No worker dies, so no step may fail
    or start twice."""
    random = Random(seed)
    with swamp() as made:
        made.models()
        _wide(made, "wide", 24, ("quick", "slow", "probe"))
        made.ready(NODE, f"{FLEET}-a")
        with Load(made, ["wide"], random, at_once=2) as load:
            for time_ in range(times):
                time.sleep(random.uniform(0.3, 2.0))
                if time_ % 2:
                    made.orchestrator.asked_to_end = True
                    made.orchestrator.stop(60)
                else:
                    made.orchestrator.kill()
                made.serve().wait_for_line("listening on ws://", timeout=60)
        made.come_to_rest(PATIENCE)
        return _all_well("G7", made, load, f"{times} restarts of the orchestrator")


def rolling(seed: int, rounds: int) -> Report:
    """G8: all workers are stopped and started one after the other, by SIGTERM, while they work. Their steps take less
    than the grace time, so none may fail or start twice."""
    random = Random(seed)
    with swamp() as made:
        made.models()
        _wide(made, "wide", 24, ("slow", "slow", "quick"))
        names = (NODE, f"{FLEET}-a", f"{FLEET}-b")
        made.ready(*names)
        wrong = []
        with Load(made, ["wide"], random, at_once=2) as load:
            for name in names * rounds:
                process, machine, before = made.machines[name].process, _machine_of(made, name), time.time()
                _wait_for(made, partial(_starts_on, machine=machine, since=before), f"a step to start on {name}")
                process.asked_to_end = True
                process.signal(signal.SIGTERM)
                if (code := process.wait_for_end(60)) != 0:
                    wrong.append(f"{name} ended with {code}:\n{process.output[-1000:]}")
                made.join(name, "--concurrency", "2").wait_for_line("and waiting for work", timeout=60)
        made.come_to_rest(PATIENCE)
        report = _all_well("G8", made, load, f"{rounds * len(names)} restarts of workers")
        report.judge("G8", wrong)
        return report


def _starts_on(made: Cluster, machine: str, since: float) -> bool:
    return any(note.kind == "ran" and note.machine == machine and note.at > since for note in made.notes.noted)


def _wide(made: Cluster, name: str, steps: int, models: tuple[str, ...]) -> None:
    """A workflow of steps that wait for nothing, on both targets, of both kinds."""
    made.workflow(
        name,
        {
            "name": "wide",
            "steps": [
                placed(
                    f"s{number}",
                    models[number % len(models)],
                    (NODE, FLEET)[number % 2],
                    ("fail", "retry")[number // 2 % 2],
                )
                for number in range(steps)
            ],
        },
    )


def _all_well(promise: str, made: Cluster, load: Load, what: str) -> Report:
    """Every run ended, every step succeeded, at its first start."""
    journal = journal_of(made)
    starts = evidence.starts(made.notes.noted)
    report = Report()
    report.judge("G1", evidence.every_run_ended(load.accepted, journal))
    report.judge("G3", evidence.started_as_often_as_allowed(made.notes.noted, journal))
    report.judge("G4", evidence.one_result_each(journal))
    report.judge("G4", evidence.no_result_was_lost(made.notes.noted, journal))
    report.judge(
        promise,
        [f"step {step.name} {step.status}: {step.error}" for step in journal.steps if step.status != "succeeded"]
        + [
            f"{step.name} of {step.place} started {starts[step.place]} times"
            for step in journal.steps
            if starts[step.place] != 1
        ]
        + ([] if len(journal.steps) > 0 else ["nothing ran"])
        + goodbye(made),
    )
    report.figures = [f"{what} over {len(journal.runs)} runs, {len(journal.steps)} steps"]
    return report


#: From a result that was read to one that everybody knows of.
HANDED_OVER = ("7 stored, not committed", "8 committed, not freed", "9 freed, not acknowledged")


def handed_over() -> Report:
    """G4: the orchestrator is killed while it takes over a result: that is neither lost nor taken twice."""
    with swamp() as made:
        made.models()
        made.workflow("one", {"name": "job", "steps": [placed("one", "quick", NODE, "fail")]})
        made.ready(NODE)
        for point in HANDED_OVER:
            made.orchestrator.arm(point)
            made.submit("one")  # which may be over before its id is told
            made.orchestrator.wait_for_end(PATIENCE)
            made.serve().wait_for_line("listening on ws://", timeout=60)
            wait_until(lambda: made.runs_under_way() == 0, f"the run to end after a kill at '{point}'", timeout=30)
        report = Report()
        report.judge("points", [f"nothing was killed at '{name}'" for name in HANDED_OVER if not _kills(made)[name]])
        journal, noted = journal_of(made), made.notes.noted
        report.judge("G4", evidence.one_result_each(journal) + evidence.no_result_was_lost(noted, journal))
        report.judge(
            "G4", [f"step {step.status}: {step.error}" for step in journal.steps if step.status != "succeeded"]
        )
        report.judge("G3", evidence.started_as_often_as_allowed(noted, journal))
        return report


def _kills(made: Cluster) -> Counter[str]:
    made.notes.look()
    return made.notes.kills()


# ---------------------------------------------------------------------- workers that stand still


def frozen() -> Report:
    """G5: one machine stands still in the middle of a step, another one between claim and begin, both for longer than
    their lease; a third finishes what they had. Then they go on."""
    with swamp() as made:
        stage, go = made.stage, made.stage.scratch / "go"
        stage.model("patient", NOTE + until(go) + "; echo $CHAOS_MACHINE")
        for name in ("middle", "claimed"):
            made.workflow(name, {"name": "job", "steps": [placed(name, "patient", FLEET, "retry")]})
        middle, before, third = (f"{FLEET}-{letter}" for letter in "abc")
        made.ready(middle, concurrency=1)
        first = _submitted(made, "middle")
        _wait_for(made, lambda made: _ran(made, first), "the step to run")
        made.machines[middle].process.signal(signal.SIGSTOP)

        claimer = made.join(before, "--concurrency", "1")
        claimer.wait_for_line("and waiting for work", timeout=60)
        claimer.arm("3 about to begin", action="stop")
        second = _submitted(made, "claimed")
        _wait_for(made, lambda made: made.notes.hits, "the other machine to stand still")

        made.join(third, "--concurrency", "2")
        _wait_for(made, lambda made: _ran(made, first, "-2"), "the step to run again")
        go.touch()
        wait_until(lambda: made.runs_under_way() == 0, "both runs to end", timeout=60)
        results = _results(made)
        for name in (middle, before):
            made.machines[name].process.signal(signal.SIGCONT)
        wait_until(
            lambda: stage.rows("SELECT 1 FROM dispatches WHERE run_id = ? AND evidence IS NOT NULL", first),
            "the late result to be kept",
            timeout=60,
        )
        wait_until(lambda: set(stage.workers().values()) == {"idle"}, "all workers to be there", timeout=60)
        journal = journal_of(made)
        report = Report()
        report.judge("G5", evidence.late_workers_changed_nothing(made.notes.noted, journal))
        report.judge("G5", [] if _results(made) == results else ["a result changed"])
        taken_back = [note for note in made.notes.noted if note.place[0] == second and note.dispatch.endswith("-1")]
        report.judge("G5", ["what was taken back was started"] if taken_back else [])
        report.judge("G5", [f"run {run} {status}" for run, status in journal.runs.items() if status != "succeeded"])
        report.judge("G4", evidence.one_result_each(journal))
        report.judge("G3", evidence.started_as_often_as_allowed(made.notes.noted, journal))
        report.figures = [f"{sum(len(dispatch.late) for dispatch in journal.dispatches)} late results kept as evidence"]
        return report


# ---------------------------------------------------------------------- workers that are killed before they begin

#: Where it is sure that nothing was started, whatever Redis and the orchestrator went through before.
UNBEGUN = (
    "2 claimed while waiting, not opened",
    "3 claimed, not opened",
    "3 noted as seen, not begun",
    "3 grant received, not begun",
    "3 about to begin",
    "4 begun on the server, answer not read",
    "4 begun, not noted",
)


def unbegun() -> Report:
    """G3: a step that must not run twice is dispatched anew and succeeds when its worker is killed before it has begun
    it: on one machine and on a fleet, also if the dispatch is older than the orchestrator's start."""
    with swamp() as made:
        made.stage.model("quick", NOTE + "echo done")
        for target in (NODE, FLEET):
            made.workflow(target, {"name": "job", "steps": [placed("one", "quick", target, "fail")]})
        made.serve().wait_for_line("listening on ws://", timeout=60)
        report = Report()
        for number, point in enumerate(UNBEGUN):
            target = FLEET if number % 2 or "grant" in point else NODE
            name = f"{target}-a" if target == FLEET else NODE
            if target in made.tokens:  # else nothing can be placed on it yet
                run = _submitted(made, target)
                made.orchestrator.kill()
                made.serve().wait_for_line("listening on ws://", timeout=60)
                made.join(name, "--concurrency", "1").arm(point)
            else:
                made.join(name, "--concurrency", "1").wait_for_line("and waiting for work", timeout=60)
                made.machines[name].process.arm(point)
                run = _submitted(made, target)
            made.machines[name].process.wait_for_end(PATIENCE)
            made.join(name, "--concurrency", "1")
            wait_until(lambda: made.runs_under_way() == 0, "the run to end", timeout=60)
            process = made.machines[name].process
            process.asked_to_end = True
            process.stop(60)
            journal = journal_of(made)
            report.judge(
                "G3",
                [f"killed at '{point}': step {s.status}: {s.error}" for s in journal.steps
                 if s.place[0] == run and s.status != "succeeded"],
            )  # fmt: skip
        report.judge("G3", evidence.started_as_often_as_allowed(made.notes.noted, journal_of(made)))
        report.judge("points", [f"nothing was killed at '{name}'" for name in UNBEGUN if not made.notes.kills()[name]])
        report.figures = [f"{sum(made.notes.kills().values())} kills before a step began"]
        return report


def _results(made: Cluster) -> list[tuple[object, ...]]:
    return made.stage.rows("SELECT id, checksum, machine FROM data ORDER BY rowid")


def _submitted(made: Cluster, workflow: str) -> str:
    return wait_until(lambda: made.submit(workflow), "a run to be accepted", timeout=60) or ""


def _wait_for(made: Cluster, fact: Callable[[Cluster], object], what: str) -> None:
    """Wait for something that is in the notes."""

    def found() -> object:
        made.notes.look()
        return fact(made)

    wait_until(found, what, PATIENCE)


def _ran(made: Cluster, run: str, ending: str = "") -> bool:
    """Whether a step of the run noted that it runs, under a dispatch that ends so."""
    return any(n.kind == "ran" and n.place[0] == run and n.dispatch.endswith(ending) for n in made.notes.noted)


# ---------------------------------------------------------------------- how soon losses are noticed


def losses(seed: int, rounds: int, steps: int = 120) -> Report:
    """G2: a machine with many steps is killed, alone or together with the orchestrator or its server. How long until
    that is noticed, and until each of its steps runs again, counted from when it had happened and both worked."""
    random, report = Random(seed), Report()
    noticed: list[float] = []
    again: list[float] = []
    late: list[str] = []
    held_up: list[str] = []
    with swamp() as made:
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
                run = _submitted(made, "patient")
                _wait_for_all(made, run, steps)
            latest = _latest(made, run).values()
            # One that has nothing, and is not connected to a new orchestrator, is missed by nobody.
            doomed = random.choice([n for n in names if any(note.machine == _machine_of(made, n) for note in latest)])
            worker, machine = made.machines[doomed].process, _machine_of(made, doomed)
            lost = [note for note in latest if note.machine == machine]
            how = ("alone", "with the orchestrator", "with the server")[round_ % 3]
            begin = _lose(made, worker.kill, how)
            shown = f"fleet-{machine[:8]}"
            moment = _logged(made, f"worker {shown} is lost", begin, PATIENCE)
            if (worked := _worked_again(made, begin, moment)) is not None:
                held_up.append(f"a loss {how}, noticed after {moment - begin:.1f} s, is counted from: {worked}")
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
        *held_up,
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


def _machine_of(made: Cluster, name: str) -> str:
    """The id of the machine, as its own log says."""
    made.machines[name].process._next_line = 0
    return made.machines[name].process.wait_for_line(r"\(machine (\w+)")[1]


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


def _worked_again(made: Cluster, since: float, until: float) -> str | None:
    """What the orchestrator said last, if it or Redis did not work in between, as both do not while their disk does
    not."""
    said = [line for line in made.orchestrator.lines if any(text in line for text in WORKS_AGAIN)]
    return next((line for line in reversed(said) if since < _unix(line) < until), None)


def _unix(line: str) -> float:
    moment: datetime = from_iso(line.split()[0])
    return moment.timestamp()


def percentile(values: list[float], part: int) -> float:
    """The value that `part` percent of them do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * part / 100) - 1)]


# ---------------------------------------------------------------------- bounds


def bounds(steps: int, batches: int = 20, limits: Mapping[str, float] | None = None) -> Report:
    """G11: many steps; once the first half is over, memory and keys must not grow any more. `limits`: what is watched,
    and how much it may grow for every 1,000 steps."""
    report, limits = Report(), MOST_GROWTH if limits is None else limits
    with swamp() as made:
        made.models()
        made.sync = ""
        each = steps // batches
        made.workflow("many", {"name": "job", "steps": [placed(f"s{n}", "probe", NODE, "fail") for n in range(each)]})
        made.ready(NODE, concurrency=16)
        samples: list[dict[str, float]] = []
        for _ in range(batches):
            _submitted(made, "many")
            wait_until(lambda: made.runs_under_way() == 0, "the run to end", timeout=900)
            with made.redis() as server:
                keys = _settled(server)
                memory = server.info("memory")
            samples.append(
                {
                    "orchestrator kB": resident_kb(made.orchestrator.pid),
                    "worker kB": resident_kb(made.machines[NODE].process.pid),
                    "server kB": resident_kb(made.redis_pid()),
                    "server kB in use": memory["used_memory"] / 1024,
                    "keys": keys,
                }
            )
        for what, limit in limits.items():
            values = [sample[what] for sample in samples[batches // 2 :]]
            slope = slope_of(values) / each * 1000
            report.figures.append(
                f"{what}: {samples[0][what]:.0f} after {each}, {values[-1]:.0f} after {steps};"
                f" {slope:+.2f} for 1,000 steps"
            )
            if slope > limit:
                report.judge("G11", [f"{what} grows by {slope:.1f} for every 1,000 steps"])
        report.judge("G11", [])
    return report


def _settled(server: redis.Redis) -> float:
    """The number of keys, once RQ's books are kept and what is too old in them is deleted."""
    last = -1
    while (keys := int(str(server.dbsize()))) != last:
        last = keys
        time.sleep(0.5)
    return float(keys)


#: A worker remembers 16 bytes of each id that it has seen, of at most a
#: million. What the server has from the system moves with the rewriting of its append-only file; what it uses must not.
MOST_GROWTH = {"orchestrator kB": 40.0, "worker kB": 60.0, "server kB": 200.0, "server kB in use": 10.0, "keys": 1.0}


def slope_of(values: list[float]) -> float:
    """The growth from one value to the next: least squares."""
    n = len(values)
    mean_x, mean_y = (n - 1) / 2, sum(values) / n
    return sum((x - mean_x) * (y - mean_y) for x, y in enumerate(values)) / sum((x - mean_x) ** 2 for x in range(n))


def resident_kb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("VmRSS:")))

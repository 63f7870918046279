"""One experiment for each kind of trouble: each builds a whole Swamp, does its worst, and says what broke."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from random import Random

from tests.chaos import evidence
from tests.chaos.cluster import FLEET, NODE, NOTE, PATIENCE, Cluster, Load, placed
from tests.chaos.judging import Report, goodbye, journal_of, judge_what_happened, swamp
from tests.chaos.storm import Storm
from tests.e2e.stage import until
from tests.waiting import wait_until

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
                process, machine, before = made.machines[name].process, made.machine_id(name), time.time()
                made.wait_for_notes(partial(_starts_on, machine=machine, since=before), f"a step to start on {name}")
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
    their lease; a third finishes what they had, but for a step that must not run twice, which is given up. Then they go
    on."""
    with swamp() as made:
        stage, go = made.stage, made.stage.scratch / "go"
        stage.model("patient", NOTE + until(go) + "; echo $CHAOS_MACHINE")
        for name, policy in (("middle", "retry"), ("once", "fail"), ("claimed", "retry")):
            made.workflow(name, {"name": "job", "steps": [placed(name, "patient", FLEET, policy)]})
        middle, before, third = (f"{FLEET}-{letter}" for letter in "abc")
        made.ready(middle, concurrency=2)
        first, once = made.submitted("middle"), made.submitted("once")
        made.wait_for_notes(lambda made: _ran(made, first) and _ran(made, once), "the steps to run")
        made.machines[middle].process.signal(signal.SIGSTOP)

        claimer = made.join(before, "--concurrency", "1")
        claimer.wait_for_line("and waiting for work", timeout=60)
        claimer.arm("3 about to begin", action="stop")
        second = made.submitted("claimed")
        made.wait_for_notes(lambda made: made.notes.hits, "the other machine to stand still")

        made.join(third, "--concurrency", "2")
        made.wait_for_notes(lambda made: _ran(made, first, "-2"), "the step to run again")
        go.touch()
        wait_until(lambda: made.runs_under_way() == 0, "all runs to end", timeout=60)
        results = _results(made)
        for name in (middle, before):
            made.machines[name].process.signal(signal.SIGCONT)
        wait_until(
            lambda: len(stage.rows("SELECT 1 FROM dispatches WHERE evidence IS NOT NULL")) == 2,
            "the late results to be kept",
            timeout=60,
        )
        wait_until(lambda: set(stage.workers().values()) == {"idle"}, "all workers to be there", timeout=60)
        journal = journal_of(made)
        report = Report()
        report.judge("G5", evidence.late_workers_changed_nothing(made.notes.noted, journal))
        report.judge("G5", [] if _results(made) == results else ["a result changed"])
        taken_back = [note for note in made.notes.noted if note.place[0] == second and note.dispatch.endswith("-1")]
        report.judge("G5", ["what was taken back was started"] if taken_back else [])
        expected = {first: "succeeded", once: "failed", second: "succeeded"}
        report.judge("G5", [] if journal.runs == expected else [f"runs ended as {journal.runs}, not as {expected}"])
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
                run = made.submitted(target)
                made.orchestrator.kill()
                made.serve().wait_for_line("listening on ws://", timeout=60)
                made.join(name, "--concurrency", "1").arm(point)
            else:
                made.join(name, "--concurrency", "1").wait_for_line("and waiting for work", timeout=60)
                made.machines[name].process.arm(point)
                run = made.submitted(target)
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


def _ran(made: Cluster, run: str, ending: str = "") -> bool:
    """Whether a step of the run noted that it runs, under a dispatch that ends so."""
    return any(n.kind == "ran" and n.place[0] == run and n.dispatch.endswith(ending) for n in made.notes.noted)

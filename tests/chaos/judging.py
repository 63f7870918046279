"""What every experiment is made of: a Swamp of its own, and a report on what became of the promises."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.chaos import evidence
from tests.chaos.cluster import PATIENCE, Armed, Cluster, cluster
from tests.chaos.evidence import Journal
from tests.waiting import wait_until


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
    at_rest = journal_of(made)
    report.judge("G1", evidence.every_run_ended(accepted, at_rest))
    report.judge("G2", evidence.nothing_runs_for_ever(at_rest))
    # Who was away when the last run ended may have a late result, and brings it before it goes.
    farewells = goodbye(made)
    journal, noted = journal_of(made), made.notes.noted
    report.judge("G3", evidence.started_as_often_as_allowed(noted, journal))
    report.judge("G4", evidence.one_result_each(journal))
    report.judge("G4", evidence.no_result_was_lost(noted, journal))
    report.judge("G5", evidence.late_workers_changed_nothing(noted, journal))
    report.judge("G6", [*deserters, *evidence.no_surprises(journal), *farewells])
    report.figures += [
        f"{len(journal.runs)} runs, {len(journal.steps)} steps, {len(journal.dispatches)} dispatches,"
        f" {sum(len(dispatch.late) for dispatch in journal.dispatches)} late results",
        *(f"failed {count} times: {reason}" for reason, count in evidence.failures(journal).most_common()),
    ]


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

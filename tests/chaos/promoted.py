"""G3 and the others when Redis takes back what it had: a replica that lagged behind is promoted by Sentinels."""

from __future__ import annotations

import time
from functools import partial
from random import Random

from tests.chaos.cluster import FLEET, NODE, PATIENCE, Cluster, Load
from tests.chaos.judging import Report, judge_what_happened, swamp
from tests.faults.servers import Watched
from tests.waiting import wait_until

NAMES = (NODE, f"{FLEET}-a", f"{FLEET}-b")
BEHIND = 30  #: steps that start after the replica has got its last word


def promoted(seed: int, times: int) -> Report:
    """Under load, on one machine and on a fleet, with steps of both kinds: the replica is kept behind, many steps
    start, and their master is killed. What the new master holds is a past in which they had not begun."""
    report = Report()
    for time_ in range(times):
        _once(report, seed + time_)
    return report


def _once(report: Report, seed: int) -> None:
    random = Random(seed)
    with swamp() as made, Watched(made.stage.scratch / "redis") as watched:
        made.serve_with = ("--redis-url", watched.url)
        workflows = made.mixture(12)
        made.ready(*NAMES)
        with Load(made, workflows, Random(seed + 1), at_once=6) as load:
            wait_until(partial(_started, made), "work to be under way", PATIENCE)
            wait_until(watched.in_step, "the replica to be in step", PATIENCE)
            watched.keep_the_replica_behind()
            before = _started(made)
            wait_until(lambda: _started(made) >= before + BEHIND, "steps to start meanwhile", PATIENCE)
            time.sleep(random.uniform(0, 0.5))
            watched.master.kill()
            meanwhile = _started(made) - before
            wait_until(watched.promoted, "the Sentinels to promote the replica", PATIENCE)
            made.orchestrator.wait_for_line("Redis is back", PATIENCE)
        made.come_to_rest(PATIENCE)
        deserters = [f"{name} ended with {one.code}" for name, one in made.processes.items() if one.ended_by_itself]
        judge_what_happened(report, made, load.accepted, deserters)
        report.figures.append(f"{meanwhile} steps started that the promoted replica did not know of")


def _started(made: Cluster) -> int:
    made.notes.look()
    return sum(note.kind == "start" for note in made.notes.noted)

"""While steps run by the hundred, every figure is true at every scrape, and in the end they add up."""

from __future__ import annotations

import urllib.request
from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.stage import Stage, step
from tests.waiting import wait_until

STEPS = 300
FAIL = 30
SLOTS = 2

Figures = Mapping[str, Mapping[tuple[str, ...], float]]
"""By name and by the values of the labels, in the order of the labels' names."""


def scrape(stage: Stage) -> Figures:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{stage.port}/metrics", timeout=20) as response:
        text = response.read().decode()
    found: dict[str, dict[tuple[str, ...], float]] = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name][tuple(value for _, value in sorted(sample.labels.items()))] = sample.value
    return found


def test_they_are_true_while_work_goes_on_and_add_up_in_the_end(stage: Stage):
    fleet = ("worker", "token", "create", "fleet", "--duration", "1h", "--max-enrollments", "2")
    token = str(stage.json(*fleet)["token"])
    stage.model("good", "true")
    stage.model("bad", "exit 3")
    steps = [step(f"s{n}", "good", "fleet") for n in range(STEPS - FAIL)]
    steps += [step(f"f{n}", "bad", "fleet") for n in range(FAIL)]
    stage.workflow("many", *steps)
    stage.serve()
    for cache in ("one", "two"):
        stage.worker(token, cache, "--concurrency", str(SLOTS))
    run = stage.start_run("many")

    seen: list[Figures] = []

    def ended(figures: Figures) -> float:
        return sum(figures["swamp_steps_total"].values())

    def all_ended() -> bool:
        seen.append(scrape(stage))
        return ended(seen[-1]) >= STEPS

    wait_until(all_ended, "all steps to end", timeout=60)
    assert run.wait_for_end() == 1, run.output
    during = [figures for figures in seen if 0 < ended(figures) < STEPS]
    assert len(during) >= 3, "it was looked at while work went on"
    for before, figures in pairwise(seen):
        assert ended(before) <= ended(figures)
        assert 0 <= figures["swamp_queue_depth"][("fleet",)] <= STEPS - ended(before)
        slots = figures["swamp_worker_slots"]
        assert slots[("busy",)] + slots[("free",)] == 2 * SLOTS
        assert list(figures["swamp_worker_up"].values()) == [1, 1]
        assert all(age < 15 for age in figures["swamp_worker_heartbeat_age_seconds"].values())
    assert any(figures["swamp_worker_slots"][("busy",)] > 0 for figures in during)
    assert any(figures["swamp_queue_oldest_age_seconds"][("fleet",)] > 0 for figures in during)
    assert any(figures["rq_jobs"][("fleet", "queued")] > 0 for figures in during)

    def books_follow() -> bool:
        figures = scrape(stage)
        jobs = figures["rq_jobs"]
        shown = jobs[("fleet", "finished")], jobs[("fleet", "failed")]
        by_worker = (sum(figures[f"rq_workers_{kind}_total"].values()) for kind in ("success", "failed"))
        return shown == tuple(by_worker) == (STEPS - FAIL, FAIL)

    wait_until(books_follow, "RQ's books to follow")
    last = scrape(stage)
    assert last["swamp_steps_total"] == {("succeeded", "fleet"): STEPS - FAIL, ("failed", "fleet"): FAIL}
    assert last["swamp_step_duration_seconds_count"] == last["swamp_steps_total"]
    assert last["swamp_step_schedule_to_start_seconds_count"] == {("fleet",): STEPS}
    assert last["swamp_runs_total"][("failed",)] == 1
    assert last["swamp_queue_depth"] == {("fleet",): 0}
    assert last["swamp_queue_oldest_age_seconds"] == {("fleet",): 0}
    assert 0 < last["swamp_result_flush_lag_seconds_count"][()] <= STEPS
    assert sum(last["rq_workers_working_time_total"].values()) > 0

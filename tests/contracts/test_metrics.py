"""`/metrics` shows what rq-exporter shows, under the same names, and what only the orchestrator knows."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.contracts.picture import UNSPEAKABLE, Picture
from tests.contracts.tools import Exporter, install
from tests.waiting import wait_until

pytestmark = pytest.mark.xdist_group("contracts")

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

ALERTS = Path(__file__).parents[2] / "docs" / "alerts.yml"
NAMES = {
    *("rq_workers", "rq_jobs", "rq_workers_success", "rq_workers_failed", "rq_workers_working_time"),
    *("swamp_queue_depth", "swamp_queue_oldest_age_seconds", "swamp_step_schedule_to_start_seconds"),
    *("swamp_step_duration_seconds", "swamp_steps", "swamp_runs", "swamp_worker_up", "swamp_worker_slots"),
    *("swamp_worker_heartbeat_age_seconds", "swamp_leases_expired", "swamp_results_duplicate"),
    *("swamp_result_flush_lag_seconds", "swamp_redis_up", "swamp_redis_memory_ratio", "swamp_redis_reconnects"),
    *("swamp_enrollments", "swamp_messages_refused", "swamp_dispatches_refused"),
}


def scrape(picture: Picture) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{picture.stage.port}/metrics", timeout=20) as response:
        assert response.headers["content-type"].startswith("text/plain")
        return str(response.read().decode())


def samples(text: str, prefix: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith(prefix)
    }


def value(text: str, name: str, **labels: str) -> float:
    return samples(text, name)[(name, frozenset(labels.items()))]


@pytest.fixture(scope="module")
def exporter(picture: Picture) -> Iterator[Exporter]:
    with closing(Exporter(install("rq-exporter"), picture.url)) as running:
        yield running


def test_rq_exporter_with_the_monitors_rights_shows_the_same_as_swamp(exporter: Exporter, picture: Picture):
    theirs = samples(exporter.get("/metrics").text, "rq_")
    theirs = {key: value for key, value in theirs.items() if not key[0].startswith("rq_request_processing")}
    assert samples(scrape(picture), "rq_") == theirs
    jobs = {
        tuple(sorted(dict(labels).values())): count for (name, labels), count in theirs.items() if name == "rq_jobs"
    }
    assert {key: count for key, count in jobs.items() if count} == {
        ("queued", "waiting"): 2,
        ("busy", "queued"): 1,
        ("busy", "started"): 1,
        ("done", "finished"): 2,
        ("done", "failed"): 2,
    }


def test_all_names_are_there_and_no_others(picture: Picture):
    assert {family.name for family in text_string_to_metric_families(scrape(picture))} == NAMES


def test_what_waits_what_runs_and_what_ended_is_counted(picture: Picture):
    text = scrape(picture)
    depths = {target: value(text, "swamp_queue_depth", target=target) for target in ("waiting", "busy", "done")}
    assert depths == {"waiting": 2, "busy": 1, "done": 0}
    oldest = value(text, "swamp_queue_oldest_age_seconds", target="waiting")
    assert oldest > 0 == value(text, "swamp_queue_oldest_age_seconds", target="done")
    wait_until(
        lambda: value(scrape(picture), "swamp_queue_oldest_age_seconds", target="waiting") > oldest, "it to grow"
    )
    ended = {
        ("done", "succeeded"): 2,
        ("done", "failed"): 2,
        ("done", "canceled"): 1,
        ("waiting", "canceled"): 1,
    }
    for (target, outcome), count in ended.items():
        assert value(text, "swamp_steps_total", target=target, outcome=outcome) == count
    assert value(text, "swamp_step_duration_seconds_count", target="done", outcome="succeeded") == 2
    assert value(text, "swamp_step_schedule_to_start_seconds_count", target="done") == 5
    outcomes = {outcome: value(text, "swamp_runs_total", outcome=outcome) for outcome in ("succeeded", "failed")}
    assert outcomes == {"succeeded": 1, "failed": 1}
    assert value(text, "swamp_runs_total", outcome="canceled") == 2


def test_workers_and_redis_are_watched(picture: Picture):
    text = scrape(picture)
    for worker in ("busy", "done"):
        assert value(text, "swamp_worker_up", worker=worker, target=worker) == 1
        assert value(text, "swamp_worker_heartbeat_age_seconds", worker=worker, target=worker) < 13
    assert {state: value(text, "swamp_worker_slots", state=state) for state in ("busy", "free")} == {
        "busy": 1,
        "free": 1,
    }
    assert value(text, "swamp_enrollments_total", outcome="new") == 2
    assert value(text, "swamp_redis_up") == 1
    assert 0 < value(text, "swamp_redis_memory_ratio") < 0.5
    assert value(text, "swamp_result_flush_lag_seconds_count") > 0


def test_what_somebody_is_woken_by_is_there_before_it_happens_first(picture: Picture):
    """An alert on a figure or label that is not there never comes; one on a counter that appears with 1 neither."""
    text = scrape(picture)
    names: set[str] = set()
    labels: dict[tuple[str, str], set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            names.add(sample.name)
            for label, word in sample.labels.items():
                labels.setdefault((sample.name, label), set()).add(word)
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert len(rules) > 5
    for rule in rules:
        asked = re.findall(r"\b((?:swamp|rq)_\w+)(?:\{(.*?)\})?", rule["expr"])
        assert asked or rule["expr"].startswith("up{"), rule
        for name, matchers in asked:
            assert name in names, rule
            for label, words in re.findall(r'(\w+)=~?"(.*?)"', matchers):
                assert set(words.split("|")) <= labels[name, label], rule
        told = re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])
        assert all((asked[0][0], label) in labels for label in told), rule


def test_nothing_that_a_step_is_given_or_says_is_in_it(picture: Picture):
    text = scrape(picture)
    assert not [word for word in UNSPEAKABLE if word in text]

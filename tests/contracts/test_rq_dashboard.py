"""rq-dashboard, given nothing but the URL: every page and every document it has shows what is the case."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest

from tests.contracts.picture import UNSPEAKABLE, Picture
from tests.contracts.tools import Dashboard

pytestmark = pytest.mark.xdist_group("contracts")

TARGETS = ("busy", "done", "waiting")
REGISTRIES = ("queued", "started", "finished", "failed", "canceled", "deferred", "scheduled")

DESCRIPTIONS = {
    "queued waiting": ["wait / build / third — speak.execute", "wait / build / fourth — speak.execute"],
    "canceled waiting": ["give-up / build / unheard — speak.execute"],
    "queued busy": ["work / build / behind — speak.execute"],
    "started busy": ["work / build / running — hang.execute"],
    "finished done": ["finish / build / first — speak.execute", "finish / build / second — speak.execute"],
    "failed done": ["fail / build / broken — break.execute", "fail / build / strayed — stray.execute"],
    "canceled done": ["cancel / build / hanging — hang.execute"],
}


def listed(
    dashboard: Dashboard, target: str, registry: str, per_page: int = 8, order: str = "asc", page: int = 1
) -> Any:
    return dashboard.get(f"/0/data/jobs/{target}/{registry}/{per_page}/{order}/{page}.json").json


def pages(picture: Picture) -> list[str]:
    """The path of every page and document that rq-dashboard has on what there is."""
    jobs = [job for ids in picture.jobs().values() for job in ids]
    return [
        *("/", "/0/", "/0/view", "/0/view/queues", "/0/view/workers", "/0/view/jobs"),
        *("/0/data/queues.json", "/0/data/workers.json"),
        *(f"/0/view/jobs/{target}/{registry}/8/asc/1" for target in TARGETS for registry in REGISTRIES),
        *(f"/0/data/jobs/{target}/{registry}/8/asc/1.json" for target in TARGETS for registry in REGISTRIES),
        *(f"/0/view/job/{job}" for job in jobs),
        *(f"/0/data/job/{job}.json" for job in jobs),
    ]


def test_the_queues_document_counts_every_state(dashboard: Dashboard):
    counts = {
        queue["name"]: {
            name.removesuffix("_job_registry_count"): value for name, value in queue.items() if name.endswith("count")
        }
        for queue in dashboard.get("/0/data/queues.json").json["queues"]
    }
    nothing = dict.fromkeys(("count", "started", "finished", "failed", "canceled", "deferred", "scheduled"), 0)
    assert counts == {
        "waiting": nothing | {"count": 2, "canceled": 1},
        "busy": nothing | {"count": 1, "started": 1},
        "done": nothing | {"finished": 2, "failed": 2, "canceled": 1},
    }


@pytest.mark.parametrize("registry", REGISTRIES)
@pytest.mark.parametrize("target", TARGETS)
def test_the_jobs_of_a_registry_are_listed_in_order_with_what_they_are(
    dashboard: Dashboard, picture: Picture, target: str, registry: str
):
    document = listed(dashboard, target, registry)
    assert (document["name"], document["registry_name"]) == (target, registry)
    assert [job["id"] for job in document["jobs"]] == picture.jobs().get(f"{registry} {target}", [])
    assert [job["description"] for job in document["jobs"]] == DESCRIPTIONS.get(f"{registry} {target}", [])
    for job in document["jobs"]:
        assert job["created_at"]
        assert bool(job["started_at"]) is (
            registry not in ("queued", "canceled") or f"{registry} {target}" == "canceled done"
        )
        assert bool(job["ended_at"]) is (registry in ("finished", "failed", "canceled"))
        assert bool(job["exc_info"]) is (registry == "failed")


def test_the_failed_list_says_why(dashboard: Dashboard):
    reasons = [job["exc_info"].splitlines()[0] for job in listed(dashboard, "done", "failed")["jobs"]]
    assert reasons == ["Command exited with code 3", "The step failed"]


def test_long_lists_have_pages_and_can_be_turned_round(dashboard: Dashboard, picture: Picture):
    first, second = picture.jobs()["queued waiting"]
    page = listed(dashboard, "waiting", "queued", per_page=1, page=2)
    assert [job["id"] for job in page["jobs"]] == [second]
    assert (page["pagination"]["current_page"], page["pagination"]["num_pages"]) == (2, 2)
    assert [job["id"] for job in listed(dashboard, "waiting", "queued", order="dsc")["jobs"]] == [second, first]


def test_the_document_of_a_job_has_its_state_and_its_times(dashboard: Dashboard, picture: Picture):
    for name, ids in picture.jobs().items():
        state, target = name.split()
        for id, description in zip(ids, DESCRIPTIONS[name], strict=True):
            job = dashboard.get(f"/0/data/job/{id}.json").json
            assert (job["id"], job["status"], job["origin"], job["description"]) == (id, state, target, description)
            assert (job["result"], job["metadata"]) == (None, "{}")
            assert job["enqueued_at"]
            assert bool(job["started_at"]) is (state in ("started", "finished", "failed") or name == "canceled done")
            assert bool(job["ended_at"]) is (state in ("finished", "failed", "canceled"))
            assert bool(job["exc_info"]) is (state == "failed")


def test_the_workers_document_shows_the_busy_one_with_its_job_and_the_other_idle(
    dashboard: Dashboard, picture: Picture
):
    busy, done = dashboard.get("/0/data/workers.json").json["workers"]
    (running,) = picture.jobs()["started busy"]
    assert (busy["name"], busy["queues"], busy["state"]) == ("busy", ["busy"], "busy")
    assert busy["current_job"]["job_id"] == running
    assert busy["current_job"]["description"] == "work / build / running — hang.execute"
    assert busy["current_job"]["call_string"] == f"swamp.step('{running}')"
    assert (done["name"], done["queues"], done["state"], done["current_job"]) == ("done", ["done"], "idle", "idle")
    assert (done["successful_job_count"], done["failed_job_count"]) == (2, 2)
    for worker in (busy, done):
        assert worker["pid"] == picture.workers[worker["name"]].pid
        assert worker["last_heartbeat"]
        assert worker["birth_date"]
        assert worker["version"].startswith("swamp-")
        assert worker["python_version"]


def test_the_pages_name_what_they_are_about(dashboard: Dashboard, picture: Picture):
    """Their tables are filled from the documents; what the server itself writes into them is tested here."""
    for path in ("/", "/0/view/queues", "/0/view/workers", "/0/view/jobs/done/failed/8/asc/1"):
        page = dashboard.get(path)
        assert page.status == 200
        (instance,) = re.findall(r"<option data-instance-number[^>]*>([^<]*)</option>", page.text)
        assert re.fullmatch(r"\[0\] redis://\*\*\*:\*\*\*@127\.0\.0\.1:\d+/0", unescape(instance))
    jobs_page = dashboard.get("/0/view/jobs/done/failed/8/asc/1").text
    assert sorted(re.findall(r'<option value="(\w+)">', jobs_page.partition("</datalist>")[0])) == list(TARGETS)
    assert re.search(r'id="select-queue"[^>]*value="done"', jobs_page)
    (failed, _) = picture.jobs()["failed done"]
    assert f"<h2><strong>Job ID</strong>: {failed}</h2>" in dashboard.get(f"/0/view/job/{failed}").text


def test_no_page_holds_an_argument_a_secret_or_output(dashboard: Dashboard, picture: Picture):
    password = picture.url.partition("@")[0].rpartition(":")[2]
    for path in pages(picture):
        page = dashboard.get(path)
        assert page.status == 200, f"{path}: {page.text}"
        for word in (*UNSPEAKABLE, password):
            assert word not in page.text, f"{path} gives away '{word}'"

"""Tools see the last thousand jobs that ended, in order and every one whole, and nothing is left of those before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.contracts.conftest import performing
from tests.contracts.tools import Dashboard, Tools
from tests.e2e.stage import Stage, step
from tests.waiting import wait_until

RUN, KEPT = 1100, 1000


@pytest.fixture(scope="module")
def well_worked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A Swamp whose worker has just finished more jobs, one after the other, than are kept."""
    with performing(tmp_path_factory.mktemp("well-worked")) as stage:
        token = stage.token()
        stage.serve()
        stage.worker(token, "cache", "--concurrency", "1")
        assert stage.swamp("model", "create", "swamp/probe", "ping", "--arg", "echo.message=here").code == 0
        asked = {"task": {"type": "model_method", "modelIdOrName": "ping", "methodName": "echo"}}
        stage.workflow("many", *(step(f"s{number}", "ping", "node") | asked for number in range(RUN)))
        stage.run("many")
        with redis.Redis.from_url(address(stage, "--full")) as operator:
            shown = lambda: operator.hget("rq:worker:node", "successful_job_count") == b"%d" % RUN  # noqa: E731
            wait_until(shown, "all jobs to be shown")
        yield stage


def address(stage: Stage, *arguments: str) -> str:
    return stage.swamp("redis", "url", *arguments).stdout.strip()


def test_the_last_thousand_are_shown_in_order(tools: Tools, well_worked: Stage):
    info = tools.run("rq", "info", "--raw", "--url", address(well_worked))
    assert "queue node 0, 0 executing, 1000 finished, 0 failed" in info.stdout
    assert f"jobs: {RUN} finished, 0 failed" in info.stdout
    (run,) = well_worked.history()
    dashboard = Dashboard(tools, address(well_worked))
    try:
        (queue,) = dashboard.get("/0/data/queues.json").json["queues"]
        assert queue["finished_job_registry_count"] == KEPT
        listed = dashboard.get("/0/data/jobs/node/finished/1000/asc/1.json").json["jobs"]
    finally:
        dashboard.close()
    assert [job["id"] for job in listed] == [f"node--{run['id']}-{number}-1" for number in range(RUN - KEPT, RUN)]
    last = f"many / build / s{RUN - 1} — ping.echo"
    assert listed[-1]["description"] == last
    assert all(job["ended_at"] for job in listed)


def test_nothing_is_left_of_the_jobs_before(well_worked: Stage):
    with redis.Redis.from_url(address(well_worked, "--full")) as operator:
        kept = {job.decode() for job in operator.zrange("rq:finished:node", 0, -1)}
        for key in operator.scan_iter("rq:*"):
            kind, _, job = key.decode().removeprefix("rq:").partition(":")
            if kind in ("job", "results"):
                assert job in kept
            assert kind not in ("execution", "executions"), "nothing runs any more"
        assert not any(operator.hexists(f"rq:job:{job}", "swamp") for job in kept)

"""Tools see the last thousand jobs that ended, in order and every one whole, and nothing is left of those before."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import redis

from tests.contracts.conftest import performing
from tests.contracts.tools import Dashboard, Tools
from tests.e2e.stage import Stage, step
from tests.waiting import wait_until

RUN, KEPT, PAGE = 1020, 1000, 8


def test_the_last_thousand_are_shown_in_order_and_nothing_is_left_of_the_others(
    installed: dict[str, Tools], tmp_path: Path
):
    with performing(tmp_path) as stage:
        run = work(stage)
        numbers = range(RUN - KEPT, RUN)
        kept = [f"node--{run}-{number}-1" for number in numbers]
        url = stage.swamp("redis", "url").stdout.strip()
        for tools in installed.values():
            info = tools.run("rq", "info", "--raw", "--url", url)
            assert f"queue node 0, 0 executing, {KEPT} finished, 0 failed" in info.stdout
            assert f"jobs: {RUN} finished, 0 failed" in info.stdout
            with closing(Dashboard(tools, url)) as dashboard:
                (queue,) = dashboard.get("/0/data/queues.json").json["queues"]
                assert queue["finished_job_registry_count"] == KEPT
                for page, part in ((1, slice(PAGE)), (KEPT // PAGE, slice(-PAGE, None))):
                    shown = dashboard.get(f"/0/data/jobs/node/finished/{PAGE}/asc/{page}.json").json["jobs"]
                    assert [job["id"] for job in shown] == kept[part]
                    assert [job["description"] for job in shown] == [
                        f"many / build / s{number} — ping.echo" for number in numbers[part]
                    ]
                    assert all(job["ended_at"] for job in shown)
        with connected(stage) as operator:
            assert [job.decode() for job in operator.zrange("rq:finished:node", 0, -1)] == kept
            left = {key.decode().removeprefix("rq:").partition(":")[::2] for key in operator.scan_iter("rq:*")}
            assert {job for kind, job in left if kind in ("job", "results")} == set(kept)
            assert not {kind for kind, _ in left} & {"wip", "execution", "executions"}, "nothing runs any more"
            assert not any(operator.hexists(f"rq:job:{job}", "swamp") for job in kept)


def work(stage: Stage) -> str:
    """Have one worker finish more jobs, one after the other, than are kept; the id of their run."""
    token = stage.token()
    stage.serve()
    stage.worker(token, "cache", "--concurrency", "1")
    assert stage.swamp("model", "create", "swamp/probe", "ping", "--arg", "echo.message=here").code == 0
    asked = {"task": {"type": "model_method", "modelIdOrName": "ping", "methodName": "echo"}}
    stage.workflow("many", *(step(f"s{number}", "ping", "node") | asked for number in range(RUN)))
    stage.run("many")
    with connected(stage) as operator:

        def counted() -> bool:
            return bool(operator.hget("rq:worker:node", "successful_job_count") == b"%d" % RUN)

        wait_until(counted, "all jobs to be shown")
    (run,) = stage.history()
    return str(run["id"])


def connected(stage: Stage) -> redis.Redis:
    """With the right to see and change all of RQ's keys."""
    return redis.Redis.from_url(stage.swamp("redis", "url", "--full").stdout.strip())

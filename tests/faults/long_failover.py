"""A failover that somebody asked for (G6). Sentinels take their time: not in `make test`, `make faults` runs it."""

from __future__ import annotations

from contextlib import closing

import redis

from tests.e2e.stage import Stage
from tests.faults.proxy import FaultProxy
from tests.faults.scene import SOON, Scene
from tests.faults.servers import SERVICE, Watched
from tests.waiting import wait_until


def test_a_planned_failover_with_a_sentinel_that_does_not_answer(stage: Stage):
    """The old master lives on as a replica, and the first Sentinel that is asked says nothing any more."""
    with Watched(stage.scratch / "redis") as watched, FaultProxy(watched.sentinels[0]) as road:
        url = watched.url.replace(f":{watched.sentinels[0]},", f":{road.port},")
        scene = Scene(stage, ("--redis-url", url))
        scene.begin()
        road.half_open()
        with closing(redis.Redis(port=watched.sentinels[1])) as sentinel:
            sentinel.execute_command("SENTINEL", "FAILOVER", SERVICE)
        wait_until(watched.promoted, "the replica to be the master", SOON)
        scene.finish_one()
        scene.orchestrator.wait_for_line("Redis is back", SOON)
        scene.all_is_well()
        with closing(watched.master.client()) as old:
            wait_until(lambda: old.info("replication")["role"] == "slave", "the old master to be a replica", SOON)

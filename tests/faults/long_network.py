"""Trouble on the network that takes its time to pass (G6): not in `make test`, `make faults` runs it."""

from __future__ import annotations

import time
from contextlib import closing

from tests.e2e.stage import Stage, step
from tests.faults.proxy import FaultProxy
from tests.faults.scene import SOON, Scene, roads
from tests.faults.servers import Server


def test_sessions_that_are_half_open(stage: Stage):
    """Redis is emptied meanwhile, so the workers have to be told, and cannot until the session's keepalive ends it."""
    with Server(stage.scratch / "redis") as server, FaultProxy(stage.port) as road:
        scene = Scene(stage, ("--redis-url", server.url), lambda: f"ws://localhost:{road.port}")
        scene.begin()
        road.half_open()
        with closing(server.client()) as client:
            client.flushall()
        scene.orchestrator.wait_for_line("Redis is back", SOON)
        scene.finish_one()
        road.heal()
        for worker in (scene.busy, scene.idle):
            worker.wait_for_line("joined again", 2 * SOON)
        scene.all_is_well()


def test_connections_that_are_slow(stage: Stage):
    with (
        Server(stage.scratch / "redis") as server,
        FaultProxy(server.port) as road,
        FaultProxy(server.port) as their_road,
    ):
        scene = Scene(stage, roads(road, their_road))
        scene.begin()
        for slow in (road, their_road):
            slow.slow(0.2)
        scene.finish_one()
        scene.busy.wait_for_line("finishing: result returned", SOON)
        for fast in (road, their_road):
            fast.heal()
        scene.all_is_well()


def test_a_silent_redis_holds_up_nothing_but_what_needs_it(stage: Stage):
    """Connections are taken and nothing is answered: each attempt takes 5 s. Steps without a target run meanwhile."""
    with Server(stage.scratch / "redis") as server, FaultProxy(server.port) as road:
        stage.model("here", "true")
        stage.workflow("here", step("here", "here"))
        orchestrator = stage.serve(*roads(road, road))
        stage.run("here")
        road.half_open()
        orchestrator.wait_for_line("Redis is away", SOON)
        took = []
        for _ in range(8):  # longer than one attempt, so that several begin and end meanwhile
            begin = time.monotonic()
            stage.run("here")
            took.append(time.monotonic() - begin)
            time.sleep(0.5)
        assert max(took) < 3, took
        road.heal()
        orchestrator.wait_for_line("Redis is back", SOON)

"""Trouble on the network that takes its time to pass (G6): not in `make test`, `make faults` runs it."""

from __future__ import annotations

from contextlib import closing

from tests.e2e.stage import Stage
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

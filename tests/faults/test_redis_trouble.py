"""Trouble with Redis passes (G6): no process exits, nothing is lost or doubled, and work goes on by itself.

FAULTS_OUTAGE says how many seconds the trouble lasts; without it as long as it takes to be noticed.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.e2e.stage import Stage
from tests.faults.proxy import FaultProxy
from tests.faults.scene import SOON, Scene, it_lasts, roads
from tests.faults.servers import PASSWORD, SERVICE, Server
from tests.processes import free_port


@pytest.fixture
def server(stage: Stage) -> Iterator[Server]:
    with Server(stage.scratch / "redis") as server:
        yield server


@pytest.fixture
def scene(stage: Stage, server: Server) -> Scene:
    scene = Scene(stage, ("--redis-url", server.url))
    scene.begin()
    return scene


def test_redis_away_and_restarted_with_its_data(scene: Scene, server: Server):
    server.stop()
    scene.orchestrator.wait_for_line("Redis is away")
    scene.finish_one()
    it_lasts()
    server.start()
    scene.orchestrator.wait_for_line("Redis is back", SOON)
    scene.all_is_well()


def test_redis_killed_and_emptied_of_everything(scene: Scene, server: Server):
    server.kill()
    scene.orchestrator.wait_for_line("Redis is away")
    scene.finish_one()
    it_lasts()
    shutil.rmtree(server.directory)
    server.start()
    scene.all_is_well()


def test_an_embedded_server_that_cannot_read_what_it_had_written(stage: Stage):
    """A machine that loses its power can leave zeros at the end of a file."""
    scene = Scene(stage)
    scene.begin()
    directory = stage.root / ".swamp/redis"
    server = int((directory / "redis.pid").read_text())
    os.kill(server, signal.SIGSTOP)  # or it would write behind them
    (part,) = (directory / "appendonlydir").glob("*.incr.aof")
    part.write_bytes(part.read_bytes() + bytes(4096))
    os.kill(server, signal.SIGKILL)
    scene.finish_one()
    scene.orchestrator.wait_for_line("could not read its data, and begins without", SOON)
    scene.all_is_well()


def test_redis_that_can_only_be_read(scene: Scene, server: Server):
    with closing(server.client()) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        scene.orchestrator.wait_for_line("Redis is away", SOON)
        scene.finish_one()
        it_lasts()
        client.execute_command("REPLICAOF", "NO", "ONE")
    scene.all_is_well()


def test_redis_out_of_memory(scene: Scene, server: Server):
    with closing(server.client()) as client:
        client.config_set("maxmemory", "1")
        scene.finish_one()
        scene.orchestrator.wait_for_line("Redis is short of memory", SOON)
        it_lasts()
        client.config_set("maxmemory", "0")
    scene.all_is_well()


def test_redis_that_becomes_unfit_is_waited_for_and_its_cure_is_told(stage: Stage, server: Server):
    orchestrator = stage.serve("--redis-url", server.url)
    server.stop()
    server.options = ("--maxmemory-policy", "allkeys-lru")
    server.start()
    orchestrator.wait_for_line("throws keys away .*redis-cli CONFIG SET maxmemory-policy noeviction", SOON)
    with closing(server.client()) as client:
        client.config_set("maxmemory-policy", "noeviction")
    orchestrator.wait_for_line("Redis is back", SOON)


def test_a_redis_that_is_away_at_the_start_is_waited_for(stage: Stage, server: Server):
    server.stop()
    token = stage.token()
    stage.task("hello", "echo hello")
    orchestrator = stage.start("serve", "--port", str(stage.port), "--redis-url", server.url)
    orchestrator.wait_for_line(rf"Redis at redis://127\.0\.0\.1:{server.port}\S* does not answer: .*; waiting for it")
    orchestrator.wait_for_line("listening on ws://")
    run = stage.start_run("hello")
    worker = stage.connect(token)
    worker.wait_for_line("cannot join|the connection is lost", SOON)
    it_lasts()
    server.start()
    assert run.wait_for_end(SOON) == 0, run.output
    for process in (orchestrator, worker):
        assert process.running, process.output
        assert "Traceback" not in process.output


def test_sentinels_that_are_away_at_the_start_are_waited_for(stage: Stage):
    port = free_port()
    url = f"redis+sentinel://:{PASSWORD}@127.0.0.1:{port}/{SERVICE}"
    orchestrator = stage.start("serve", "--port", str(stage.port), "--redis-url", url)
    orchestrator.wait_for_line("no Sentinel knows a master that works: .*; waiting for it")
    orchestrator.wait_for_line("listening on ws://")
    told = stage.swamp("redis", "url")
    assert (told.code, told.stderr.splitlines()[0]) == (5, "Error: the orchestrator has not found Redis yet")
    assert PASSWORD not in orchestrator.output
    assert orchestrator.stop() == 0


def test_connections_that_are_cut(stage: Stage, server: Server):
    with FaultProxy(server.port) as road, FaultProxy(server.port) as their_road:
        scene = Scene(stage, roads(road, their_road))
        scene.begin()
        for cut in (road, their_road, road):
            cut.cut()
        scene.finish_one()
        their_road.refuse()
        it_lasts()
        their_road.heal()
        scene.all_is_well()


def test_connections_of_the_orchestrator_that_are_half_open(stage: Stage, server: Server):
    with FaultProxy(server.port) as road, FaultProxy(server.port) as their_road:
        scene = Scene(stage, roads(road, their_road))
        scene.begin()
        road.half_open()
        scene.finish_one()
        scene.orchestrator.wait_for_line("Redis is away", SOON)
        it_lasts()
        road.heal()
        scene.all_is_well()


def test_connections_of_workers_that_are_half_open(stage: Stage, server: Server):
    with FaultProxy(server.port) as road, FaultProxy(server.port) as their_road:
        scene = Scene(stage, roads(road, their_road))
        scene.begin()
        their_road.half_open()
        scene.finish_one()
        for worker in (scene.busy, scene.idle):
            worker.wait_for_line("the connection is lost: Redis: no answer in time", SOON)
        it_lasts()
        their_road.heal()
        scene.all_is_well()

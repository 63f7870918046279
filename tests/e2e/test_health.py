"""Whoever deploys Swamp can ask whether a process lives and whether work flows, and read its log with a program."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import urllib.request
from contextlib import closing
from typing import Any

import pytest
import redis

from swamp.broker.acl import AclUser, orchestrator_rules, password_hash
from swamp.broker.embedded import EmbeddedRedis
from tests.e2e.asking import ask
from tests.e2e.stage import Stage
from tests.faults.servers import Server
from tests.processes import RunningSwamp, free_port
from tests.waiting import wait_until

BUSY = 75


def test_the_orchestrator_is_ready_when_work_can_flow_and_alive_also_when_it_cannot(stage: Stage):
    password = secrets.token_hex(16)
    admin = AclUser("admin", tuple(orchestrator_rules(password_hash(password))))
    data, port = stage.scratch / "redis", free_port()
    ready, away = (200, {"status": "ready"}), (503, {"status": "not ready", "reason": "redis"})
    with EmbeddedRedis.start(data, stage.runtime, [admin], port):
        url = f"redis://admin:{password}@127.0.0.1:{port}/0"
        orchestrator = stage.serve("--redis-url", url)
        wait_until(lambda: ask(stage.port, "/ready") == ready, "it to be ready")
        with redis.Redis.from_url(url) as server:
            server.config_set("maxmemory", 1)
            wait_until(lambda: ask(stage.port, "/ready") == away, "it to notice that Redis takes nothing")
            server.config_set("maxmemory", 0)
        wait_until(lambda: ask(stage.port, "/ready") == ready, "it to be ready again")
    wait_until(lambda: ask(stage.port, "/ready") == away, "it to notice that Redis is away")
    assert ask(stage.port, "/health") == (200, {"status": "alive"})
    with EmbeddedRedis.start(data, stage.runtime, [admin], port):
        wait_until(lambda: ask(stage.port, "/ready") == ready, "it to be ready again")
        assert orchestrator.stop() == 0


@pytest.mark.parametrize(
    ("hurt", "cure"),
    [
        ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
        ("CLIENT PAUSE 60000 WRITE", "CLIENT UNPAUSE"),
    ],
    ids=["it refuses writes", "it has become a replica", "it lets writes wait"],
)
def test_a_server_that_answers_whoever_reads_and_takes_no_word_is_noticed(stage: Stage, hurt: str, cure: str):
    with Server(stage.scratch / "redis") as server, closing(server.client()) as client:
        stage.serve("--redis-url", server.url)
        wait_until(lambda: ask(stage.port, "/ready")[0] == 200, "it to be ready")
        client.execute_command(*hurt.split())
        assert client.exists("swamp:repo"), "whoever reads is answered"
        wait_until(lambda: ask(stage.port, "/ready")[1].get("reason") == "redis", "it to notice", timeout=30)
        assert ask(stage.port, "/health")[0] == 200
        client.execute_command(*cure.split())
        wait_until(lambda: ask(stage.port, "/ready")[0] == 200, "it to be ready again", timeout=30)


def test_a_server_that_takes_connections_and_says_nothing_is_noticed(stage: Stage):
    stage.serve()
    wait_until(lambda: ask(stage.port, "/ready")[0] == 200, "it to be ready")
    server = int((stage.root / ".swamp/redis/redis.pid").read_text())
    os.kill(server, signal.SIGSTOP)
    try:
        wait_until(lambda: ask(stage.port, "/ready")[0] == 503, "it to notice", timeout=30)
        assert ask(stage.port, "/health")[0] == 200
    finally:
        os.kill(server, signal.SIGCONT)
    wait_until(lambda: ask(stage.port, "/ready")[0] == 200, "it to be ready again", timeout=30)


def test_a_worker_tells_whether_it_lives_and_takes_work(stage: Stage):
    port = free_port()
    worker = stage.connect(stage.token(), "cache", "--health-port", str(port))
    worker.wait_for_line(rf"health: http://127\.0\.0\.1:{port}/health")
    assert ask(port, "/health") == (200, {"status": "alive"})
    assert ask(port, "/ready") == (503, {"status": "not ready", "reason": "connecting"})
    assert ask(port, "/metrics")[0] == 404
    orchestrator = stage.serve()
    wait_until(lambda: ask(port, "/ready") == (200, {"status": "ready"}), "the worker to take work")
    orchestrator.kill()
    wait_until(lambda: ask(port, "/ready")[0] == 503, "the worker to miss the orchestrator")
    assert ask(port, "/health")[0] == 200
    assert worker.stop() == 0


def test_a_health_port_in_use_is_named(stage: Stage):
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        worker = stage.connect(stage.token(), "cache", "--health-port", str(port))
        assert worker.wait_for_end() == BUSY
    assert f"port {port} cannot be used" in worker.output
    assert "--health-port" in worker.output


def documents(process: RunningSwamp) -> list[dict[str, Any]]:
    return [json.loads(line) for line in process.lines]


def test_with_log_format_json_every_line_says_what_it_is_about(stage: Stage):
    token = stage.token()
    env = {**stage.env, "SWAMP_LOG_FORMAT": "json"}
    orchestrator = stage.start_swamp("serve", "--port", str(stage.port), cwd=stage.root, env=env)
    orchestrator.wait_for_line("listening on")
    cache = stage.scratch / "cache"
    arguments = ("worker", "connect", stage.url, "--token", token, "--cache-dir", cache, "--log-format", "json")
    worker = stage.start_swamp(*arguments, cwd=stage.root)
    worker.wait_for_line("enrolled as node")
    stage.task("hello", "echo hello")
    stage.run("hello")
    worker.wait_for_line("result returned")
    (run,), (machine,) = stage.history(), stage.json("worker", "list")
    assert worker.stop() == 0
    assert orchestrator.stop() == 0

    about = {
        "run": run["id"],
        "step": "build/hello",
        "dispatch": f"node--{run['id']}-0-1",
        "machine": machine["machine"],
    }
    for process, wanted in (
        (orchestrator, ("started on", "finished on")),
        (worker, ("received", "executed", "returned")),
    ):
        lines = documents(process)
        assert all({"time", "level", "message"} <= set(line) for line in lines)
        for words in wanted:
            (line,) = [line for line in lines if words in line["message"]]
            assert about.items() <= line.items(), line
    assert {line["machine"] for line in documents(worker)} == {machine["machine"]}
    dispatched = [line for line in documents(orchestrator) if "dispatched to" in line["message"]]
    assert [line["dispatch"] for line in dispatched] == [about["dispatch"]]


def test_with_log_format_json_the_error_at_the_end_is_json_too(stage: Stage):
    done = stage.swamp("serve", "--log-format", "json", "--port", str(stage.port), "--redis-url", "nonsense")
    assert json.loads(done.stderr)["code"] == "usage"
    assert stage.swamp("serve", "--log-format", "xml").code == 2


def test_where_other_machines_reach_the_port_metrics_need_the_secret(stage: Stage):
    orchestrator = stage.start("serve", "--port", str(stage.port), "--host", "0.0.0.0", "--insecure-bind")
    orchestrator.wait_for_line("listening on ws://0")
    url = f"http://127.0.0.1:{stage.port}/metrics"
    status, refusal = ask(stage.port, "/metrics")
    assert status == 403
    assert refusal["error"] == "the orchestrator wants a token"
    secret = json.loads((stage.root / ".swamp/serve.json").read_text())["secret"]
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {secret}"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as response:
        assert b"swamp_redis_up 1.0" in response.read()

"""A worker on another machine needs one port of the orchestrator's: two machines made of network namespaces."""

# ruff: noqa: F401, F811 - a fixture
from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from swamp.broker.patience import REPLY_TIMEOUT
from swamp.orchestrator.leases import HEARTBEAT
from tests.certificates import sign
from tests.e2e.apart import Apart, apart
from tests.e2e.stage import Stage, step
from tests.waiting import wait_until

STEPS = 1_000


def fan(stage: Stage, run: str, steps: int = STEPS) -> None:
    """A workflow of that many steps."""
    stage.model("many", run)
    stage.workflow("fan", *(step(f"s{number}", "many", "node") for number in range(steps)))


def test_a_worker_on_another_machine_needs_the_one_port_and_nothing_else(apart: Apart):
    stage = apart.stage
    token = stage.token()
    apart.serve()
    redis_port = json.loads((stage.root / ".swamp/redis/embedded.json").read_text())["port"]
    assert apart.reachable(stage.port)
    assert not apart.reachable(redis_port)

    worker = apart.worker(token)
    assert "Redis by the orchestrator's port" in worker.output
    stage.task("hello", "echo executed on a worker")
    assert "│ executed on a worker\n" in stage.run("hello").stdout

    big = stage.scratch / "big"
    big.write_bytes(os.urandom(5_000_000) + b"\n")
    stage.task("big", f"base64 {big}")
    stage.run("big")
    size = stage.query('modelName == "big" && specName == "log"', "size")
    assert size[0] > 6_700_000

    count = stage.scratch / "count"
    fan(stage, f"echo x >> {count}")
    done = stage.swamp("workflow", "run", "fan", timeout=120)
    assert done.code == 0
    assert f"{STEPS:,} succeeded · 0 failed · 0 skipped" in done.stdout
    assert count.read_text() == "x\n" * STEPS
    assert worker.stop() == 0
    assert not re.search("lost|cannot|refused", worker.output)


def test_a_wire_that_is_pulled_and_put_in_again_loses_and_doubles_nothing(apart: Apart):
    stage = apart.stage
    token = stage.token()
    apart.serve()
    worker = apart.worker(token)
    count = stage.scratch / "count"
    fan(stage, f"echo x >> {count}")
    run = stage.start_run("fan")
    for steps in (STEPS // 10, STEPS // 3):
        wait_until(partial(_have_run, count, steps), "some steps to run", 60)
        apart.far.plug(in_=False)
        # As soon as on a direct connection: the next heartbeat is not answered.
        worker.wait_for_line("the connection is lost", timeout=HEARTBEAT + REPLY_TIMEOUT + 3)
        apart.far.plug(in_=True)
        worker.wait_for_line("joined again as node .*Redis by the orchestrator's port", timeout=30)
    assert run.wait_for_end(120) == 0, run.output
    assert f"{STEPS:,} succeeded · 0 failed · 0 skipped" in run.output
    assert count.read_text() == "x\n" * STEPS


def test_a_redis_that_is_killed_and_comes_back_elsewhere_loses_and_doubles_nothing(apart: Apart):
    stage = apart.stage
    token = stage.token()
    apart.serve()
    worker = apart.worker(token)
    count = stage.scratch / "count"
    fan(stage, f"echo x >> {count}")
    run = stage.start_run("fan")
    wait_until(partial(_have_run, count, STEPS // 10), "some steps to run", 60)
    os.kill(int((stage.root / ".swamp/redis/redis.pid").read_text()), signal.SIGKILL)
    worker.wait_for_line("joined again as node .*Redis by the orchestrator's port", timeout=30)
    assert run.wait_for_end(120) == 0, run.output
    assert f"{STEPS:,} succeeded · 0 failed · 0 skipped" in run.output
    assert count.read_text() == "x\n" * STEPS


def test_with_a_certificate_the_tunnel_goes_through_tls(apart: Apart):
    stage = apart.stage
    files = sign(stage.scratch / "certificates", apart.near.address)
    token = stage.token()
    arguments = ("--host", apart.near.address, "--cert-file", files.certificate, "--key-file", files.key)
    stage.start("serve", "--port", str(stage.port), *arguments).wait_for_line("listening on wss://")
    url = f"wss://{apart.near.address}:{stage.port}"
    where = ("--token", token, "--ca-cert", files.ca, "--cache-dir", stage.scratch / "cache")
    worker = stage.start_swamp("worker", "connect", url, *where, cwd=stage.root, env=stage.env, inside=apart.far.inside)
    worker.wait_for_line("joined as node .*Redis by the orchestrator's port")
    stage.task("hello", "echo executed on a worker")
    assert "│ executed on a worker\n" in stage.run("hello").stdout


def test_behind_a_forwarded_port_both_ends_seem_near_and_the_tunnel_is_taken(apart: Apart):
    """As with `ssh -L`: the worker connects to its own machine, and the orchestrator is reached from its own."""
    stage = dataclasses.replace(apart.stage, host="localhost")
    token = stage.token()
    stage.serve()
    with _forwarded(apart, stage.port):
        worker = dataclasses.replace(stage, inside=apart.far.inside).worker(token)
        assert "Redis by the orchestrator's port" in worker.output
        stage.task("hello", "echo executed on a worker")
        assert "│ executed on a worker\n" in stage.run("hello").stdout
        worker.stop()


@contextmanager
def _forwarded(apart: Apart, port: int) -> Iterator[None]:
    """What connects to this port of the far machine's loopback address comes out at the near machine's."""
    listener = apart.far.within(lambda: socket.create_server(("127.0.0.1", port)))

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                here, _ = listener.accept()
                there = apart.near.within(lambda: socket.create_connection(("127.0.0.1", port)))
                for pair in ((here, there), (there, here)):
                    threading.Thread(target=copy, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _have_run(count: Path, steps: int) -> bool:
    return count.exists() and len(count.read_text()) > 2 * steps

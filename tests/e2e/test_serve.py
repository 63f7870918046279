"""`swamp serve` starts whole or not at all, and leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from swamp.broker.acl import AclUser, orchestrator_rules, password_hash
from swamp.broker.embedded import EmbeddedRedis
from tests.e2e.stage import Stage, is_alive, until
from tests.processes import Ended, free_port, run_swamp
from tests.waiting import wait_until

UNREACHABLE, BUSY = 5, 75


def refused(stage: Stage, *arguments: str) -> Ended:
    """An orchestrator that does not start: one error, which comes soon."""
    done = stage.swamp("serve", "--port", str(stage.port), *arguments, timeout=15)
    assert done.code != 0
    assert done.stdout == ""
    assert len([line for line in done.stderr.splitlines() if line.startswith("Error: ")]) == 1
    assert "Traceback" not in done.stderr
    return done


def embedded_server(stage: Stage) -> int:
    """The process id of the orchestrator's own server."""
    return int((stage.root / ".swamp/redis/redis.pid").read_text())


def test_a_second_orchestrator_of_a_repository_is_refused(stage: Stage):
    first = stage.serve()
    info = (stage.root / ".swamp/serve.json").read_text()

    done = stage.swamp("serve", "--port", str(free_port()), timeout=15)
    assert done.code == BUSY
    assert f"Error: an orchestrator already serves {stage.root} (process {first.pid})" in done.stderr
    assert "use that one" in done.stderr

    assert (stage.root / ".swamp/serve.json").read_text() == info
    assert first.stop() == 0
    stage.nothing_serves()


def test_a_port_in_use_is_named(stage: Stage):
    with socket.create_server(("127.0.0.1", stage.port)):
        done = refused(stage)
    assert done.code == BUSY
    assert f"port {stage.port} on 127.0.0.1 cannot be used" in done.stderr
    assert "--port" in done.stderr
    stage.nothing_serves()
    assert not (stage.root / ".swamp/redis").exists()


def test_a_redis_that_does_not_answer_is_named_without_its_password(stage: Stage):
    port = free_port()
    url = f"redis://me:hushhush@127.0.0.1:{port}/0"
    orchestrator = stage.start("serve", "--port", str(stage.port), "--redis-url", url)
    orchestrator.wait_for_line(f"127.0.0.1:{port}/0 does not answer: .*; waiting for it")
    orchestrator.wait_for_line("listening on")
    assert orchestrator.stop() == 0
    assert "hushhush" not in orchestrator.output
    stage.nothing_serves()


def test_a_url_that_is_none_is_refused(stage: Stage):
    done = refused(stage, "--redis-url", "localhost:6379")
    assert done.code == 2
    assert "redis://user:password@host:6379/0" in done.stderr
    stage.nothing_serves()


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("192.0.2.1", "is no address of this machine"),
        ("no-such-host.invalid", "no address is known for 'no-such-host.invalid'"),
    ],
)
def test_an_address_that_is_not_this_machines_is_named(stage: Stage, host: str, says: str):
    done = refused(stage, "--host", host, "--insecure-bind")
    assert done.code == 1
    assert says in done.stderr
    stage.nothing_serves()


def test_outside_of_a_repository_it_says_how_to_make_one(tmp_path: Path):
    done = run_swamp("serve", "--port", str(free_port()), cwd=tmp_path)
    assert done.code == 3
    assert "swamp repo init" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_everything_that_it_started(stage: Stage, how: signal.Signals):
    orchestrator = stage.serve()
    server = embedded_server(stage)
    assert is_alive(server)
    began = stage.scratch / "began"
    stage.task("endless", f"touch {began}; exec sleep 600", target="")
    run = stage.start_run("endless")
    wait_until(began.exists, "the step to begin")

    orchestrator.signal(how)
    assert orchestrator.wait_for_end() == 0
    assert not is_alive(server)
    stage.nothing_serves()
    assert "Traceback" not in orchestrator.output
    assert run.wait_for_end() == UNREACHABLE
    assert "lost the orchestrator" in run.output
    assert _sleeping() == []
    assert [run["status"] for run in stage.history()] == ["canceled"]


def _sleeping() -> list[str]:
    """Steps of `sleep 600` that this test session started and that run on."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cmdline").read_bytes() == b"sleep\x00600\x00" and os.getenvb(b"STARTED_BY_TESTS", b"") in (
                entry / "environ"
            ).read_bytes():
                found.append(entry.name)
        except OSError:
            continue
    return found


def test_killed_it_leaves_no_server_behind_and_the_next_one_starts(stage: Stage):
    orchestrator = stage.serve()
    server = embedded_server(stage)
    orchestrator.kill()
    wait_until(lambda: not is_alive(server), "the embedded server to end with its orchestrator")
    assert stage.swamp("workflow", "history", "search").code == 0
    assert stage.workers() == {}

    assert stage.serve().stop() == 0
    stage.nothing_serves()


def test_when_its_server_is_killed_it_starts_another_and_runs_go_on(stage: Stage):
    token = stage.token()
    orchestrator = stage.serve()
    worker = stage.worker(token)
    began, go = stage.scratch / "began", stage.scratch / "go"
    stage.task("patient", f"touch {began}; {until(go)}; echo done")
    run = stage.start_run("patient")
    wait_until(began.exists, "the step to begin")

    os.kill(embedded_server(stage), signal.SIGKILL)
    orchestrator.wait_for_line("the embedded Redis server has ended; starting it again")
    go.touch()
    assert run.wait_for_end(30) == 0
    worker.wait_for_line("enrolled as node and waiting for work")
    assert stage.query('modelName == "patient" && specName == "result"', "version") == [1]
    stage.run("patient")
    assert orchestrator.stop() == 0
    stage.nothing_serves()


@pytest.fixture
def elsewhere(stage: Stage) -> Iterator[str]:
    """The URL of a Redis server that is not the orchestrator's own."""
    password = secrets.token_hex(16)
    admin = AclUser("admin", tuple(orchestrator_rules(password_hash(password))))
    with EmbeddedRedis.start(stage.scratch / "redis", stage.runtime, [admin]) as server:
        yield f"redis://admin:{password}@127.0.0.1:{server.port}/0"


def test_the_tutorial_works_with_a_redis_server_of_ones_own(stage: Stage, elsewhere: str):
    token = stage.token()
    orchestrator = stage.serve("--redis-url", elsewhere)
    orchestrator.wait_for_line(re.escape(elsewhere.rpartition("@")[2]))
    worker = stage.worker(token)
    stage.task("hello", "echo hello")
    assert "│ hello" in stage.run("hello").stdout
    assert stage.query('modelName == "hello" && specName == "result"', "attributes.stdout") == ["hello"]
    assert stage.workers() == {"node": "idle"}

    for option, may_write in (((), False), (("--full",), True)):
        url = stage.swamp("redis", "url", *option).stdout.strip()
        with closing(redis.Redis.from_url(url)) as tool:
            assert tool.smembers("rq:queues") == {b"rq:queue:node"}
            if may_write:
                tool.hset("rq:job:mine", "status", "queued")
            else:
                with pytest.raises(redis.exceptions.NoPermissionError):
                    tool.hset("rq:job:mine", "status", "queued")

    assert worker.stop() == 0
    assert orchestrator.stop() == 0
    assert elsewhere.rpartition("@")[0].rpartition(":")[2] not in orchestrator.output + worker.output
    with closing(redis.Redis.from_url(elsewhere)) as server:
        assert server.ping(), "a server that it did not start is not its to stop"
        assert server.keys("swamp:m:*:results") == []


def test_a_wrong_login_at_redis_is_told(stage: Stage, elsewhere: str):
    wrong = elsewhere.replace("admin", "nobody")
    done = refused(stage, "--redis-url", wrong)
    assert done.code == UNREACHABLE
    assert "refuses the login" in done.stderr


def test_a_redis_server_that_goes_away_and_comes_back_loses_nothing(stage: Stage, tmp_path: Path):
    password = secrets.token_hex(16)
    admin = AclUser("admin", tuple(orchestrator_rules(password_hash(password))))
    data, port = stage.scratch / "redis", free_port()
    url = f"redis://admin:{password}@127.0.0.1:{port}/0"
    token = stage.token()
    began, go = stage.scratch / "began", stage.scratch / "go"
    stage.task("patient", f"touch {began}; {until(go)}; echo done")

    with EmbeddedRedis.start(data, stage.runtime, [admin], port):
        orchestrator = stage.serve("--redis-url", url)
        worker = stage.worker(token)
        run = stage.start_run("patient")
        wait_until(began.exists, "the step to begin")
    orchestrator.wait_for_line("Redis is away")
    go.touch()
    worker.wait_for_line("step build/patient executed patient: succeeded")
    waiting = stage.start_run("patient")

    with EmbeddedRedis.start(tmp_path / "emptied", stage.runtime, [admin], port):
        assert run.wait_for_end(30) == 0
        assert waiting.wait_for_end(30) == 0
        assert len(stage.rows("SELECT id FROM data WHERE spec_name = 'result'")) == 2
        assert orchestrator.stop() == 0


def test_a_second_ctrl_c_ends_a_step_that_will_not_go(stage: Stage):
    orchestrator = stage.serve()
    deaf = stage.scratch / "deaf"
    stage.task("deaf", f"trap '' TERM; echo $$ > {deaf}; while :; do sleep 0.1; done", target="")
    stage.start_run("deaf")
    wait_until(lambda: deaf.exists() and deaf.read_text().strip(), "the step to begin")

    orchestrator.press_ctrl_c()
    orchestrator.wait_for_line("stopping")
    orchestrator.press_ctrl_c()
    assert orchestrator.wait_for_end(timeout=8) == 0
    assert not is_alive(int(deaf.read_text()))
    assert stage.statuses() == {"deaf": "canceled"}
    stage.nothing_serves()


def test_many_connections_do_not_use_up_what_a_system_lets_a_program_open_at_first(stage: Stage):
    """128 open files here; most systems give 1,024, and 150 workers on other machines would have them all."""
    stage = replace(stage, inside=("sh", "-c", 'ulimit -Sn 128; exec "$@"', "sh"))
    token = stage.token()
    stage.serve()
    with ExitStack() as open_ones:
        for _ in range(300):
            open_ones.enter_context(closing(socket.create_connection(("127.0.0.1", stage.port))))
        stage.worker(token)
        stage.task("hello", "echo hello")
        stage.run("hello")

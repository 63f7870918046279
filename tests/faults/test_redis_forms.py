"""Every form of `--redis-url` leads to a Redis on which work is done, and nothing that cannot work is taken."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import redis

from tests.certificates import Certificates, behind_tls, sign
from tests.e2e.stage import Stage, step, until
from tests.faults.proxy import FaultProxy
from tests.faults.servers import PASSWORD, Server, Watched, server_program
from tests.processes import SWAMP, Ended, free_port
from tests.waiting import wait_until


def work_is_done(stage: Stage, *arguments: str) -> None:
    """With this Redis, the tutorial works; and the password shows nowhere."""
    token = stage.token()
    orchestrator = stage.serve(*arguments)
    worker = stage.worker(token)
    stage.task("hello", "echo hello")
    assert "│ hello" in stage.run("hello").stdout
    assert PASSWORD not in orchestrator.output + worker.output


def refused(stage: Stage, *arguments: str | Path) -> Ended:
    """An orchestrator that does not start: one error and its cure."""
    done = stage.swamp("serve", "--port", str(stage.port), *arguments, timeout=20)
    assert done.code != 0
    assert [line for line in done.stderr.splitlines() if line.startswith("Error: ")] == done.stderr.splitlines()[:1]
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stderr
    stage.nothing_serves()
    return done


@pytest.mark.parametrize("program", ["bundled", "redis-server"])
def test_a_server_alone(stage: Stage, program: str):
    with Server(stage.scratch / "redis", program=server_program(program)) as server:
        work_is_done(stage, "--redis-url", server.url)


def test_a_unix_socket(stage: Stage):
    path = stage.runtime / "its.sock"
    with Server(stage.scratch / "redis", "--unixsocket", str(path), "--unixsocketperm", "700"):
        work_is_done(stage, "--redis-url", f"unix://:{PASSWORD}@{path}")


def test_workers_may_find_it_elsewhere(stage: Stage):
    with Server(stage.scratch / "redis") as server, FaultProxy(server.port) as road:
        elsewhere = f"redis://127.0.0.1:{road.port}"
        work_is_done(stage, "--redis-url", server.url, "--worker-redis-url", elsewhere)
        assert road.accepted >= 3, "the connections of the worker"


# ---------------------------------------------------------------------- TLS (more of it in tests/e2e/test_tls.py)


@pytest.fixture
def files(tmp_path: Path) -> Certificates:
    return sign(tmp_path / "certificates", "localhost")


def test_a_certificate_for_another_host_is_refused(stage: Stage, files: Certificates):
    with Server(stage.scratch / "redis") as server, behind_tls(server.port, files) as port:
        arguments = ("--redis-ca-cert", files.ca, "--redis-url")
        done = refused(stage, *arguments, f"rediss://:{PASSWORD}@127.0.0.1:{port}/0")
        assert done.code == 5
        assert "cannot be trusted" in done.stderr
        assert "--redis-ca-cert, and the host as the certificate names it" in done.stderr
        # An option in the URL would win over ours, and turn the check off.
        done = refused(stage, *arguments, f"rediss://:{PASSWORD}@127.0.0.1:{port}/0?ssl_check_hostname=false")
        assert "it holds options, and none is taken" in done.stderr


def test_tools_are_told_the_ca(stage: Stage, files: Certificates):
    with Server(stage.scratch / "redis") as server, behind_tls(server.port, files) as port:
        stage.serve("--redis-url", f"rediss://:{PASSWORD}@localhost:{port}/0", "--redis-ca-cert", str(files.ca))
        with closing(redis.Redis.from_url(stage.swamp("redis", "url").stdout.strip())) as tool:
            assert tool.smembers("rq:queues") == set()


def test_redis_7_0_with_tls_of_its_own(stage: Stage, files: Certificates):
    program = server_program("redis-server")
    port = free_port()
    names = ("--tls-cert-file", files.certificate, "--tls-key-file", files.key, "--tls-ca-cert-file", files.ca)
    options = ("--tls-port", str(port), *map(str, names), "--tls-auth-clients", "no")
    with Server(stage.scratch / "redis", *options, program=program):
        token = stage.token()
        stage.serve("--redis-url", f"rediss://:{PASSWORD}@localhost:{port}/0", "--redis-ca-cert", str(files.ca))
        stage.worker(token, "cache", "--ca-cert", str(files.ca))
        stage.task("hello", "echo hello")
        stage.run("hello")


def test_a_ca_is_for_a_server_that_was_named(stage: Stage, files: Certificates):
    done = refused(stage, "--redis-ca-cert", files.ca)
    assert (done.code, "add --redis-url" in done.stderr) == (2, True)


# ---------------------------------------------------------------------- what is refused


def test_a_cluster_is_refused(stage: Stage):
    with Server(stage.scratch / "redis", "--cluster-enabled", "yes", "--cluster-port", str(free_port())) as server:
        done = refused(stage, "--redis-url", server.url)
    assert "is a cluster, and RQ does not run on one" in done.stderr
    assert "standalone server, or one behind Sentinel" in done.stderr


def test_a_server_that_throws_keys_away_is_refused(stage: Stage):
    with Server(stage.scratch / "redis", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as server:
        done = refused(stage, "--redis-url", server.url)
        assert "allkeys-lru" in done.stderr
        cure = "CONFIG SET maxmemory-policy noeviction"
        assert f"redis-cli {cure}" in done.stderr
        with closing(server.client()) as client:
            client.execute_command(*cure.split())
        stage.serve("--redis-url", server.url)


def test_a_user_with_too_few_rights_is_refused(stage: Stage):
    with Server(stage.scratch / "redis") as server, closing(server.client()) as client:
        client.execute_command("ACL", "SETUSER", "swamp", "on", f">{PASSWORD}", "~*", "&*", "+@all", "-acl")
        url = server.url.replace("redis://", "redis://swamp")
        done = refused(stage, "--redis-url", url)
        assert done.code == 4
        assert "acl" in done.stderr
        assert "ACL SETUSER <user> ~* &* +@all" in done.stderr
        client.execute_command(*["ACL", "SETUSER", "swamp", "~*", "&*", "+@all"])
        stage.serve("--redis-url", url)


def test_a_replica_is_refused(stage: Stage):
    with (
        Server(stage.scratch / "one") as master,
        Server(stage.scratch / "two", "--replicaof", f"127.0.0.1 {master.port}") as replica,
    ):
        done = refused(stage, "--redis-url", replica.url)
    assert "is a replica" in done.stderr
    assert "name its master, or the Sentinels" in done.stderr


def test_a_server_of_another_repository_is_refused_and_can_be_freed(stage: Stage):
    other = stage.neighbour()
    with Server(stage.scratch / "redis") as server:
        assert other.serve("--redis-url", server.url).stop() == 0
        done = refused(stage, "--redis-url", server.url)
        assert f"belongs to another repository: {other.root}" in done.stderr
        assert "redis-cli DEL swamp:repo" in done.stderr
        assert other.serve("--redis-url", server.url).stop() == 0
        with closing(server.client()) as client:
            client.delete("swamp:repo")
        assert stage.serve("--redis-url", server.url).stop() == 0


def test_a_repository_that_was_moved_keeps_its_server(stage: Stage):
    with Server(stage.scratch / "redis") as server:
        assert stage.serve("--redis-url", server.url).stop() == 0
        stage.root = stage.root.rename(stage.root.with_name("moved"))
        assert stage.serve("--redis-url", server.url).stop() == 0


@contextmanager
def answering(info: str) -> Iterator[str]:
    """The URL of what says this about itself. No server below 7.0 is at hand, so one is played."""
    document = info.encode()

    def answer(peer: socket.socket) -> None:
        with peer:
            while data := peer.recv(1000):
                said = b"+PONG\r\n" if b"PING" in data else b"$%d\r\n%s\r\n" % (len(document), document)
                peer.sendall(said)

    def accept(listener: socket.socket) -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(peer,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def test_a_server_below_7_0_is_refused(stage: Stage):
    with answering("# Server\r\nredis_version:6.2.14\r\nredis_mode:standalone\r\n") as url:
        done = refused(stage, "--redis-url", url)
    assert "has version 6.2.14" in done.stderr
    assert "use Redis 7.0 or newer, or Valkey 7.2 or newer" in done.stderr


# ---------------------------------------------------------------------- Sentinel


def test_sentinels_elsewhere_are_not_asked_in_the_clear(stage: Stage):
    done = refused(stage, "--redis-url", f"redis+sentinel://:{PASSWORD}@127.0.0.1,192.0.2.1/mymaster")
    assert done.code == 4
    assert "--insecure-redis" in done.stderr


def test_sentinels_that_know_nothing_are_named(stage: Stage):
    with Server(stage.scratch / "redis") as server:
        done = refused(stage, "--redis-url", f"redis+sentinel://:{PASSWORD}@127.0.0.1:{server.port},127.0.0.1:1/x")
    assert done.code == 5
    assert f"127.0.0.1:{server.port}: " in done.stderr
    assert "127.0.0.1:1: " in done.stderr


@pytest.mark.parametrize("program", ["bundled", "redis-server"])
def test_a_failover_in_mid_run_loses_nothing_and_work_goes_on(stage: Stage, program: str):
    served_by = server_program(program)
    token = stage.token()
    starts, go = stage.scratch / "starts", stage.scratch / "go"
    names = [f"s{number}" for number in range(6)]
    for name in names:
        stage.model(name, f"echo {name} >> {starts}; {until(go)}")
    stage.workflow("six", *(step(name, name, "node") for name in names))
    with Watched(stage.scratch / "redis", served_by) as watched:
        orchestrator = stage.serve("--redis-url", watched.url)
        worker = stage.worker(token, "cache", "--concurrency", "2")
        run = stage.start_run("six")
        wait_until(lambda: starts.exists() and len(starts.read_text().split()) == 2, "two steps to begin")

        watched.master.kill()
        wait_until(watched.promoted, "the Sentinels to promote the replica", timeout=30)
        orchestrator.wait_for_line("Redis is back", timeout=20)
        worker.wait_for_line("enrolled as node and waiting for work", timeout=20)
        go.touch()
        assert run.wait_for_end(30) == 0, run.output
        assert sorted(starts.read_text().split()) == names
        assert stage.rows("SELECT count(*) FROM data WHERE spec_name = 'result'") == [(6,)]

        url = stage.json("redis", "url")["url"]
        assert url.endswith(f"127.0.0.1:{watched.replica.port}/0"), "tools are told where it is now"
        shown = subprocess.run(
            [SWAMP.with_name("rq"), "info", "-u", url], capture_output=True, text=True, timeout=30, check=True
        ).stdout
        assert "node " in shown
        assert "1 workers, 1 queues" in shown

        # The old master comes back as a replica of the new one, and nobody minds.
        watched.master.start()
        stage.run("six")
        assert worker.stop() == 0
        assert orchestrator.stop() == 0
        assert PASSWORD not in orchestrator.output + worker.output

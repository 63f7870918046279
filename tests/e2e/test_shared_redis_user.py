"""A Redis whose account may make no users: refused, unless somebody says that it may be shared."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
import redis

from swamp.broker.acl import AclUser, orchestrator_rules, password_hash
from swamp.broker.embedded import EmbeddedRedis
from tests.e2e.stage import Stage
from tests.redis_py import connect

Server = tuple[str, redis.Redis]  #: its URL with the account that Swamp gets, and a client that may do everything


@pytest.fixture
def server(stage: Stage) -> Iterator[Server]:
    password, full = secrets.token_hex(16), secrets.token_hex(16)
    users = [
        AclUser("tenant", (*orchestrator_rules(password_hash(password)), "-acl")),
        AclUser("provider", tuple(orchestrator_rules(password_hash(full)))),
    ]
    with EmbeddedRedis.start(stage.scratch / "redis", stage.runtime, users) as started:
        url = f"127.0.0.1:{started.port}/0"
        with connect(f"redis://{url}", username="provider", password=full) as client:
            yield f"redis://tenant:{password}@{url}", client


def test_without_the_word_for_it_such_an_account_is_refused(stage: Stage, server: Server):
    done = stage.swamp("serve", "--port", str(stage.port), "--redis-url", server[0])
    assert done.code == 4
    assert "does not let this user do what the orchestrator has to" in done.stderr
    assert "--shared-redis-user" in done.stderr
    assert not (stage.root / ".swamp/serve.json").exists()


def test_with_it_work_is_done_and_what_that_costs_is_said(stage: Stage, server: Server):
    url, client = server
    token = stage.token()
    orchestrator = stage.serve("--redis-url", url, "--shared-redis-user")
    assert "nothing in Redis confines a worker" in orchestrator.output
    worker = stage.worker(token)
    stage.task("hello", "echo hello")
    stage.run("hello")
    assert sorted(client.execute_command("ACL", "USERS")) == [b"default", b"provider", b"swamp-probe", b"tenant"]
    tools = stage.swamp("redis", "url")
    assert (tools.code, "one account for all" in tools.stderr) == (4, True)

    assert stage.swamp("worker", "token", "revoke", "node").code == 0
    assert worker.wait_for_end() == 4
    assert "token 'node' was revoked" in worker.output
    assert "fault" not in orchestrator.output


def test_a_server_of_ones_own_needs_it_not(stage: Stage):
    done = stage.swamp("serve", "--port", str(stage.port), "--shared-redis-user")
    assert done.code == 2
    assert "--redis-url" in done.stderr

"""A real server for the tests of this directory, and a way to be any user on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from swamp.broker.acl import AclUser, orchestrator_rules, password_hash
from swamp.broker.embedded import EmbeddedRedis, runtime_directory
from tests.redis_py import connect

ORCHESTRATOR = AclUser("swamp-orchestrator", tuple(orchestrator_rules(password_hash("all"))))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """One running server for all tests here."""
    with EmbeddedRedis.start(tmp_path_factory.mktemp("redis"), runtime_directory({}), [ORCHESTRATOR]) as started:
        yield started


@pytest.fixture
def full(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    """The orchestrator's connection to an empty server."""
    client = connect(unix_socket=server.socket_path, username=ORCHESTRATOR.name, password="all")
    client.flushall()
    client.execute_command("ACL", "LOG", "RESET")
    yield client
    client.close()


@pytest.fixture
def url(server: EmbeddedRedis) -> str:
    """Where the server is, without a user."""
    return f"redis://127.0.0.1:{server.port}/0"


def refused_commands(full: redis.Redis) -> list[tuple[str, str]]:
    """What the server refused to anybody since the test began: reason and object."""
    return [(str(entry["reason"]), str(entry["object"])) for entry in full.acl_log()]

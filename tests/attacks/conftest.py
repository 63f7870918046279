"""Attackers play on the stage of the end-to-end tests: real processes, a real server, real tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from tests.e2e.conftest import initialized, runtime, stage
from tests.e2e.stage import Stage
from tests.redis_py import connect

__all__ = ["initialized", "runtime", "stage"]

Intruder = Callable[[Stage], Any]  #: a client of redis-py, whose types say too much


@pytest.fixture
def intruder() -> Iterator[Intruder]:
    """Whoever may read and write everything in Redis, and has none of the orchestrator's other keys."""
    opened: list[redis.Redis] = []

    def enter(stage: Stage) -> redis.Redis:
        password = json.loads((stage.root / ".swamp/keys/orchestrator.json").read_text())["redisOrchestrator"]
        port = json.loads((stage.root / ".swamp/redis/embedded.json").read_text())["port"]
        client = connect(f"redis://127.0.0.1:{port}/0", username="swamp", password=password)
        opened.append(client)
        return client

    yield enter
    for client in opened:
        client.close()

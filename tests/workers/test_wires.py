"""Which way a worker takes to Redis."""

from __future__ import annotations

import pytest

from swamp.wire.messages import Welcome
from workers.wires import ways

NOW = "2026-06-15T11:34:58.961Z"
HERE, ELSEWHERE = "redis://127.0.0.1:6379/0", "rediss://redis.example:6379/0"


@pytest.mark.parametrize(
    ("url", "tunnel", "near", "tried"),
    [
        pytest.param(ELSEWHERE, None, True, (ELSEWHERE, False), id="a server of one's own"),
        pytest.param(ELSEWHERE, None, False, (ELSEWHERE, False), id="a server of one's own, from another machine"),
        pytest.param(HERE, "ticket", True, (HERE, True), id="the embedded server, seemingly from its machine"),
        pytest.param(HERE, "ticket", False, (None, True), id="the embedded server behind a proxy on its machine"),
        pytest.param(None, "ticket", False, (None, True), id="the embedded server, from another machine"),
        pytest.param(None, "ticket", True, (None, True), id="the embedded server behind a proxy on the worker's"),
    ],
)
def test_redis_is_tried_directly_only_where_it_can_be(
    url: str | None, tunnel: str | None, near: bool, tried: tuple[str | None, bool]
):
    keys = {1: bytes(32)}
    welcome = Welcome("w", "t", "b", NOW, 1, 0, 0, url, "u", "p", bytes(32), keys, 4.0, tunnel=tunnel)
    assert ways(welcome, near=near) == tried

"""Nothing leaves the machine unprotected unless somebody said so."""

from __future__ import annotations

import pytest

from swamp.errors import NotAllowed, Usage
from swamp.orchestrator.exposure import check_binding, check_redis


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.9.9.9"])
def test_this_machine_alone_is_free_to_use(host: str):
    assert check_binding(host, tls=False, insecure=False) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", "localhost.example", "127.0.0.1.a", ""])
def test_other_machines_need_tls_or_the_word_of_who_serves(host: str):
    assert check_binding(host, tls=True, insecure=False) is None
    with pytest.raises(NotAllowed) as refused:
        check_binding(host, tls=False, insecure=False)
    assert refused.value.hint is not None
    assert "--cert-file" in refused.value.hint
    assert "--insecure-bind" in refused.value.hint
    assert "sealed" in (check_binding(host, tls=False, insecure=True) or "")


@pytest.mark.parametrize(
    "url",
    [
        None,
        "redis://127.0.0.1:6379/0",
        "redis://localhost",
        "redis+sentinel://127.0.0.1,localhost/mymaster",
        "rediss+sentinel://one.example,two.example/mymaster",
        "rediss://redis.example",
        "unix:///run/redis.sock",
    ],
)
def test_redis_here_or_behind_tls_is_free_to_use(url: str | None):
    assert check_redis(url, None, insecure=False) is None


def test_a_redis_elsewhere_needs_tls_or_the_word_of_who_serves():
    url = "redis://me:hushhush@redis.example:6379/0"
    with pytest.raises(NotAllowed) as refused:
        check_redis(url, None, insecure=False)
    assert "hushhush" not in refused.value.message
    assert "rediss://" in (refused.value.hint or "")
    costs = check_redis(url, None, insecure=True)
    assert costs is not None
    assert "passwords" in costs
    assert "hushhush" not in costs


def test_sentinels_elsewhere_are_held_to_the_same():
    with pytest.raises(NotAllowed, match="the orchestrator would speak to it without TLS"):
        check_redis("redis+sentinel://localhost,one.example/mymaster", None, insecure=False)


def test_what_workers_are_told_is_held_to_the_same():
    here, there = "redis://127.0.0.1:6379", "redis://redis.example:6379"
    with pytest.raises(NotAllowed, match="workers"):
        check_redis(here, there, insecure=False)
    assert check_redis(here, "rediss://redis.example:6379", insecure=False) is None
    assert check_redis(here, there, insecure=True) is not None


@pytest.mark.parametrize(
    "url", ["redis.example:6379", "http://redis.example", "rediss://", "unix:///socket", "redis://x:y"]
)
def test_workers_are_told_no_address_that_is_none(url: str):
    with pytest.raises(Usage, match="is not a Redis URL"):
        check_redis("redis://127.0.0.1", url, insecure=False)


@pytest.mark.parametrize("url", ["rediss://me:hushhush@redis.example", "rediss://redis.example?ssl_cert_reqs=none"])
def test_workers_are_told_no_login_and_no_option(url: str):
    with pytest.raises(Usage) as refused:
        check_redis("redis://127.0.0.1", url, insecure=False)
    assert "hushhush" not in refused.value.message


def test_an_address_for_workers_needs_a_server():
    with pytest.raises(Usage):
        check_redis(None, "rediss://redis.example", insecure=False)

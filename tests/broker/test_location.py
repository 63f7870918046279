"""A Redis URL is read as people write them elsewhere, and what cannot be meant is refused without showing a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from swamp.broker.location import Location, Watched, of_socket, parse, parse_server, shown
from swamp.errors import Invalid


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("redis://host", Location("redis://host:6379/0")),
        ("redis://host:7000/", Location("redis://host:7000/0")),
        ("rediss://host/0", Location("rediss://host:6379/0")),
        ("REDIS://host", Location("redis://host:6379/0")),
        ("redis://me:a%2Fb@host", Location("redis://host:6379/0", "me", "a/b")),
        ("redis://:only@host", Location("redis://host:6379/0", None, "only")),
        ("redis://[::1]:7000", Location("redis://[::1]:7000/0")),
        ("unix:///run/redis.sock", Location("unix:///run/redis.sock")),
        ("unix://me:pw@/run/redis.sock?db=0", Location("unix:///run/redis.sock", "me", "pw")),
    ],
)
def test_one_server(text: str, location: Location) -> None:
    assert parse(text) == location
    assert parse_server(text) == location


def test_sentinels() -> None:
    assert parse("redis+sentinel://me:pw@one,two:7000,[::1]/mymaster") == Watched(
        (("one", 26379), ("two", 7000), ("::1", 26379)), "mymaster", False, "me", "pw"
    )
    watched = parse("rediss+sentinel://one/my%20master/0?sentinel_username=s&sentinel_password=a%26b")
    assert watched == Watched((("one", 26379),), "my master", True, sentinel_username="s", sentinel_password="a&b")
    assert isinstance(watched, Watched)
    assert watched.at("10.0.0.1", 6379).url == "rediss://10.0.0.1:6379/0"
    assert watched.at("fd00::1", 6379).url == "rediss://[fd00::1]:6379/0"
    with pytest.raises(Invalid, match="names Sentinels"):
        parse_server("redis+sentinel://one/mymaster")


def test_the_path_of_a_socket_may_hold_anything() -> None:
    assert of_socket(Path("/run/a b?%.sock")) == Location("unix:///run/a%20b%3F%25.sock")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "does not begin with redis://"),
        ("localhost:6379", "does not begin with redis://"),
        ("http://localhost", "nothing is known of http://"),
        ("redis://", "names no host"),
        ("redis://host:port", "its port is not a number"),
        ("redis://host:70000", "its port is not a number"),
        ("redis://host/3", "database 0 only"),
        ("rediss://host/0?ssl_cert_reqs=none", "options"),
        ("unix://run/redis.sock", "begins with /"),
        ("redis+sentinel://one:26379", "names no service"),
        ("redis+sentinel://one,/mymaster", "name of a Sentinel is missing"),
        ("redis+sentinel://one/mymaster/2", "database 0 only"),
        ("redis+sentinel://one/mymaster?socket_timeout=1", "only sentinel_username"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(Invalid, match=complaint) as refused:
        parse(text)
    assert "not a Redis URL" in refused.value.message
    assert "redis+sentinel://host:26379,host:26379/service" in (refused.value.hint or "")


@pytest.mark.parametrize(
    "text",
    [
        "redis://me:hunter2@host/3",
        "redis://me:hun/hunter2@host/3",
        "redis://host/0?password=hunter2",
        "http://me:hunter2@host",
        "me:hunter2@host",
        "redis+sentinel://me:hunter2@one",
        "redis+sentinel://one/mymaster/1?sentinel_password=hunter2",
        "redis://me:hunter2@[bad",
        "redis://me:hunter2/x@host",
    ],
)
def test_no_error_shows_a_password(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse(text)
    assert "hunter2" not in f"{refused.value.message} {refused.value.hint}"


def test_shown_leaves_out_what_nobody_should_see() -> None:
    assert shown("rediss://me:secret@host:6379/0?x=y") == "rediss://host:6379/0"
    assert shown("redis+sentinel://me:secret@one,[::1]/my?sentinel_password=x") == "redis+sentinel://one,[::1]/my"
    assert "secret" not in repr(parse("redis://me:secret@host"))

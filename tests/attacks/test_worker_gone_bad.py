"""A joined worker gone bad, with the Redis user that it was really given: every command of the server, on keys that are
not its own. Good work leaves the server's log of refusals empty."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from swamp.broker.client import Client, RedisTrouble, dial
from tests.attacks.conftest import Intruder
from tests.attacks.members import joined
from tests.e2e.stage import Stage

OTHERS = (
    *("rq:queue:other", "rq:job:other--1", "rq:wip:node", "rq:worker:node", "rq:workers", "rq:finished:node"),
    *("swamp:m:ffffffffffffffffffff:up", "swamp:m:ffffffffffffffffffff:down", "swamp:m:ffffffffffffffffffff:results"),
    *("swamp:repo", "anything"),
)
#: Of the commands that a worker's functions need, each with a form that would touch somebody else's key.
ALLOWED = {"hget", "hmget", "hset", "lmove", "lrem", "lrange", "xadd", "blmove", "xread", "publish", "fcall", "ping"}
#: What every connection may say.
TO_ALL = {"auth", "hello", "quit", "reset"}


def commands(client: Any) -> list[tuple[list[str], int]]:
    """Every command and subcommand of the server, with how many words it has at least."""
    found: list[tuple[list[str], int]] = []
    for name in client.execute_command("COMMAND LIST"):
        (info,) = client.execute_command("COMMAND INFO", name)
        for one in info[9] or [info]:  # its subcommands, where it has any
            found.append((one[0].decode().split("|"), abs(int(one[1]))))
    return found


@pytest.fixture(params=["directly", "through the tunnel"])
def bad(stage: Stage, request: pytest.FixtureRequest) -> Any:
    token = stage.token()
    stage.serve()
    with joined(stage, token) as session:
        welcome = session.welcome
        assert welcome.redis_url is not None
        user, password = welcome.redis_user, welcome.redis_password
        if request.param == "directly":
            client = Client(partial(dial, welcome.redis_url), user, password)
        else:
            client = Client(lambda: session.tunnel().near, user, password)
        yield client
        client.close()


def test_no_command_reaches_a_key_that_is_not_its_own(stage: Stage, intruder: Intruder, bad: Any):
    full = intruder(stage)
    full.hset("rq:job:other--1", "swamp", "somebody else's")
    full.rpush("rq:queue:other", "other--1")
    reached: list[list[str]] = []
    tried = 0
    for words, length in commands(full):
        if words[0] in TO_ALL:
            continue
        for key in OTHERS if words[0] in ALLOWED else OTHERS[:1]:
            arguments = [*words, *[key] * (length - len(words))]
            if words[0] == "xread":
                arguments = ["xread", "streams", key, "0"]
            elif words[0] in ("lmove", "blmove"):
                arguments = [
                    words[0],
                    key,
                    "swamp:m:x:claimed",
                    "left",
                    "right",
                    *(["1"] if words[0] == "blmove" else []),
                ]
            elif words[0] in ("ping", "fcall"):
                continue
            tried += 1
            try:
                bad.execute_command(*arguments)
            except RedisTrouble as error:
                if "NOPERM" in str(error) or "command not allowed" in str(error):
                    continue
                reached.append([*arguments, str(error)])
            else:
                reached.append(arguments)
    assert reached == []
    assert tried > 200
    assert full.hgetall("rq:job:other--1") == {b"swamp": b"somebody else's"}
    assert full.lrange("rq:queue:other", 0, -1) == [b"other--1"]


def test_good_work_is_never_refused_by_the_server(stage: Stage, intruder: Intruder):
    token = stage.token()
    stage.serve()
    full = intruder(stage)
    worker = stage.worker(token)
    stage.task("hello", "echo hello")
    stage.run("hello")
    assert worker.stop() == 0
    stage.worker(token)
    stage.run("hello")
    assert full.execute_command("ACL", "LOG") == []

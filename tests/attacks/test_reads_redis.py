"""Whoever reads Redis (a monitoring tool, a backup) does not see arguments, secrets or output."""

from __future__ import annotations

from typing import Any

from tests.attacks.conftest import Intruder
from tests.e2e.stage import Stage, until
from tests.waiting import wait_until

ARGUMENT, PRINTED, KEPT = "the-argument-7f3a", "the-output-91cc", "the-file-44de"


def everything(client: Any) -> str:
    """All that the server holds, in clear."""
    readers = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"stream": client.xrange,
    }
    return "\n".join(
        f"{key}: {readers[kind](key)}" for key in client.scan_iter() if (kind := client.type(key)) in readers
    )


def test_neither_arguments_nor_output_lie_in_redis_in_clear_at_any_time(stage: Stage, intruder: Intruder):
    token = stage.token()
    stage.serve()
    client = intruder(stage)
    seen: list[str] = []
    go, printed = stage.scratch / "go", stage.scratch / "printed"
    stage.task("secretive", f": {ARGUMENT}; echo {PRINTED}; touch {printed}; {until(go)}; echo {KEPT}")
    run = stage.start_run("secretive")
    wait_until(lambda: client.llen("rq:queue:node") == 1, "the step to be queued")
    seen.append(everything(client))
    pubsub = client.monitor()
    with pubsub as listening:
        stage.worker(token)
        wait_until(printed.exists, "the step to print")
        seen.append(everything(client))
        go.touch()
        assert run.wait_for_end() == 0
        client.set("the end", "")
        for command in listening.listen():
            seen.append(str(command))
            if "the end" in command["command"]:
                break
    seen.append(everything(client))
    in_clear = [word for word in (ARGUMENT, PRINTED, KEPT) for text in seen if word in text]
    assert not in_clear
    assert "secretive" in seen[0], "what a step is called is for everybody"

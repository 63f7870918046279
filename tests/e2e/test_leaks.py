"""The look for secrets after each test would find one."""

from __future__ import annotations

import json
import subprocess
import sys

import redis

from swamp.repo import Repo
from tests.e2e.leaks import caches_in, secrets_of, secrets_told
from tests.e2e.stage import Stage
from tests.processes import run_swamp
from tests.waiting import wait_until

TYPED = "correct horse battery"


def test_each_kind_of_secret_is_found_in_each_place(stage: Stage):
    token = stage.token().partition(".")[2]
    assert run_swamp("vault", "put", "main", "TYPED", cwd=stage.root, env=stage.env, stdin=TYPED).code == 0
    stage.serve()
    worker = stage.worker(f"node.{token}")
    assert secrets_told(stage.root, stage.scratch, []) == []

    caches = caches_in(stage.scratch)
    known = secrets_of(Repo(stage.root), caches)
    assert sorted(name.partition(" in ")[0].partition(" of ")[0] for name in known.hex.values()) == [
        "key redisMonitor", "key redisOperator", "key redisOrchestrator", "key signing", "key static", "key targets",
        "serve.json's secret", "the key", "worker-token-node",
    ]  # fmt: skip
    assert list(known.texts.values()) == ["TYPED of vault main"]
    assert len(known.hashed) == 1

    planted = stage.root / ".swamp" / "planted"
    planted.write_bytes(b"\n".join([*known.hex, TYPED.encode()]))
    told = secrets_told(stage.root, stage.scratch, [])
    assert len(told) == len(known.hex) + 1
    planted.write_bytes(bytes.fromhex(token))
    assert secrets_told(stage.root, stage.scratch, []) == [f"worker-token-node of vault main is in file {planted}"]
    planted.unlink()

    worker.lines.append(f"the token is {token}")
    assert secrets_told(stage.root, stage.scratch, [worker]) == [
        "worker-token-node of vault main is in what `swamp worker connect` printed"
    ]
    worker.lines.pop()

    password = json.loads((stage.root / ".swamp/keys/orchestrator.json").read_text())["redisOrchestrator"]
    url = json.loads((stage.root / ".swamp/serve.json").read_text())["redisUrl"]
    with redis.Redis.from_url(url, username="swamp", password=password) as client:
        client.hset("planted", "field", TYPED)
        (found, *in_files) = secrets_told(stage.root, stage.scratch, [])
        assert found == "TYPED of vault main is in Redis key b'planted'"
        assert all("appendonlydir" in place for place in in_files)
        client.flushall()
        client.bgrewriteaof()
    wait_until(lambda: secrets_told(stage.root, stage.scratch, []) == [], "the server to forget it")

    wait = "import sys; sys.stdin.read()"
    for arguments, variables in (([token], {}), ([], {"SWAMP_STEP": "x", "LEAK": token})):
        with subprocess.Popen(
            [sys.executable, "-c", wait, *arguments], stdin=subprocess.PIPE, env=variables or None
        ) as process:
            try:
                # For a moment a program that has just begun has neither arguments nor variables.
                wait_until(lambda: secrets_told(stage.root, stage.scratch, []) != [], "the secret to be seen")
                (place,) = secrets_told(stage.root, stage.scratch, [])
                assert str(process.pid) in place
            finally:
                process.kill()

    key = caches[0] / "machine.key"
    key.chmod(0o644)
    assert f"{key} may be read by others" in secrets_told(stage.root, stage.scratch, [])
    key.chmod(0o600)

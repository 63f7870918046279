"""A secret reaches the step that names it, and nothing and nobody else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import redis

from tests.e2e.stage import Stage, step, until
from tests.processes import RunningSwamp, run_swamp
from tests.waiting import wait_until

#: A secret of one line and one of several, with everything that could be taken for syntax.
PASSWORD = 'hunter2 "it\'s" $HOME `id` \\n <&> correct;horse/battery'
KEY = "-----BEGIN TEST KEY-----\nMIIEvQIBADANBgkqh'kiG9w0\nBAQEFAASCBKcwggSj$x\n-----END TEST KEY-----"
#: Parts of them that must be nowhere, in the forms in which they could be.
MARKS = ["correct;horse", "MIIEvQIBADANBgkqh", "BAQEFAASCBKcwggSj", quote("correct;horse"), "TEST KEY"]


def ref(key: str) -> str:
    return f"${{{{ vault.get('main', '{key}') }}}}"


@pytest.fixture
def secrets(stage: Stage) -> Stage:
    """The stage, with two secrets in its vault that never were on a command line."""
    for key, value in (("PASSWORD", PASSWORD), ("tls/key", KEY)):
        done = run_swamp("vault", "put", "main", key, cwd=stage.root, env=stage.env, stdin=value + "\n")
        assert done.code == 0, done
    return stage


# ---------------------------------------------------------------------- where a secret could be


def in_redis(stage: Stage) -> Iterator[tuple[str, bytes]]:
    """Everything that the embedded server holds, as its owner sees it."""
    url = json.loads((stage.root / ".swamp/serve.json").read_text())["redisUrl"]
    password = json.loads((stage.root / ".swamp/keys/orchestrator.json").read_text())["redisOrchestrator"]
    with redis.Redis.from_url(url, username="swamp", password=password) as client:
        for key in client.scan_iter(count=1000):
            match client.type(key):
                case b"string":
                    held: object = client.get(key)
                case b"hash":
                    held = client.hgetall(key)
                case b"list":
                    held = client.lrange(key, 0, -1)
                case b"stream":
                    held = client.xrange(key)
                case b"zset":
                    held = client.zrange(key, 0, -1)
                case _:
                    held = client.smembers(key)
            yield f"Redis key {key!r}", key + repr(held).encode()


def on_disk(*directories: Path) -> Iterator[tuple[str, bytes]]:
    for directory in directories:
        for path in directory.rglob("*"):
            if path.is_file():
                yield f"file {path}", path.read_bytes()


def in_arguments(*besides: int) -> Iterator[tuple[str, bytes]]:
    """The arguments of every process that this user can see, those `besides` left out."""
    for entry in Path("/proc").glob("[0-9]*"):
        if int(entry.name) not in besides:
            try:
                yield f"arguments of process {entry.name}", (entry / "cmdline").read_bytes()
            except OSError:
                continue


def in_environment(pid: int) -> Iterator[tuple[str, bytes]]:
    yield f"environment of process {pid}", (Path("/proc") / str(pid) / "environ").read_bytes()


def assert_nowhere(marks: list[str], *places: Iterator[tuple[str, bytes]]) -> None:
    looked_at = 0
    for place in places:
        for name, content in place:
            looked_at += 1
            found = [mark for mark in marks if mark.encode() in content]
            assert not found, f"{found} in {name}: {content[:2000]!r}"
    assert looked_at


def printed(*processes: RunningSwamp) -> Iterator[tuple[str, bytes]]:
    for process in processes:
        yield f"what `swamp {process.arguments[0]}` printed", process.output.encode()


# ---------------------------------------------------------------------- tests


def test_a_step_gets_its_secrets_and_nothing_tells_them(secrets: Stage) -> None:
    stage = secrets
    go, pids = stage.scratch / "go", stage.scratch / "pids"
    check = stage.scratch / "check.py"
    check.write_text(
        "import os, sys\n"
        "password, key = (open(sys.argv[1] + name, newline='').read() for name in ('/password', '/key'))\n"
        "print([sys.stdin.read() == password, os.environ['TOKEN'] == 'Bearer ' + password, os.environ['KEY'] == key])\n"
    )
    expected = stage.root.parent / "expected"  # outside of what is scanned
    expected.mkdir()
    (expected / "password").write_text(PASSWORD, newline="")
    (expected / "key").write_text(KEY, newline="")
    stage.model(
        "teller",
        f"echo $$ >> {pids}\n"
        f"printf %s '{ref('PASSWORD')}' | python3 -I {check} {expected}\n"
        f"cat <<END\nplain: {ref('PASSWORD')}\nEND\n"
        f"printf %s {ref('PASSWORD')} | base64 -w 0; echo\n"
        f'p={ref("PASSWORD")}; printf %s "${{p%%correct*}}"; sleep 0.2; printf \'%s\\n\' "correct${{p#*correct}}"\n'
        f"python3 -I -c 'import json, os; print(json.dumps(json.dumps([os.environ[\"TOKEN\"]])))'\n"
        f'echo \'{{"a": "{ref("tls/key")}"}}\'\n'
        f'printf \'%s\\n\' "$TOKEN" "$KEY" >&2\n'
        f"{until(go)}; exit 3\n",
        env={"TOKEN": f"Bearer {ref('PASSWORD')}", "KEY": ref("tls/key")},
    )
    stage.workflow("tell", step("there", "teller", "node"), step("here", "teller"))
    orchestrator = stage.serve()
    token = stage.token()
    worker = stage.worker(token)
    runner = stage.start_run("tell")
    wait_until(lambda: pids.exists() and pids.read_text().count("\n") == 2, "both steps to be in the midst of it")
    places = [stage.root, stage.scratch]
    assert_nowhere([*MARKS, token], in_redis(stage), on_disk(*places))
    assert_nowhere(MARKS, in_arguments())
    go.touch()
    assert runner.wait_for_end() == 1
    shown = [stage.swamp("workflow", "logs", "tell"), stage.swamp("data", "query", "true", "--json")]
    shown += [stage.swamp("workflow", "history", "get", "tell", "--json")]
    outputs = [(f"command {number}", f"{done.stdout}{done.stderr}".encode()) for number, done in enumerate(shown)]
    assert_nowhere([*MARKS, token], in_redis(stage), on_disk(*places), iter(outputs))
    assert_nowhere(MARKS, printed(runner, orchestrator, worker))

    told = [json.loads(bytes(content)) for (content,) in stage.rows("SELECT content FROM data WHERE name = 'result'")]
    assert len(told) == 2
    for attributes in told:
        assert attributes["stdout"] == '[True, True, True]\nplain: ***\n***\n***\n"[\\"Bearer ***\\"]"\n{"a": "***"}'
        assert attributes["stderr"] == "Bearer ***\n***\n"
        assert attributes["exitCode"] == 3
        assert "${SWAMP_SECRET_1}" in attributes["command"]
    worker.stop()
    orchestrator.stop()
    assert_nowhere([*MARKS, token], on_disk(*places))

"""A secret reaches the step that names it, and nothing and nobody else."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
import redis

from tests.e2e.stage import Stage, step, until
from tests.processes import SWAMP, RunningSwamp, environment, run_swamp
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


def in_arguments() -> Iterator[tuple[str, bytes]]:
    """The arguments of every process that this user can see."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            yield f"arguments of process {entry.name}", (entry / "cmdline").read_bytes()


def in_environment(pid: int) -> Iterator[tuple[str, bytes]]:
    yield f"environment of process {pid}", (Path("/proc") / str(pid) / "environ").read_bytes()


def in_environment_of_all_but(*processes: RunningSwamp) -> Iterator[tuple[str, bytes]]:
    for entry in Path("/proc").glob("[0-9]*"):
        if int(entry.name) not in {os.getpid(), *(process.pid for process in processes)}:
            with suppress(OSError):
                yield from in_environment(int(entry.name))


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
    assert_nowhere([*MARKS, token], in_arguments())
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


def test_a_step_sees_nothing_of_its_worker(stage: Stage) -> None:
    """Neither its token, however that was given, nor its cache directory, nor Redis, nor an open file."""
    token, elsewhere = stage.token(), stage.scratch / "elsewhere"
    elsewhere.mkdir()
    cache = stage.scratch / "cache"
    go, seen = stage.scratch / "go", elsewhere / "seen"
    stage.task("look", f"pwd; env; ls -l /proc/self/fd; {until(go)}")
    orchestrator = stage.serve()
    carriers = {
        "SWAMP_WORKER_TOKEN": token,
        "MY_TOKEN": f"x{token}",
        "WHERE": f"{cache}/seen",
        "KEPT": "kept",
        "SWAMP_X": "",
    }
    worker = stage.start_swamp(
        "worker", "connect", stage.url, "--cache-dir", cache, cwd=elsewhere, env={**stage.env, **carriers}
    )
    worker.wait_for_line("waiting for work")
    runner = stage.start_run("look")
    wait_until(lambda: stage.rows("SELECT 1 FROM run_events WHERE event LIKE '%step-output%'"), "the step to look")
    secret = token.partition(".")[2]
    redis_url = json.loads((stage.root / ".swamp/serve.json").read_text())["redisUrl"]
    assert_nowhere([secret], in_arguments(), in_environment_of_all_but(orchestrator, runner))
    go.touch()
    assert runner.wait_for_end() == 0
    ((shown,),) = [(attributes["stdout"],) for attributes in stage.query('specName == "result"', "attributes")]
    lines = shown.splitlines()
    assert lines[0] == str(elsewhere)
    assert "KEPT=kept" in lines
    assert [line.partition("=")[0] for line in lines if line.startswith(("SWAMP", "MY_TOKEN", "WHERE"))] == [
        "SWAMP_STEP"
    ]
    assert not [line for line in lines if secret in line or str(cache) in line or redis_url.partition("//")[2] in line]
    descriptors = re.findall(r" (\d+) -> (\S+)", shown)
    assert [number for number, _ in descriptors] == ["0", "1", "2", "3"]  # the last is how `ls` reads the directory
    assert descriptors[0][1] == "/dev/null"
    assert all(target.startswith("pipe:") for _, target in descriptors[1:3])
    assert not seen.exists()


@pytest.mark.parametrize("given", ["--token", "--token-file", "SWAMP_WORKER_TOKEN", "stdin", "--token -"])
def test_every_way_to_give_a_token_keeps_it_from_other_processes(stage: Stage, given: str) -> None:
    token = stage.token()
    file = stage.scratch / "token"
    file.write_text(token)
    orchestrator = stage.serve()
    connect = f"exec {SWAMP} worker connect {stage.url} --cache-dir {stage.scratch}/cache"
    line = {
        "--token": f"{connect} --token {token}",
        "--token-file": f"{connect} --token-file {file}",
        "SWAMP_WORKER_TOKEN": connect,
        "stdin": f"{connect} --token-file - < {file}",
        "--token -": f"{connect} --token - < {file}",
    }[given]
    variables = {"SWAMP_WORKER_TOKEN": token} if given == "SWAMP_WORKER_TOKEN" else {}
    script = stage.scratch / "start.sh"
    script.write_text(line)
    log = stage.scratch / "log"
    worker = subprocess.Popen(
        ["sh", script], stderr=log.open("wb"), env=environment({**stage.env, **variables}), cwd=stage.root
    )
    try:
        wait_until(lambda: b"waiting for work" in log.read_bytes(), "the worker to be there")
        secret = token.partition(".")[2]
        assert_nowhere([secret], in_arguments(), in_environment(worker.pid), iter([("log", log.read_bytes())]))
        assert b"worker\0connect" in (Path("/proc") / str(worker.pid) / "cmdline").read_bytes()
    finally:
        worker.terminate()
        worker.wait()
    orchestrator.stop()


def test_a_worker_does_not_start_where_steps_would_lie_beside_its_key(stage: Stage) -> None:
    token, cache = stage.token(), stage.scratch / "cache"
    (cache / "below").mkdir(parents=True)
    for directory in (cache, cache / "below"):
        done = run_swamp(
            "worker", "connect", stage.url, "--token", token, "--cache-dir", cache, cwd=directory, env=stage.env
        )
        assert done.code == 1
        assert f"steps would run in the cache directory {cache}" in done.stderr
    assert sorted(path.name for path in cache.rglob("*")) == ["below"]


#: Python imports this by itself. It makes a worker of somebody who forgot to redact.
BLIND = """
from swamp.models.redaction import Redactor
Redactor.spans = lambda self, data: []
Redactor.undecided = lambda self, data: len(data)
"""


def test_what_a_worker_does_not_redact_is_redacted_by_the_orchestrator(secrets: Stage) -> None:
    stage = secrets
    blind, cache = stage.scratch / "blind", stage.root.parent / "cache"
    blind.mkdir()
    (blind / "sitecustomize.py").write_text(BLIND)
    stage.task(
        "teller",
        f"printf '%s\\n' {ref('PASSWORD')} {ref('tls/key')}; yes {ref('PASSWORD')} | head -n 3000 >&2; exit 3",
    )
    stage.task("nowhere", "true", workingDir=f"/nowhere/{ref('PASSWORD')}")
    orchestrator = stage.serve()
    token = stage.token()
    worker = stage.start_swamp(
        "worker", "connect", stage.url, "--token", token, "--cache-dir", cache,
        cwd=stage.scratch, env={**stage.env, "PYTHONPATH": str(blind)},
    )  # fmt: skip
    stage.blabs.append(worker)
    worker.wait_for_line("waiting for work")
    shown = [stage.run("teller", code=1), stage.run("nowhere", code=1), stage.swamp("workflow", "logs", "teller")]
    outputs = [(f"command {number}", f"{done.stdout}{done.stderr}".encode()) for number, done in enumerate(shown)]
    assert_nowhere(MARKS, in_redis(stage), on_disk(stage.root), iter(outputs), printed(orchestrator))
    assert any(mark in worker.output for mark in MARKS), "this worker was not blind"
    assert "***" in shown[1].stderr
    ((result,),) = stage.rows("SELECT content FROM data WHERE name = 'result'")
    assert json.loads(bytes(result))["stdout"] == "***\n***"
    worker.stop()
    orchestrator.stop()

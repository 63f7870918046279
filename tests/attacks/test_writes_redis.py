"""Whoever writes Redis makes no worker run anything that was not signed for it, nor a step run twice, and forges no
result. It can stop work: that shows, and heals."""

from __future__ import annotations

import json
import os

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from swamp.broker import keyspace
from swamp.broker.functions import Job, push
from swamp.clock import iso, utc_now
from swamp.models.invocation import Invocation
from swamp.orchestrator.keys import load_keys
from swamp.orchestrator.packing import expiry
from swamp.repo import Repo
from swamp.wire.envelope import Box
from swamp.wire.messages import UP, Dispatch, Finished, dispatch_place, pack_dispatch, pack_up
from swamp.wire.signing import sign_batch
from tests.attacks.conftest import Intruder
from tests.e2e.stage import Stage, until
from tests.waiting import wait_until


def test_what_the_orchestrator_did_not_sign_is_not_run(stage: Stage, intruder: Intruder):
    """Even by whoever has the target's key, as each of its machines has."""
    token = stage.token()
    stage.serve()
    worker = stage.worker(token)
    client, keys = intruder(stage), load_keys(Repo(stage.root))
    assert keys is not None
    stage.task("hello", "echo hello")
    stage.run("hello")  # so that the worker has seen a signature

    owned, dispatch = stage.scratch / "owned", "node--forged-0-1"
    call = Invocation("m", "m", "command/shell", "execute", {"run": f"touch {owned}"})
    content = pack_dispatch(Dispatch(dispatch, "node", 1, 1, expiry(), "forged", "w", "j", "s", False, call))
    stranger = Ed25519PrivateKey.generate()
    sealed = Box(keys.target_key("node", 1)).seal(sign_batch(stranger, [content])[0], dispatch_place(dispatch))
    push(client, "node", [Job(dispatch, b"", "", (1).to_bytes(4, "big") + sealed)], iso(utc_now()))
    wait_until(
        lambda: owned.exists() or "dispatch node--forged-0-1 was refused (unsigned)" in worker.output, "an answer"
    )
    assert not owned.exists()
    stage.run("hello")


def test_a_dispatch_that_was_run_is_not_run_again(stage: Stage, intruder: Intruder):
    token = stage.token()
    orchestrator = stage.serve()
    stage.worker(token)
    client = intruder(stage)
    runs, go = stage.scratch / "runs", stage.scratch / "go"
    stage.task("once", f"echo run >> {runs}; {until(go)}")
    run = stage.start_run("once")
    wait_until(runs.exists, "the step to run")
    (key,) = client.keys("rq:job:node--*")
    kept = client.hgetall(key)
    go.touch()
    assert run.wait_for_end() == 0

    dispatch = key.decode().removeprefix("rq:job:")
    client.hset(key, mapping=kept)
    client.rpush("rq:queue:node", dispatch)
    stage.task("after", "echo after")
    stage.run("after")  # behind the old one in the queue
    wait_until(lambda: client.llen("rq:queue:node") == 0, "the queue to be empty")
    stage.run("after")
    assert runs.read_text().splitlines() == ["run"]
    assert orchestrator.running


def test_a_dispatch_that_runs_is_not_begun_by_another_machine(stage: Stage, intruder: Intruder):
    """Signed for the target, not expired, and new to that machine: only the grant is not there."""
    token = str(stage.json("worker", "token", "create", "fleet", "--duration", "1h", "--max-enrollments", "9")["token"])
    orchestrator = stage.serve()
    stage.worker(token, "cache-1", "--concurrency", "1")
    client = intruder(stage)
    runs, go = stage.scratch / "runs", stage.scratch / "go"
    stage.task("once", f"echo run >> {runs}; {until(go)}", "fleet")
    run = stage.start_run("once")
    wait_until(runs.exists, "the step to run")
    (key,) = client.keys("rq:job:fleet--*")
    other = stage.worker(token, "cache-2")
    client.rpush("rq:queue:fleet", key.decode().removeprefix("rq:job:"))
    other.wait_for_line("step build/once received")
    (second,) = stage.rows("SELECT id FROM machines WHERE id != (SELECT machine FROM dispatches)")
    claims = keyspace.claimed(str(second[0]))
    wait_until(lambda: client.llen(claims) == 0, "the claim to be given up")
    go.touch()
    assert run.wait_for_end() == 0
    assert runs.read_text().splitlines() == ["run"]
    assert orchestrator.running


def test_a_forged_result_ends_no_step(stage: Stage, intruder: Intruder):
    token = stage.token()
    orchestrator = stage.serve()
    stage.worker(token)
    client = intruder(stage)
    began, go = stage.scratch / "began", stage.scratch / "go"
    stage.task("true", f"touch {began}; {until(go)}; echo the truth")
    run = stage.start_run("true")
    wait_until(began.exists, "the step to begin")
    ((machine,),) = stage.rows("SELECT id FROM machines")
    (dispatch,) = (key.decode().removeprefix("rq:job:") for key in client.keys("rq:job:node--*"))

    forger = Box(os.urandom(32))
    client.hset(keyspace.results(machine), dispatch, forger.seal(b"a lie", b"result " + dispatch.encode()))
    for number in range(1, 9):
        forged = forger.seal(pack_up(1 << 62, number, Finished(dispatch)), UP)
        client.xadd(keyspace.up(machine), {"m": forged, "r": dispatch})
    orchestrator.wait_for_line("a message in the stream of worker node was refused")
    go.touch()
    assert run.wait_for_end() == 0
    assert stage.query('modelName == "true" && specName == "result"', "attributes.stdout") == ["the truth"]


def test_a_spoilt_job_shows_and_heals(stage: Stage, intruder: Intruder):
    stage.serve()
    token = stage.token()
    client = intruder(stage)
    stage.task("hello", "echo hello")
    run = stage.start_run("hello")
    wait_until(lambda: client.llen("rq:queue:node") == 1, "the step to be queued")
    (key,) = client.keys("rq:job:node--*")
    client.hset(key, "swamp", b"\0\0\0\1 spoilt")
    worker = stage.worker(token)
    worker.wait_for_line(r"was refused \(unreadable\)")
    assert run.wait_for_end() == 0
    assert json.dumps(stage.statuses()) == '{"hello": "succeeded"}'

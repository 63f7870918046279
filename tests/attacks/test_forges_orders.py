"""Whoever writes Redis cannot speak for the orchestrator: no forged acknowledgement, cancel or grant is believed."""

from __future__ import annotations

import os
import signal
from typing import Any

from swamp.broker import keyspace
from swamp.wire.envelope import Box, Refused
from swamp.wire.messages import DOWN, Acknowledge, Cancel, DownBody, Grant, pack_down, unpack_down
from tests.attacks.conftest import Intruder
from tests.e2e.stage import Stage, until
from tests.waiting import wait_until


class Forger:
    """Says things to a machine in the orchestrator's name, as well as one can who has all of Redis and no key."""

    def __init__(self, client: Any, stage: Stage) -> None:
        ((self.machine, self.epoch),) = stage.rows("SELECT id, epoch FROM machines")
        self._client = client
        self._box = Box(os.urandom(32))
        self._boot = self._boot_that_can_be_read()

    def _boot_that_can_be_read(self) -> str:
        """Messages hold which start of the orchestrator said them; where they are sealed, this is not known."""
        for _, fields in self._client.xrange(keyspace.down(self.machine)):
            try:
                return unpack_down(self._box.open(fields[b"m"], DOWN)).boot
            except Refused:
                continue
        return "0" * 16

    def say(self, body: DownBody) -> None:
        """And wait until the machine must have heard it: it has said something itself since."""
        sealed = self._box.seal(pack_down(self._boot, 1 << 40, body), DOWN)
        self._client.xadd(keyspace.down(self.machine), {"m": sealed})
        self.wait_for_a_heartbeat()

    def wait_for_a_heartbeat(self) -> None:
        up = keyspace.up(self.machine)
        last = self._client.xinfo_stream(up)["last-generated-id"] if self._client.exists(up) else b"0-0"
        wait_until(
            lambda: self._client.exists(up) and self._client.xinfo_stream(up)["last-generated-id"] != last,
            "the machine to say something",
        )


def test_a_forged_acknowledgement_makes_a_worker_forget_nothing(stage: Stage, intruder: Intruder):
    """The result is forged away and deleted while the orchestrator stands still; the worker has it still."""
    token = stage.token()
    orchestrator = stage.serve()
    stage.worker(token)
    client = intruder(stage)
    began, go, ran = stage.scratch / "began", stage.scratch / "go", stage.scratch / "ran"
    stage.task("work", f"echo run >> {ran}; touch {began}; {until(go)}; echo done")
    run = stage.start_run("work")
    wait_until(began.exists, "the step to begin")
    forger = Forger(client, stage)
    orchestrator.signal(signal.SIGSTOP)
    try:
        go.touch()
        wait_until(lambda: client.hlen(keyspace.results(forger.machine)) == 1, "the result to be sent")
        forger.say(Acknowledge(forger.epoch, 1 << 40))
        client.delete(keyspace.results(forger.machine), keyspace.up(forger.machine))
    finally:
        orchestrator.signal(signal.SIGCONT)
    assert run.wait_for_end(30) == 0, run.output
    assert ran.read_text() == "run\n"


def test_a_forged_cancel_ends_no_step(stage: Stage, intruder: Intruder):
    token = stage.token()
    stage.serve()
    stage.worker(token)
    client = intruder(stage)
    began, go = stage.scratch / "began", stage.scratch / "go"
    stage.task("work", f"touch {began}; {until(go)}; echo done")
    run = stage.start_run("work")
    wait_until(began.exists, "the step to begin")
    (dispatch,) = (key.decode().removeprefix("rq:job:") for key in client.keys("rq:job:node--*"))
    Forger(client, stage).say(Cancel(dispatch, "because I say so", 0.0))
    go.touch()
    assert run.wait_for_end() == 0, run.output
    assert stage.query('modelName == "work" && specName == "result"', "attributes.stdout") == ["done"]


def test_a_forged_grant_begins_nothing(stage: Stage, intruder: Intruder):
    """The orchestrator stands still before it can decide who may begin the step."""
    token = str(stage.json("worker", "token", "create", "node", "--duration", "1h", "--max-enrollments", "2")["token"])
    orchestrator = stage.serve()
    worker = stage.worker(token)
    client = intruder(stage)
    began = stage.scratch / "began"
    stage.task("hello", "echo hello")
    stage.run("hello")  # so that there is something that was said before
    stage.task("work", f"touch {began}")
    forger = Forger(client, stage)
    worker.signal(signal.SIGSTOP)
    stage.start_run("work")
    # It stands in line for the next step, so the server hands it over without asking.
    wait_until(lambda: client.llen(keyspace.claimed(forger.machine)) == 1, "the step to be claimed")
    orchestrator.signal(signal.SIGSTOP)
    try:
        worker.signal(signal.SIGCONT)
        (dispatch,) = client.lrange(keyspace.claimed(forger.machine), 0, -1)
        worker.wait_for_line("step build/work received")
        forger.say(Grant(dispatch.decode(), forger.epoch))
        assert not began.exists()
        assert client.llen(keyspace.claimed(forger.machine)) == 1
    finally:
        orchestrator.signal(signal.SIGCONT)
    wait_until(began.exists, "the step to begin by the orchestrator's grant", timeout=30)

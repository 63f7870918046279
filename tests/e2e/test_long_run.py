"""What the person who runs a workflow of many steps sees of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.e2e.stage import Stage, step

GOLDEN = Path(__file__).with_name("golden") / "workflow-run-long.txt"
PING = {"type": "model_method", "modelIdOrName": "ping", "methodName": "echo"}
STEPS = 1_000  #: and two more, which fail


def test_a_long_run_shows_what_failed_and_how_far_it_is(stage: Stage):
    assert stage.swamp("model", "create", "swamp/probe", "ping", "--arg", "echo.message=here").code == 0
    stage.model("broken", "echo no such file; exit 2")
    stage.workflow(
        "nightly",
        *({**step(f"s{number}", "ping", "node"), "task": PING} for number in range(STEPS)),
        step("unpack", "broken", "node"),
        step("sweep", "broken", "node", [("unpack", "failed")]),
        step("ship", "broken", "node", [("sweep", "succeeded")]),
    )
    stage.serve()
    stage.worker(stage.token(), "cache", "--concurrency", "4")
    done = stage.run("nightly", code=1)
    (run,) = stage.history()

    lines = done.stdout.replace(run["id"], "<id>").splitlines(keepends=True)
    # How often it is said depends on how fast the machine is.
    how_far = [line for line in lines if re.fullmatch(r"── [0-9,]+ of 1,003 steps ended: .*\n", line)]
    assert "".join(line for line in lines if line not in how_far) == GOLDEN.read_text(encoding="utf-8")
    assert len(how_far) < 100
    assert done.stderr == (
        "Error: nightly failed: build/unpack: Command exited with code 2 (and 1 more)\n"
        f"  what its steps printed: swamp workflow history logs {run['id']}\n"
    )

    # The commands that it names have all of them, and programs get every event as before.
    printed = stage.swamp("workflow", "logs", run["id"]).stdout
    assert printed == "[build/unpack] no such file\n[build/sweep] no such file\n"
    ended = {
        one["name"]: one["status"] for one in stage.json("workflow", "history", "get", run["id"])["jobs"][0]["steps"]
    }
    assert sorted(name for name, status in ended.items() if status != "succeeded") == ["ship", "sweep", "unpack"]
    events = [json.loads(line) for line in stage.swamp("workflow", "logs", run["id"], "--json").stdout.splitlines()]
    assert sum(event["kind"] == "step-finished" for event in events) == STEPS + 3

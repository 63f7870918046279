"""A Swamp at work that holds still: every state that a step can be in, all at once.

| target    | its worker         | steps                                                            |
|-----------|--------------------|------------------------------------------------------------------|
| `waiting` | none               | two wait; one was canceled while it waited                       |
| `busy`    | runs one at a time | one runs, one waits                                              |
| `done`    | has nothing to do  | two have finished, two have failed, one was canceled as it ran   |

What a step is given, what it prints and how it fails holds words that nobody may read in Redis.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import redis

from tests.e2e.stage import Stage, step, until
from tests.processes import RunningSwamp
from tests.waiting import wait_until

UNSPEAKABLE = ("word-of-an-argument", "word-of-a-secret", "word-of-the-output")

SAYING = "echo word-of-the-output; : word-of-an-argument"


@dataclass
class Picture:
    stage: Stage
    url: str  #: what `swamp redis url` printed
    operator_url: str
    workers: dict[str, RunningSwamp]
    orchestrator: RunningSwamp

    @cached_property
    def operator(self) -> redis.Redis:
        """A connection that may see and change all of RQ's keys."""
        return redis.Redis.from_url(self.operator_url)

    def jobs(self) -> dict[str, list[str]]:
        """The ids of all jobs, by state and target (`queued waiting`), in order; as Redis holds them."""
        found: dict[str, list[Any]] = {}
        for target in ("waiting", "busy", "done"):
            found[f"queued {target}"] = self.operator.lrange(f"rq:queue:{target}", 0, -1)
            for state, key in (("started", "wip"), ("finished",) * 2, ("failed",) * 2, ("canceled",) * 2):
                found[f"{state} {target}"] = self.operator.zrange(f"rq:{key}:{target}", 0, -1)
        return {name: [job.decode().partition(":")[0] for job in jobs] for name, jobs in found.items() if jobs}

    def everything(self) -> dict[bytes, bytes | None]:
        """All of RQ's keys with their values, as the server packs them."""
        dumped: dict[bytes, bytes | None] = {}
        for key in self.operator.scan_iter("rq:*"):
            # A worker's hash is written anew every few seconds.
            if not key.startswith(b"rq:worker:"):
                dumped[key] = self.operator.dump(key)
        return dumped


SETTLED = {
    "queued waiting": 2,
    "canceled waiting": 1,
    "queued busy": 1,
    "started busy": 1,
    "finished done": 2,
    "failed done": 2,
    "canceled done": 1,
}


def paint(stage: Stage) -> Picture:
    """Start everything, and wait until it holds still."""
    tokens = {target: stage.token(target) for target in ("waiting", "busy", "done")}
    orchestrator = stage.serve()
    workers = {target: stage.worker(tokens[target], target, "--concurrency", "1") for target in ("busy", "done")}
    url = stage.swamp("redis", "url").stdout.strip()
    picture = Picture(stage, url, stage.swamp("redis", "url", "--full").stdout.strip(), workers, orchestrator)

    secret = {"SECRET": "word-of-a-secret"}
    never, began = stage.scratch / "never", stage.scratch / "began"
    stage.model("speak", SAYING, env=secret)
    stage.model("break", f"{SAYING}; exit 3", env=secret)
    stage.model("stray", SAYING, workingDir="word-of-an-argument")
    stage.model("hang", f"{SAYING}; touch '{began}'; {until(never)}", env=secret)

    stage.workflow("finish", step("first", "speak", "done"), step("second", "speak", "done", [("first", "succeeded")]))
    stage.run("finish")
    stage.workflow("fail", step("broken", "break", "done"), step("strayed", "stray", "done", [("broken", "failed")]))
    stage.run("fail", code=1)
    stage.workflow("cancel", step("hanging", "hang", "done"))
    canceled = stage.start_run("cancel")
    wait_until(began.exists, "a step to run")
    wait_until(lambda: "started done" in picture.jobs(), "it to be shown as started, with its time")
    canceled.press_ctrl_c()
    canceled.wait_for_end()

    stage.workflow("give-up", step("unheard", "speak", "waiting"))
    given_up = stage.start_run("give-up")
    wait_until(lambda: "queued waiting" in picture.jobs(), "a step to wait")
    given_up.press_ctrl_c()
    given_up.wait_for_end()

    stage.workflow("wait", step("third", "speak", "waiting"), step("fourth", "speak", "waiting"))
    stage.start_run("wait")
    stage.workflow("work", step("running", "hang", "busy"), step("behind", "speak", "busy"))
    stage.start_run("work")
    wait_until(lambda: {name: len(jobs) for name, jobs in picture.jobs().items()} == SETTLED, "the picture to settle")
    wait_until(lambda: picture.operator.hget("rq:worker:busy", "state") == b"busy", "the worker to be shown at work")
    wait_until(lambda: picture.operator.hget("rq:worker:done", "state") == b"idle", "the other to be shown at rest")
    return picture

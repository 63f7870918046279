"""Huey's application."""

from __future__ import annotations

import os

from huey import RedisHuey

from bench.peer_programs import work

# Without notify_result, whoever waits for a result polls every 50 ms: fine for throughput, and the default.
huey = RedisHuey("bench", url=os.environ["BENCH_REDIS_URL"], notify_result=bool(os.environ.get("BENCH_NOTIFY")))

noop = huey.task()(work.noop)
shell = huey.task()(work.shell)

"""The roads between everybody fail at random under load: they are cut, closed, half open, and so slow that what was
said arrives after whoever said it has given up and come back on another connection."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from random import Random

from tests.chaos.cluster import FLEET, NODE, PATIENCE, Load
from tests.chaos.judging import Report, judge_what_happened, swamp
from tests.faults.proxy import FaultProxy
from tests.faults.scene import roads
from tests.faults.servers import Server

LATE = 6.5  #: seconds; a worker gives up after 5
NAMES = (NODE, f"{FLEET}-a", f"{FLEET}-b")


def torn(seed: int, seconds: float, calm: float = 1.5) -> Report:
    """G1 to G6, with `calm` seconds between two faults of the mean. In between the server is emptied, and a worker is
    killed or stands still."""
    report, random = Report(), Random(seed)
    with swamp() as made, ExitStack() as stack:
        server = stack.enter_context(Server(made.stage.scratch / "redis"))
        ours, theirs, door = (
            stack.enter_context(FaultProxy(port)) for port in (server.port, server.port, made.stage.port)
        )
        made.serve_with, made.door = roads(ours, theirs), f"ws://localhost:{door.port}"
        workflows = made.mixture(12)
        made.ready(*NAMES)
        faults: Counter[str] = Counter()
        deserters: list[str] = []
        due: list[tuple[float, Callable[[], object]]] = []
        frozen: set[int] = set()

        def later(after: float, act: Callable[[], object]) -> None:
            due.append((time.monotonic() + after, act))

        def road_fails() -> str:
            name, road = random.choice((("Redis from us", ours), ("Redis from workers", theirs), ("sessions", door)))
            how = random.choice(("cut", "closed", "half open", "slow", "late"))
            match how:
                case "cut":
                    road.cut()
                case "closed":
                    road.refuse()
                case "half open":
                    road.half_open()
                case "slow":
                    road.slow(random.uniform(0.05, 0.5))
                case "late":
                    road.slow(LATE)
            if how != "cut":
                later(random.uniform(1, 9), road.heal)
            return f"{name}: {how}"

        def a_worker_is_killed() -> str:
            made.machines[random.choice(NAMES)].process.kill()
            return "worker killed"

        def a_worker_stands_still() -> str:
            process = made.machines[random.choice(NAMES)].process
            if process.running and process.pid not in frozen:
                frozen.add(process.pid)
                os.kill(process.pid, signal.SIGSTOP)
                later(random.choice((2, 6, 18)), lambda: goes_on(process.pid))
            return "worker frozen"

        def goes_on(pid: int) -> None:
            frozen.discard(pid)
            if any(process.pid == pid and process.running for process in made.processes.values()):
                os.kill(pid, signal.SIGCONT)

        def the_server_is_emptied() -> str:
            with closing(server.client()) as client:
                client.flushall()
            return "server emptied"

        def look() -> None:
            """Do what is due, and bring back who was killed."""
            now = time.monotonic()
            for one in [one for one in due if one[0] <= now]:
                due.remove(one)
                one[1]()
            for name, process in made.processes.items():
                if process.running:
                    continue
                if process.ended_by_itself:
                    deserters.append(f"{name} ended with {process.code}:\n{process.output[-2000:]}")
                process.close()
                if name in made.machines:
                    made.join(name, "--concurrency", "2")
                else:
                    made.serve()

        acts = (road_fails, a_worker_is_killed, a_worker_stands_still, the_server_is_emptied)
        with Load(made, workflows, Random(seed + 1), at_once=4) as load:
            until, following = time.monotonic() + seconds, 0.0
            while (now := time.monotonic()) < until:
                if now >= following:
                    following = now + random.expovariate(1 / calm)
                    faults[random.choices(acts, (12, 1, 1, 1))[0]()] += 1
                look()
                time.sleep(0.05)
        while due:
            look()
            time.sleep(0.05)
        for road in (ours, theirs, door):
            road.heal()
            road.cut()  # what is half open is not noticed at once by everybody
        look()
        made.come_to_rest(PATIENCE)
        judge_what_happened(report, made, load.accepted, deserters)
        report.figures += [f"{fault}: {count}" for fault, count in sorted(faults.items())]
    return report

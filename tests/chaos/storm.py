"""Everything goes wrong at once, for a while: kills at the points that were hit least, and at random beside them."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

import redis

from tests.chaos import points
from tests.chaos.cluster import Armed, Cluster
from tests.e2e.stage import is_alive

ORCHESTRATOR = "orchestrator"
PAUSE = 0.05  #: seconds between two looks
IN_VAIN = 6.0  #: seconds that a process is given to pass the point it is armed with


@dataclass
class Storm:
    """`calm` is the mean of the seconds between two random faults; 0: none but those at points."""

    cluster: Cluster
    random: Random
    wanted: Collection[str]  #: names of points
    calm: float
    concurrency: int = 2
    faults: Counter[str] = field(default_factory=Counter)  #: what was done besides, and how often
    deserters: list[str] = field(default_factory=list)  #: processes that ended by themselves

    def __post_init__(self) -> None:
        self._armed: dict[int, tuple[str, float]] = {}  # by pid: with what, since when
        self._due: list[tuple[float, Callable[[], None]]] = []  # what is to be done later
        self._seen = 0  # hits that were looked at
        self._back: dict[str, float] = {}  # processes that are away, until when
        self._graces: dict[int, float] = {}  # by pid
        self._next_fault = time.monotonic() + self._pause()

    @property
    def missed(self) -> list[str]:
        """Points at which nothing was killed yet."""
        kills = self.cluster.notes.kills()
        return [name for name in self.wanted if not kills[name]]

    def rage(self, seconds: float, *, until_hit: bool = False) -> None:
        """For so long; with `until_hit` only until something was killed at every point wanted."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not (until_hit and not self.missed):
            self._look()
            self._tend()
            self._arm()
            if self.calm and time.monotonic() >= self._next_fault:
                self._next_fault = time.monotonic() + self._pause()
                self._fault()
            time.sleep(PAUSE)

    def end(self) -> None:
        """Nothing is armed any more, what stood still goes on, and everybody is there."""
        for process in self.cluster.processes.values():
            process.arm("", 1)
        for _, act in self._due:
            act()
        self._due.clear()
        self._back.clear()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            self._look()
            self._tend()
            time.sleep(PAUSE)
            if all(process.running for process in self.cluster.processes.values()) and not self._back:
                return

    # ------------------------------------------------------------------ looking after the processes

    def _look(self) -> None:
        self.cluster.notes.look()
        for hit in self.cluster.notes.hits[self._seen :]:
            self._armed.pop(hit.pid, None)
            if hit.action == "stop":
                self._later(self._stillness(), lambda pid=hit.pid: _send(pid, signal.SIGCONT))  # type: ignore[misc]
        self._seen = len(self.cluster.notes.hits)
        now = time.monotonic()
        due, self._due = [one for one in self._due if one[0] <= now], [one for one in self._due if one[0] > now]
        for _, act in due:
            act()

    def _tend(self) -> None:
        """Whoever ended comes back: mostly at once, a worker sometimes after its loss was noticed."""
        now = time.monotonic()
        for name, process in self.cluster.processes.items():
            if process.running:
                continue
            if name not in self._back:
                if process.ended_by_itself and not _never_began(process):
                    self.deserters.append(f"{name} ended with {process.code}:\n{process.output[-2000:]}")
                away = self.random.uniform(0, 20) if name != ORCHESTRATOR and self.random.random() < 0.2 else 0.0
                self._back[name] = now + away
            if self._back[name] <= now:
                del self._back[name]
                process.close()
                if name == ORCHESTRATOR:
                    self.cluster.serve()
                else:
                    self.cluster.join(name, "--concurrency", str(self.concurrency))

    def _arm(self) -> None:
        """Every process is to pass one of the points of its kind that was hit least."""
        now = time.monotonic()
        kills = self.cluster.notes.kills()
        here = {process.pid for process in self.cluster.processes.values()}
        self._armed = {pid: armed for pid, armed in self._armed.items() if pid in here}
        for name, process in self.cluster.processes.items():
            pid = process.pid
            armed = self._armed.get(pid)
            if not process.running or (armed and now - armed[1] < IN_VAIN):
                continue
            if armed is None and now < self._peace(process):
                continue
            role: points.Role = "serve" if name == ORCHESTRATOR else "worker"
            mine = [point.name for point in points.of(role) if point.name in self.wanted]
            if not mine:
                continue
            under_way = Counter(point for other, (point, _) in self._armed.items() if other != pid)
            least = min(kills[point] + under_way[point] for point in mine)
            chosen = [p for p in mine if kills[p] + under_way[p] == least]
            if armed is not None:
                # All could wait for ever at points that are passed only when somebody else is killed.
                chosen = [p for p in mine if not kills[p]] if self.random.random() < 0.5 else mine
            point = self.random.choice(chosen or mine)
            first = not kills[point] or armed is not None
            count = 1 if first else self.random.randint(1, 5)
            action = "kill" if first else self._action()
            self._armed[pid] = (point, now)
            process.arm(point, count, action)
            if point == points.STOPPING:
                process.asked_to_end = True
                process.signal(signal.SIGTERM)

    def _peace(self, process: Armed) -> float:
        """When a process may be armed: some are killed while they start, some get to work first."""
        grace = self._graces.setdefault(process.pid, self.random.choice((0.0, 0.0, 1.0, 3.0)))
        return time.monotonic() + process.begun_at + grace - time.time()

    def _action(self) -> str:
        return self.random.choices(("kill", "stop", "server", "flush"), (12, 2, 1, 1))[0]

    # ------------------------------------------------------------------ random faults

    def _fault(self) -> None:
        kinds: dict[str, tuple[int, Callable[[], object]]] = {
            "worker killed": (4, lambda: self._kill(self._worker())),
            "step killed": (3, self._kill_a_step),
            "keeper killed": (2, self._kill_a_keeper),
            "orchestrator killed": (2, lambda: self._kill(ORCHESTRATOR)),
            "server killed": (2, lambda: _send(self.cluster.redis_pid(), signal.SIGKILL)),
            "server emptied": (2, self._empty),
            "worker frozen": (2, lambda: self._freeze(self._worker())),
            "orchestrator frozen": (1, lambda: self._freeze(ORCHESTRATOR)),
            "worker asked to stop": (1, self._stop_a_worker),
        }
        kind = self.random.choices(list(kinds), [weight for weight, _ in kinds.values()])[0]
        with suppress(redis.RedisError, OSError, ValueError, LookupError):  # who should suffer it is away already
            kinds[kind][1]()
            self.faults[kind] += 1

    def _worker(self) -> str:
        return self.random.choice([name for name, machine in self.cluster.machines.items() if machine.process.running])

    def _kill(self, name: str) -> None:
        self.cluster.processes[name].kill()

    def _freeze(self, name: str) -> None:
        pid = self.cluster.processes[name].pid
        os.kill(pid, signal.SIGSTOP)
        self._later(self._stillness(), lambda: _send(pid, signal.SIGCONT))

    def _stop_a_worker(self) -> None:
        process = self.cluster.machines[self._worker()].process
        process.asked_to_end = True
        process.signal(signal.SIGTERM)

    def _kill_a_step(self) -> None:
        keeper = self.random.choice(children(self.cluster.machines[self._worker()].process.pid))
        os.kill(self.random.choice(children(keeper)), signal.SIGKILL)

    def _kill_a_keeper(self) -> None:
        os.kill(self.random.choice(children(self.cluster.machines[self._worker()].process.pid)), signal.SIGKILL)

    def _empty(self) -> None:
        with self.cluster.redis() as server:
            server.flushall()

    # ------------------------------------------------------------------ chance

    def _pause(self) -> float:
        return self.random.expovariate(1 / self.calm) if self.calm else 0.0

    def _stillness(self) -> float:
        """Seconds that somebody stands still: mostly less than the lease, sometimes more."""
        return self.random.choice((0.5, 2.0, 5.0, 18.0))

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        self._due.append((time.monotonic() + seconds, act))


def _never_began(process: Armed) -> bool:
    """Its own server was killed while both started: `swamp serve` says so and ends, as when any start fails."""
    return process.code == 5 and "listening on" not in process.output


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        if is_alive(pid):
            os.kill(pid, number)


def children(pid: int) -> list[int]:
    """Living children of a process."""
    with suppress(OSError):
        found = []
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            with open(f"/proc/{pid}/task/{thread}/children") as file:  # noqa: PTH123
                found += [int(word) for word in file.read().split()]
        return found
    return []

"""The peers: task queues that people use, each in a virtual environment of its own, doing the same work."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.procfs import Group, Meter
from bench.proxy import CountingProxy
from bench.running import BenchFailed, RedisServer, Running, environment, run, scratch_directory

PROGRAMS = Path(__file__).with_name("peer_programs")
ROOT = Path(__file__).parents[1]
ENVIRONMENTS = ROOT / ".venv-bench"


@dataclass(frozen=True)
class Peer:
    name: str
    distribution: str  #: names its requirements, its environment and its driver
    worker: tuple[str, ...]  #: the command, with {url} for the Redis server's
    env: tuple[tuple[str, str], ...] = ()


_RQ = ("rq", "worker", "--quiet", "--url", "{url}")
RQ_SIMPLE = Peer("rq-simple", "rq", (*_RQ, "--worker-class", "rq.SimpleWorker", "bench"))
RQ_FORK = Peer("rq-fork", "rq", (*_RQ, "bench"))
_HUEY = ("huey_consumer", "bench.peer_programs.huey_tasks.huey", "-k", "process", "-w", "2", "-q")
HUEY = Peer("huey", "huey", _HUEY)
HUEY_NOTIFY = Peer("huey-notify", "huey", _HUEY, (("BENCH_NOTIFY", "1"),))


@dataclass(frozen=True)
class PeerRan:
    per_second: float  #: from the end of the first task to that of the last
    cpu: dict[str, float]  #: seconds, by process
    others: float  #: processors kept busy by others


class PeerStage:
    """A server, a worker that has done one task, and a driver that is started when it is needed."""

    def __init__(self, peer: Peer, server: RedisServer, worker: Running, env: dict[str, str]) -> None:
        self._peer = peer
        self._env = env
        self._server = server
        self._worker = worker
        self._stored = 0
        self._drive("fill", "noop", "warm", "1")
        self._stored += 1
        self._drive("collect", "warm", "1")

    @property
    def groups(self) -> dict[str, Group]:
        return {"worker": Group(self._worker.pid), "redis": Group(self._server.pid)}

    def run(self, kind: str, count: int) -> PeerRan:
        """The queue is filled while the worker is stopped, so that only its work is measured."""
        batch = f"{kind}-{self._stored}"
        self._worker.signal(signal.SIGSTOP)
        self._drive("fill", kind, batch, str(count))
        self._stored += count
        collector = subprocess.Popen(
            self._command("collect", batch, str(self._stored)),
            cwd=ROOT, env=environment(self._env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with collector:
            try:
                assert collector.stdout is not None
                collector.stdout.readline()
                meter = Meter({**self.groups, "driver": Group(collector.pid)})
                self._worker.signal(signal.SIGCONT)
                collector.stdout.readline()
                cpu, others = meter.read()
                answer = json.loads(collector.stdout.readline() or "{}")
            finally:
                collector.kill()
        if answer.get("count") != count:
            raise BenchFailed(f"{self._peer.name} has {answer.get('count', 'no')} of {count} results")
        del cpu["driver"]  # it only asks how many results there are
        return PeerRan((count - 1) / max(answer["last"] - answer["first"], 0.001), cpu, others)

    def one_by_one(self, count: int) -> list[float]:
        """How long one task takes, from its submission until its result is in the caller's hands; milliseconds."""
        self._stored += count
        return [float(milliseconds) for milliseconds in json.loads(self._drive("one", str(count)))]

    def _drive(self, *arguments: str) -> str:
        return run(self._command(*arguments), ROOT, self._env, patience=600).splitlines()[-1]

    def _command(self, *arguments: str) -> list[str | Path]:
        driver = f"bench.peer_programs.{self._peer.distribution}_driver"
        return [_program(self._peer.distribution, "python"), "-m", driver, *arguments]


@contextmanager
def peer_stage(peer: Peer, *, counted: CountingProxy | None = None) -> Iterator[PeerStage]:
    """`counted` stands between the worker and its server."""
    make_environment(peer.distribution)
    with scratch_directory() as scratch, RedisServer(scratch / "redis") as server:
        env = {"BENCH_REDIS_URL": server.url, "PYTHONPATH": str(ROOT), **dict(peer.env)}
        url = server.url if counted is None else counted.listen(server.port)
        command = [word.format(url=url) for word in peer.worker]
        with Running(
            [_program(peer.distribution, command[0]), *command[1:]],
            ROOT,
            {**env, "BENCH_REDIS_URL": url},
            scratch / "worker.log",
        ) as worker:
            try:
                yield PeerStage(peer, server, worker, env)
            except BenchFailed as failed:
                raise BenchFailed(f"{peer.name}: {failed}\nits worker printed:\n{worker.output()[-2000:]}") from None


def make_environment(distribution: str) -> None:
    """A virtual environment with exactly what the requirements file says; kept from run to run."""
    directory = ENVIRONMENTS / distribution
    requirements = PROGRAMS / f"{distribution}.txt"
    stamp = directory / "installed"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"Making an environment for {distribution} ...", file=sys.stderr)
    run([sys.executable, "-m", "venv", "--clear", directory], ROOT, {}, patience=300)
    pip = (_program(distribution, "python"), "-m", "pip", "--quiet", "--disable-pip-version-check", "install")
    run([*pip, "--requirement", requirements], ROOT, {}, patience=600)
    stamp.write_text(wanted)


def _program(distribution: str, name: str) -> Path:
    return ENVIRONMENTS / distribution / "bin" / name

"""A whole Swamp under test: an orchestrator, machines, all of them armed, and work for them."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import redis

from swamp.errors import SwampError
from swamp.orchestrator.client import find
from swamp.repo import Repo
from tests.chaos.evidence import Notes
from tests.chaos.points import POINTS
from tests.chaos.server import server_pid
from tests.e2e.stage import Stage
from tests.processes import RunningSwamp, run_swamp
from tests.waiting import wait_until

ARMED = Path(__file__).with_name("armed.py")
NODE, FLEET = "node", "fleet"
PATIENCE = 120.0  #: seconds in which anything comes to an end that is not disturbed

#: What every step does first: note that it runs.
RAN = (
    r'printf "ran\t%s\t%s\t%s\t%s\n" "$CHAOS_DISPATCH" "$CHAOS_MACHINE" "$CHAOS_EPOCH" "$(date +%s.%N)"'
    ' >> "$CHAOS_NOTES"'
)
#: And that synced.
NOTE = RAN + ' && sync "$CHAOS_NOTES"; '


class Armed(RunningSwamp):
    """A `swamp serve` or `swamp worker connect` with the points in it."""

    def __init__(self, *arguments: str | Path, cwd: Path, env: Mapping[str, str], notes: Path) -> None:
        reader, self._control = os.pipe()
        told = {**env, "CHAOS_CONTROL": str(reader), "CHAOS_NOTES": str(notes)}
        try:
            super().__init__(*arguments, cwd=cwd, env=told, program=(sys.executable, ARMED), pass_fds=(reader,))
        finally:
            os.close(reader)
        self.asked_to_end = False
        self.begun_at = time.time()

    def arm(self, point: str, count: int = 1, action: str = "kill") -> None:
        """Without a point it is disarmed."""
        assert not point or point in {known.name for known in POINTS}, f"there is no point '{point}'"
        with suppress(BrokenPipeError):  # it has ended meanwhile
            os.write(self._control, f"{point}\t{count}\t{action}\n".encode())

    @property
    def ended_by_itself(self) -> bool:
        """It ended, and neither was that asked for nor was it killed."""
        return self.code not in (None, -signal.SIGKILL) and not self.asked_to_end

    def kill(self) -> None:
        self.asked_to_end = True
        super().kill()

    def close(self) -> None:
        super().close()
        with suppress(OSError):
            os.close(self._control)


@dataclass
class Machine:
    """A worker's cache directory, and the process on it."""

    name: str
    token: str = field(repr=False)
    process: Armed


class Cluster:
    """Use `cluster`."""

    def __init__(self, scratch: Path, runtime: Path, stack: ExitStack) -> None:
        self._stack = stack
        self._open: list[RunningSwamp] = []
        stack.callback(self._close)
        root = scratch / "repository"
        assert run_swamp("repo", "init", root, cwd=scratch).code == 0
        assert run_swamp("vault", "create", "local_encryption", "main", cwd=root).code == 0
        self.notes = Notes(scratch / "notes")
        self.stage = Stage(root, scratch, runtime, self._start)
        self.sync = "yes"  #: empty: what steps note is not synced, so that they cost little
        self.serve_with: tuple[str, ...] = ()  #: further options of the orchestrator
        self.door = ""  #: where workers knock, if not at the orchestrator itself
        self.machines: dict[str, Machine] = {}
        self.tokens: dict[str, str] = {}

    def _start(
        self, *arguments: str | Path, cwd: Path, env: dict[str, str] | None = None, inside: Sequence[str] = ()
    ) -> RunningSwamp:
        assert not inside, "everything is on this machine"
        armed = arguments[0] == "serve" or arguments[:2] == ("worker", "connect")
        process = (
            Armed(*arguments, cwd=cwd, env={**(env or {}), "CHAOS_SYNC": self.sync}, notes=self.notes.path)
            if armed
            else RunningSwamp(*arguments, cwd=cwd, env=env)
        )
        self._open = [other for other in self._open if other.running]
        self._open.append(process)
        return process

    def _close(self) -> None:
        for process in reversed(self._open):
            with suppress(ProcessLookupError):
                process.signal(signal.SIGCONT)
            process.close()

    # ------------------------------------------------------------------ who takes part

    def serve(self) -> Armed:
        """An orchestrator, on its way. The one before it has ended."""
        process = self.stage.start("serve", "--port", str(self.stage.port), *self.serve_with)
        assert isinstance(process, Armed)
        self.orchestrator = process
        return process

    def join(self, name: str, *arguments: str) -> Armed:
        """The machine `name`, on its way: `node`, or `fleet-<anything>`. The process before it has ended."""
        target = name.partition("-")[0]
        if target not in self.tokens:
            many = ("--max-enrollments", "9") if target == FLEET else ()
            made = self.stage.json("worker", "token", "create", target, "--duration", "1d", *many)
            self.tokens[target] = str(made["token"])
        cache = ("--cache-dir", self.stage.scratch / f"cache-{name}")
        where = self.door or self.stage.url
        process = self.stage.start("worker", "connect", where, "--token", self.tokens[target], *cache, *arguments)
        assert isinstance(process, Armed)
        self.machines[name] = Machine(name, self.tokens[target], process)
        return process

    def ready(self, *names: str, concurrency: int = 2) -> None:
        """An orchestrator and these machines, waiting for work."""
        self.serve().wait_for_line("listening on ws://", timeout=60)
        for name in names:
            self.join(name, "--concurrency", str(concurrency))
        for name in names:
            self.machines[name].process.wait_for_line("enrolled as .* and waiting for work", timeout=60)

    @property
    def processes(self) -> dict[str, Armed]:
        return {
            "orchestrator": self.orchestrator,
            **{name: machine.process for name, machine in self.machines.items()},
        }

    def machine_id(self, name: str) -> str:
        """As the machine's own log says."""
        self.machines[name].process._next_line = 0
        return self.machines[name].process.wait_for_line(r"\(machine (\w+)")[1]

    def redis(self) -> redis.Redis:
        """The server with all rights, as nobody but the orchestrator has them."""
        port = json.loads((self.stage.root / ".swamp/redis/embedded.json").read_text())["port"]
        keys = json.loads((self.stage.root / ".swamp/keys/orchestrator.json").read_text())
        return redis.Redis(port=port, username="swamp", password=keys["redisOrchestrator"])

    def redis_pid(self) -> int:
        """Raises `ProcessLookupError` while no server runs, and `OSError` or `ValueError` while one starts."""
        return server_pid(self.stage.root)

    # ------------------------------------------------------------------ what there is to do

    def models(self) -> None:
        self.stage.model("quick", NOTE + "echo done")
        self.stage.model("slow", NOTE + "echo waiting; sleep 0.3; echo done")
        self.stage.model("big", NOTE + "head -c 200000 /dev/zero | tr '\\0' x")
        self.stage.model("bad", NOTE + "exit 3")
        echo = {"type": "swamp/probe", "id": str(uuid.uuid4()), "name": "probe", "version": 1}
        file = self.stage.root / "models/swamp/probe/probe.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({**echo, "methods": {"echo": {"arguments": {"message": "hello"}}}}))

    def workflow(self, name: str, *jobs: dict[str, object]) -> None:
        self.stage.workflow_of(name, *jobs)

    def mixture(self, width: int) -> list[str]:
        """The names of workflows that have everything in them: both kinds of targets and of steps, chains, big results,
        failures, and steps without a process."""
        self.models()
        for target in (NODE, FLEET):
            steps = []
            for number in range(width):
                policy = "retry" if number % 2 else "fail"
                model = ("quick", "slow", "quick", "big")[number // 2 % 4]
                steps.append(placed(f"s{number}", model, target, policy))
            steps.append(placed("bad", "bad", target, "fail"))
            steps.append(placed("never", "quick", target, "fail", after=[("bad", "succeeded")]))
            chain = [placed("c0", "quick", target, "fail")]
            for number in range(1, 4):
                after = [(f"c{number - 1}", "completed")]
                chain.append(placed(f"c{number}", "quick", target, "retry" if number % 2 else "fail", after=after))
            probes = [
                placed(f"p{number}", "probe", target, "fail" if number % 3 else "retry") for number in range(width)
            ]
            self.workflow(
                f"mixed-{target}",
                {"name": "wide", "steps": steps},
                {"name": "chain", "steps": chain, "dependsOn": [{"job": "wide", "condition": "completed"}]},
                {"name": "probes", "steps": probes},
            )
            self.workflow(f"single-{target}", {"name": "one", "steps": [placed("one", "quick", target, "fail")]})
        return [f"{size}-{target}" for target in (NODE, FLEET) for size in ("mixed", "single", "single")]

    def submit(self, workflow: str) -> str | None:
        """Ask for a run; its id once it was accepted, None if nobody is there to do so."""
        run_id = str(uuid.uuid4())
        try:
            client = find(Repo(self.stage.root))
            if client is None:
                return None
            with closing(client.run({"workflow": workflow, "run": run_id})) as events:
                next(events)
        except SwampError:
            return None
        return run_id

    def submitted(self, workflow: str) -> str:
        """The id of a run, asked for until it is accepted."""
        return wait_until(lambda: self.submit(workflow), "a run to be accepted", timeout=60) or ""

    def wait_for_notes(self, fact: Callable[[Cluster], object], what: str) -> None:
        """Wait for something that is in the notes."""

        def found() -> object:
            self.notes.look()
            return fact(self)

        wait_until(found, what, PATIENCE)

    def runs_under_way(self) -> int:
        return int(self.stage.rows("SELECT count(*) FROM runs WHERE status = 'running'")[0][0])

    def come_to_rest(self, timeout: float) -> bool:
        """Whether every run has ended within `timeout` seconds."""
        with suppress(AssertionError):
            wait_until(lambda: self.runs_under_way() == 0, "every run to end", timeout)
        return self.runs_under_way() == 0


class Load:
    """Keeps runs under way while it is on, from a thread of its own; `accepted` are the ids that were told."""

    def __init__(self, cluster: Cluster, workflows: list[str], random: Random, at_once: int) -> None:
        self.accepted: list[str] = []
        self._cluster = cluster
        self._workflows = workflows
        self._random = random
        self._at_once = at_once
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_busy, daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _keep_busy(self) -> None:
        while not self._over.is_set():
            if self._cluster.runs_under_way() < self._at_once:
                run = self._cluster.submit(self._random.choice(self._workflows))
                if run is not None:
                    self.accepted.append(run)
                    continue
            self._over.wait(0.1)


def placed(
    name: str, model: str, target: str, policy: str, after: list[tuple[str, str]] | None = None
) -> dict[str, object]:
    """A step. What must not run twice is given up soon after its machine was lost."""
    depends = {"dependsOn": [{"step": on, "condition": condition} for on, condition in after]} if after else {}
    method = "echo" if model == "probe" else "execute"
    task = {"type": "model_method", "modelIdOrName": model, "methodName": method}
    return {"name": name, "target": target, "onWorkerLost": policy, "lostTimeout": 5, **depends, "task": task}


@contextmanager
def cluster(scratch: Path, runtime: Path) -> Iterator[Cluster]:
    """A repository in `scratch`; whatever is started on it ends with the block. `runtime` has a short path."""
    with ExitStack() as stack:
        yield Cluster(scratch, runtime, stack)

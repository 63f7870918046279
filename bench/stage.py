"""Swamp as a person runs it: a repository, an orchestrator with its embedded server, one worker."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import sysconfig
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from bench.procfs import Group, Meter, children
from bench.running import BenchFailed, Running, environment, free_port, run, scratch_directory, wait_until
from swamp.orchestrator.client import Client, find
from swamp.repo import Repo

SWAMP = Path(sysconfig.get_path("scripts")) / "swamp"
TARGET = "bench"
SHELL = "echo executed on a worker"  #: what `sh -c` runs in every row with a shell
MODELS = {
    "probe": ("swamp/probe", "echo.message=hello"),
    "shell": ("command/shell", f"execute.run={SHELL}"),
}
WHOLE = 900.0  #: seconds that a workflow may take


@dataclass(frozen=True)
class Ran:
    """A workflow that `swamp workflow run` has run."""

    run_id: str
    steps: int  #: that succeeded
    results: int  #: found by `swamp data query`
    per_second: float  #: from the first result on disk to the last
    whole_per_second: float  #: from the acceptance of the run to its end
    seconds: float  #: the whole command
    cpu: dict[str, float]  #: seconds, by process
    others: float  #: processors kept busy by others


class Stage:
    def __init__(self, scratch: Path, stack: ExitStack, host: str, *, clocked: bool) -> None:
        """Use `stage`."""
        self._host = host
        self._clocked = clocked
        self.scratch = scratch
        self.root = scratch / "repository"
        self.root.mkdir()
        self._stack = stack
        self._port = free_port()
        self.swamp("repo", "init")
        self.swamp("vault", "create", "local_encryption", "vault")

    # ------------------------------------------------------------------ who takes part

    def serve(self, *arguments: str) -> None:
        self.orchestrator = self._running("serve", "--host", self._host, "--port", str(self._port), *arguments)
        self.orchestrator.wait_for_line("listening on ws://")

    def token(self, *arguments: str) -> Path:
        """A file with a new token for the target."""
        created = self.swamp("worker", "token", "create", TARGET, "--duration", "1d", "--json", *arguments)
        file = self.scratch / "token"
        file.touch(mode=0o600)
        file.write_text(json.loads(created)["token"])
        return file

    def work(self, concurrency: str) -> None:
        """A worker that waits for work."""
        where = ("--token-file", self.token(), "--cache-dir", self.scratch / "cache")
        self.worker = self._running("worker", "connect", self.url, *where, "--concurrency", concurrency)
        self.worker.wait_for_line("enrolled as .* and waiting for work")

    @property
    def url(self) -> str:
        return f"ws://{self._host}:{self._port}"

    @property
    def groups(self) -> dict[str, Group]:
        """The processes that share the work: orchestrator, its embedded server if it has one, worker."""
        servers = tuple(
            pid for pid, name in children(self.orchestrator.pid).items() if "valkey" in name or "redis" in name
        )
        return {
            "orchestrator": Group(self.orchestrator.pid, without=servers),
            **({"redis": Group(servers[0])} if servers else {}),
            **({"worker": Group(self.worker.pid)} if hasattr(self, "worker") else {}),
        }

    @cached_property
    def client(self) -> Client:
        client = find(Repo(self.root))
        if client is None:
            raise BenchFailed("the orchestrator is gone")
        return client

    # ------------------------------------------------------------------ what there is to do

    def workflow(self, name: str, steps: int, model: str, method: str) -> None:
        """A workflow of one job with many steps that wait for nothing. `model` is one of `MODELS`."""
        kind, argument = MODELS[model]
        if not (self.root / "models" / kind / f"{model}.yaml").exists():
            self.swamp("model", "create", kind, model, "--arg", argument)
        task = f"{{type: model_method, modelIdOrName: {model}, methodName: {method}}}"
        with (self.root / "workflows" / f"{name}.yaml").open("w") as file:
            file.write(f"id: {uuid.uuid4()}\nname: {name}\njobs:\n  - name: build\n    steps:\n")
            for number in range(steps):
                file.write(f"      - name: step-{number}\n        target: {TARGET}\n        task: {task}\n")
            file.write("version: 1\n")

    def follow(self, workflow: str) -> None:
        """Run it from here, until it is told that the run has ended, which is told once that is on disk."""
        for event in self.client.run({"workflow": workflow}):
            if event["kind"] == "run-finished" and event["status"] != "succeeded":
                raise BenchFailed(f"a run ended so: {event}")

    def warm(self, model: str, method: str) -> None:
        """One step, so that whatever is done once has been done."""
        self.workflow("warm", 1, model, method)
        self.follow("warm")

    def run(self, workflow: str) -> Ran:
        """Run it by the command, its screen a file, and look at what came of it."""
        groups = self.groups
        meter = Meter(groups)
        with (self.scratch / "screen").open("wb") as screen:
            begin = time.monotonic()
            command = subprocess.Popen(
                [SWAMP, "workflow", "run", workflow], cwd=self.root, env=environment(self._env),
                stdin=subprocess.DEVNULL, stdout=screen, stderr=screen,
            )  # fmt: skip
            try:
                code, usage = _end_of(command)
            except BaseException:
                command.kill()
                command.wait()
                raise
            seconds = time.monotonic() - begin
        if code != 0:
            shown = (self.scratch / "screen").read_text(errors="replace")
            raise BenchFailed(f"the workflow ended with {code}:\n{shown[-2000:]}\n{self.orchestrator.output()[-2000:]}")
        cpu, others = meter.read(more=[usage])
        run_id, steps, first, last = self._finished(workflow)
        accepted, ended = self._run_times(run_id)
        return Ran(
            run_id=run_id,
            steps=steps,
            results=self._queryable(run_id),
            per_second=(steps - 1) / max(last - first, 0.001),
            whole_per_second=steps / max(ended - accepted, 0.001),
            seconds=seconds,
            cpu={**cpu, "command": usage},
            others=others,
        )

    def swamp(self, *arguments: str) -> str:
        return run([SWAMP, *arguments], self.root, self._env)

    # ------------------------------------------------------------------ inside

    @property
    def _env(self) -> dict[str, str]:
        return {"XDG_RUNTIME_DIR": str(self.scratch)}

    def _running(self, *arguments: str | Path) -> Running:
        screen = self.scratch / f"{arguments[0]}.log"
        command: list[str | Path] = [SWAMP]
        env = self._env
        if self._clocked:
            command = [sys.executable, "-m", "bench.staged", self._times_of(str(arguments[0]))]
            env = {**env, "PYTHONPATH": str(Path(__file__).parents[1])}
        return self._stack.enter_context(Running([*command, *arguments], self.root, env, screen))

    def _times_of(self, command: str) -> Path:
        return self.scratch / f"{command}.times"

    def times(self) -> dict[str, dict[str, list[float]]]:
        """What the stages of orchestrator and worker took since the last call (see `bench.staged`)."""
        taken = {}
        for name, process, command in (("orchestrator", self.orchestrator, "serve"), ("worker", self.worker, "worker")):
            file = self._times_of(command)
            file.unlink(missing_ok=True)
            os.kill(process.pid, signal.SIGUSR1)
            wait_until(file.exists, "the times of the stages")
            taken[name] = json.loads(file.read_text())
        return taken

    def _finished(self, workflow: str) -> tuple[str, int, float, float]:
        """The newest run: its id, how many steps succeeded, when the first and the last was stored (unix seconds)."""
        with closing(sqlite3.connect(f"file:{self.root / '.swamp/data/swamp.db'}?mode=ro", uri=True)) as database:
            (run_id,) = database.execute(
                "SELECT id FROM runs WHERE workflow_name = ? ORDER BY seq DESC LIMIT 1", (workflow,)
            ).fetchone()
            steps, first, last = database.execute(
                "SELECT count(*), min(event ->> 'time'), max(event ->> 'time') FROM run_events WHERE run_id = ?"
                " AND event ->> 'kind' = 'step-finished' AND event ->> 'status' = 'succeeded'",
                (run_id,),
            ).fetchone()
        return run_id, steps, datetime.fromisoformat(first).timestamp(), datetime.fromisoformat(last).timestamp()

    def _run_times(self, run_id: str) -> tuple[float, float]:
        """When the run was accepted and when it had ended, as its own events say (unix seconds)."""
        with closing(sqlite3.connect(f"file:{self.root / '.swamp/data/swamp.db'}?mode=ro", uri=True)) as database:
            times = dict(
                database.execute(
                    "SELECT event ->> 'kind', event ->> 'time' FROM run_events WHERE run_id = ?"
                    " AND event ->> 'kind' IN ('run-accepted', 'run-finished')",
                    (run_id,),
                )
            )
        accepted, ended = (datetime.fromisoformat(times[kind]).timestamp() for kind in ("run-accepted", "run-finished"))
        return accepted, ended

    def _queryable(self, run_id: str) -> int:
        predicate = f'runId == "{run_id}" && specName == "result" && version > 0'
        return int(json.loads(self.swamp("data", "query", predicate, "--select", "version", "--json"))["total"])


@contextmanager
def stage(host: str = "127.0.0.1", *, clocked: bool = False) -> Iterator[Stage]:
    """A repository in a directory of its own; whatever is started on it ends with the block. `clocked` for `times`."""
    with scratch_directory() as scratch, ExitStack() as stack:
        yield Stage(scratch, stack, host, clocked=clocked)


def expect(ran: Ran, steps: int) -> Ran:
    """Every step succeeded and its result can be found; else `BenchFailed`."""
    if (ran.steps, ran.results) != (steps, steps):
        raise BenchFailed(f"of {steps} steps {ran.steps} succeeded, and {ran.results} results are found")
    return ran


def _end_of(command: subprocess.Popen[bytes]) -> tuple[int, float]:
    """The exit code of a command and the processor time that it took."""
    deadline = time.monotonic() + WHOLE
    while True:
        pid, status, usage = os.wait4(command.pid, os.WNOHANG)
        if pid:
            command.returncode = os.waitstatus_to_exitcode(status)
            return command.returncode, usage.ru_utime + usage.ru_stime
        if time.monotonic() > deadline:
            raise BenchFailed(f"the workflow did not end within {WHOLE:g} s")
        time.sleep(0.002)

"""A repository to perform on: with a vault, on a port of its own, with short ways to what the tests need in it."""

from __future__ import annotations

import json
import shlex
import sqlite3
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.processes import Ended, RunningSwamp, free_port, port_is_free, run_swamp
from tests.waiting import wait_until

Start = Callable[..., RunningSwamp]


def step(name: str, model: str, target: str = "", after: Sequence[tuple[str, str]] = ()) -> dict[str, object]:
    """A step of a workflow; `after` are steps of the same job with the conditions on them."""
    placed = {"target": target} if target else {}
    depends = {"dependsOn": [{"step": on, "condition": condition} for on, condition in after]} if after else {}
    task = {"type": "model_method", "modelIdOrName": model, "methodName": "execute"}
    return {"name": name, **placed, **depends, "task": task}


def until(file: Path) -> str:
    """Shell: go on when `file` is there."""
    return f"while [ ! -e {shlex.quote(str(file))} ]; do sleep 0.02; done"


def is_alive(pid: int) -> bool:
    """Whether the process runs, on Linux; one that waits for its parent to notice its end does not."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


@dataclass
class Stage:
    """`root` is the repository. Every process that it starts is ended after the test."""

    root: Path
    scratch: Path  #: for what does not belong into the repository
    runtime: Path  #: where sockets are made
    start_swamp: Start
    port: int = field(default_factory=free_port)
    blabs: list[RunningSwamp] = field(default_factory=list)  #: those which print secrets, as their test wants it
    inside: Sequence[str] = ()  #: a command by which everything is run, somewhere else
    host: str = "localhost"

    def neighbour(self) -> Stage:
        """Another repository beside this one."""
        root = self.root.with_name("neighbour")
        assert run_swamp("repo", "init", root, cwd=self.scratch).code == 0
        return Stage(root, self.scratch, self.runtime, self.start_swamp)

    # ------------------------------------------------------------------ commands

    def swamp(self, *arguments: str | Path, timeout: float = 30.0) -> Ended:
        """Run a command to its end, in the repository."""
        return run_swamp(*arguments, cwd=self.root, env=self.env, timeout=timeout, inside=self.inside)

    def json(self, *arguments: str | Path) -> Any:
        """What the command printed with `--json`; it must have succeeded."""
        done = self.swamp(*arguments, "--json")
        assert done.code == 0, done
        return json.loads(done.stdout)

    def start(self, *arguments: str | Path) -> RunningSwamp:
        """Start a command that keeps running, in the repository."""
        return self.start_swamp(*arguments, cwd=self.root, env=self.env, inside=self.inside)

    @property
    def env(self) -> dict[str, str]:
        return {"XDG_RUNTIME_DIR": str(self.runtime)}

    @property
    def url(self) -> str:
        return f"ws://{self.host}:{self.port}"

    # ------------------------------------------------------------------ who takes part

    def serve(self, *arguments: str) -> RunningSwamp:
        """An orchestrator, ready."""
        orchestrator = self.start("serve", "--port", str(self.port), *arguments)
        orchestrator.wait_for_line(rf"listening on ws://127\.0\.0\.1:{self.port}")
        return orchestrator

    def token(self, name: str = "node", duration: str = "1h") -> str:
        """The text of a new token."""
        return str(self.json("worker", "token", "create", name, "--duration", duration)["token"])

    def connect(self, token: str, cache: str = "cache", *arguments: str) -> RunningSwamp:
        """A worker, on its way."""
        where = self.scratch / cache
        return self.start("worker", "connect", self.url, "--token", token, "--cache-dir", where, *arguments)

    def worker(self, token: str, cache: str = "cache", *arguments: str) -> RunningSwamp:
        """A worker, waiting for work."""
        worker = self.connect(token, cache, *arguments)
        worker.wait_for_line("enrolled as .* and waiting for work")
        return worker

    # ------------------------------------------------------------------ what there is to do

    def model(self, name: str, run: str, **arguments: object) -> None:
        """A `command/shell` model."""
        document = {
            "type": "command/shell",
            "id": str(uuid.uuid4()),
            "name": name,
            "version": 1,
            "tags": {},
            "globalArguments": {},
            "methods": {"execute": {"arguments": {"run": run, **arguments}}},
        }
        file = self.root / "models" / "command" / "shell" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(document), encoding="utf-8")

    def workflow(self, name: str, *steps: dict[str, object]) -> None:
        """A workflow of one job, `build`."""
        self.workflow_of(name, {"name": "build", "steps": list(steps)})

    def workflow_of(self, name: str, *jobs: dict[str, object]) -> None:
        document = {"id": str(uuid.uuid4()), "name": name, "version": 1, "jobs": list(jobs)}
        (self.root / "workflows" / f"{name}.yaml").write_text(json.dumps(document), encoding="utf-8")

    def task(self, name: str, run: str, target: str = "node", **arguments: object) -> None:
        """A model, and a workflow of one step that runs it; both are called `name`."""
        self.model(name, run, **arguments)
        self.workflow(name, step(name, name, target))

    def run(self, workflow: str, code: int = 0) -> Ended:
        """Run a workflow to its end; it must exit with `code`."""
        done = self.swamp("workflow", "run", workflow)
        assert done.code == code, done
        return done

    def start_run(self, workflow: str) -> RunningSwamp:
        return self.start("workflow", "run", workflow)

    # ------------------------------------------------------------------ what came of it

    def history(self) -> list[dict[str, Any]]:
        """All runs, newest first."""
        return list(self.json("workflow", "history", "search"))

    def statuses(self) -> dict[str, str]:
        """How the newest run of each workflow ended, or `running`."""
        return {run["workflowName"]: run["status"] for run in reversed(self.history())}

    def query(self, predicate: str, select: str) -> list[Any]:
        """What the newest data that match have to show."""
        return list(self.json("data", "query", predicate, "--select", select)["results"])

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of the database, as they are on disk now."""
        with closing(sqlite3.connect(f"file:{self.root / '.swamp/data/swamp.db'}?mode=ro", uri=True)) as connection:
            return connection.execute(statement, values).fetchall()

    def workers(self) -> dict[str, str]:
        """Every worker's status."""
        return {worker["name"]: worker["status"] for worker in self.json("worker", "list")}

    def nothing_serves(self) -> None:
        """Wait until nothing of an orchestrator is left but its data."""
        wait_until(lambda: port_is_free(self.port), "the port to be free")
        assert not (self.root / ".swamp/serve.json").exists()
        assert list(self.runtime.iterdir()) == []

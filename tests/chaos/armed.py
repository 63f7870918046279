"""`swamp`, with the points of `tests.chaos.points` in it: `python tests/chaos/armed.py serve …`.

Lines that come in on the descriptor CHAOS_CONTROL arm it: `point TAB n TAB action`. At the nth passing of the point it
appends to the file CHAOS_NOTES what it is about to do, synced, and does it: `kill` (itself), `stop` (itself, until
somebody continues it), `server` (kills the Redis server) or `flush` (empties it).

A worker also notes every step that it is about to start, before it does, and every result that its outbox has, and
tells the step who it is, by CHAOS_DISPATCH, CHAOS_MACHINE and CHAOS_EPOCH: the steps under test note that they run.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[0] = str(ROOT)

from swamp.models.spawner import NotBegun  # noqa: E402
from tests.chaos import points  # noqa: E402
from tests.chaos.server import server_pid  # noqa: E402


class Notes:
    """A file that several processes append whole lines to. A line is on the disk before anything else happens."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._sync = bool(os.environ.get("CHAOS_SYNC"))

    def add(self, *words: object) -> None:
        os.write(self._descriptor, ("\t".join(map(str, (*words, f"{time.time():.6f}"))) + "\n").encode())
        if self._sync:
            os.fsync(self._descriptor)


class Trigger:
    """Knows which point is armed, counts its passings, and acts."""

    def __init__(self, notes: Notes, actions: Mapping[str, Callable[[], None]]) -> None:
        self._notes = notes
        self._actions = actions
        self._lock = threading.Lock()
        self._armed = ("", 0, "")

    def listen(self, control: int) -> None:
        with open(control, encoding="utf-8") as lines:
            for line in lines:
                point, count, action = line.rstrip("\n").split("\t")
                with self._lock:
                    self._armed = (point, int(count), action)

    def passed(self, point: points.Point, call: points.Call) -> None:
        if self._armed[0] != point.name:
            return
        try:
            meant = point.counts(call)
        except Exception:
            # The real code has changed. Raised, this would be one more fault for it to live with.
            traceback.print_exc()
            os._exit(70)
        if not meant:
            return
        with self._lock:
            name, count, action = self._armed
            if name != point.name:
                return
            self._armed = (name, count - 1, action) if count > 1 else ("", 0, "")
            if count > 1:
                return
            self._notes.add("hit", name, action, os.getpid())
            self._actions[action]()


def wrap(where: str, around: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace a function of the real code. Raises `AttributeError` or `ImportError` if it is not there (any more)."""
    module, _, path = where.partition(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    setattr(owner, name, functools.wraps(getattr(owner, name))(around(getattr(owner, name))))


def set_points(trigger: Trigger, role: points.Role) -> None:
    for where in dict.fromkeys(point.where for point in points.of(role)):
        before = [point for point in points.of(role) if point.where == where and point.when == "before"]
        after = [point for point in points.of(role) if point.where == where and point.when == "after"]

        def around(
            real: Callable[..., Any], before: list[points.Point] = before, after: list[points.Point] = after
        ) -> Callable[..., Any]:
            def armed(*arguments: Any, **named: Any) -> Any:
                for point in before:
                    trigger.passed(point, points.Call(arguments))
                result = real(*arguments, **named)
                for point in after:
                    trigger.passed(point, points.Call(arguments, result))
                return result

            return armed

        wrap(where, around)


def note_starts(notes: Notes) -> None:
    """Have the worker note what it starts, and tell the steps who they are."""
    me = {"epoch": 0}
    slots: list[Any] = []

    def around_worker(real: Callable[..., Any]) -> Callable[..., Any]:
        def made(worker: Any, *arguments: Any, **named: Any) -> None:
            real(worker, *arguments, **named)
            me["epoch"] = worker._epoch
            slots.append(worker._slots)

        return made

    def around_answer(real: Callable[..., Any]) -> Callable[..., Any]:
        def answer(of: Any, dispatch: Any) -> Any:
            notes.add("start", dispatch.id, of._machine, me["epoch"])
            notes.add("ran", dispatch.id, of._machine, me["epoch"])
            return real(of, dispatch)

        return answer

    def around_invoke(real: Callable[..., Any]) -> Callable[..., Any]:
        def invoke(invocation: Any, surroundings: Any, now: Any) -> Any:
            for dispatch, cancellation in list(slots[0].running.items()):
                if cancellation is surroundings.cancellation:
                    notes.add("start", dispatch, surroundings.machine, me["epoch"])
                    told = {
                        "CHAOS_DISPATCH": dispatch,
                        "CHAOS_MACHINE": surroundings.machine,
                        "CHAOS_EPOCH": str(me["epoch"]),
                    }
                    surroundings = replace(surroundings, environment={**surroundings.environment, **told})
            try:
                return real(invocation, surroundings, now)
            except NotBegun:
                told = surroundings.environment
                notes.add("withdrawn", told["CHAOS_DISPATCH"], surroundings.machine, me["epoch"])
                raise

        return invoke

    def around_put(real: Callable[..., Any]) -> Callable[..., Any]:
        def put_many(outbox: Any, items: Any) -> None:
            real(outbox, items)
            for dispatch, _ in items:
                notes.add("kept", dispatch, slots[0]._machine, me["epoch"])

        return put_many

    wrap("workers.worker:Worker.__init__", around_worker)
    wrap("workers.outbox:Outbox.put_many", around_put)
    wrap("workers.slots:Slots.answer", around_answer)
    wrap("workers.slots:invoke", around_invoke)


def actions(repository: Path) -> dict[str, Callable[[], None]]:
    me = os.getpid()

    def flush() -> None:
        import redis

        port = json.loads((repository / ".swamp/redis/embedded.json").read_text())["port"]
        keys = json.loads((repository / ".swamp/keys/orchestrator.json").read_text())
        with redis.Redis(port=port, username="swamp", password=keys["redisOrchestrator"]) as server:
            server.flushall()

    def kill_server() -> None:
        with suppress(OSError, ValueError):  # it is gone already
            os.kill(server_pid(repository), signal.SIGKILL)

    return {
        "kill": lambda: os.kill(me, signal.SIGKILL),
        "stop": lambda: os.kill(me, signal.SIGSTOP),
        "server": kill_server,
        "flush": flush,
    }


def main() -> None:
    control = int(os.environ.pop("CHAOS_CONTROL"))
    os.set_inheritable(control, False)
    notes = Notes(os.environ["CHAOS_NOTES"])
    trigger = Trigger(notes, actions(Path.cwd()))
    role: points.Role = "serve" if sys.argv[1] == "serve" else "worker"
    if role == "worker":
        note_starts(notes)
    set_points(trigger, role)
    threading.Thread(target=trigger.listen, args=(control,), daemon=True).start()

    from swamp.cli.main import main as swamp

    swamp()


if __name__ == "__main__":
    main()

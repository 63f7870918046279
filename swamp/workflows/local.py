"""Runs that a command drives itself, without an orchestrator: `model method run`, and workflows without targets."""

from __future__ import annotations

import fcntl
import os
import queue
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import FrameType

from swamp.clock import iso_now
from swamp.data import journal
from swamp.data.store import Store
from swamp.errors import Interrupted, Unreachable
from swamp.models.catalog import find_model
from swamp.models.definition import invocation
from swamp.models.environment import step_environment
from swamp.models.invocation import Invocation
from swamp.models.kept import spawner_that_leaves_nothing
from swamp.models.resolve import check_secrets
from swamp.models.spawner import Spawner
from swamp.repo import Repo
from swamp.vaults.catalog import read_for_step
from swamp.workflows.beside import LocalFinished, LocalOutput, LocalSteps
from swamp.workflows.catalog import find_workflow
from swamp.workflows.engine import Engine, Start
from swamp.workflows.events import Event
from swamp.workflows.plan import Plan, plan_method, plan_workflow
from swamp.workflows.workflow import Task

#: Seconds between TERM and KILL for the steps of a run that Ctrl-C ends; Ctrl-C once more ends them at once.
GRACE = 10.0
_KILLED = 5.0  # seconds that killed steps get to be gone


def plan_of_workflow(repo: Repo, name: str) -> Plan:
    """The plan of a workflow as it stands in the repository now. Raises what is wrong with it or its models."""

    def resolve(task: Task) -> Invocation:
        call = invocation(find_model(repo, task.model), task.method, task.inputs)
        check_secrets(call, partial(read_for_step, repo))
        return call

    return plan_workflow(find_workflow(repo, name), resolve)


def run_workflow(
    repo: Repo,
    name: str,
    listener: Callable[[Event], None],
    environ: Mapping[str, str],
    timeout: timedelta | None = None,
) -> str:
    """Run a workflow here, at most as long as `timeout`; returns its status. `listener` hears every event after it was
    stored.

    Raises `Unreachable`, before anything has started, for a workflow that places a step on a target.
    """
    plan = plan_of_workflow(repo, name)
    if plan.targets:
        raise Unreachable(
            f"workflow '{name}' places steps on {_listed(plan.targets)}, and no orchestrator runs for this repository",
            hint="start one in another terminal with: swamp serve",
            code="no_orchestrator",
        )
    return _drive(repo, plan, listener, environ, timeout)


def run_method(
    repo: Repo,
    model: str,
    method: str,
    inputs: Mapping[str, object],
    listener: Callable[[Event], None],
    environ: Mapping[str, str],
) -> str:
    """Run one method of a model here; returns its status."""
    call = invocation(find_model(repo, model), method, inputs)
    check_secrets(call, partial(read_for_step, repo))
    return _drive(repo, plan_method(call), listener, environ)


def _listed(names: frozenset[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))


def _drive(
    repo: Repo,
    plan: Plan,
    listener: Callable[[Event], None],
    environ: Mapping[str, str],
    timeout: timedelta | None = None,
) -> str:
    spawner = spawner_that_leaves_nothing()
    with closing(spawner):
        spawner.start()  # while the rest gets ready
        with closing(Store.open(repo.database, repo.blobs, create=True)) as store:
            end_abandoned_runs(repo, store)
            run_id = str(uuid.uuid4())
            with _driving(repo, run_id):
                status, broken_off = _drive_to_the_end(repo, store, run_id, plan, listener, environ, timeout, spawner)
        if status != "canceled" and not broken_off:
            spawner.close(leave=True)  # what a step has started in the background may be what it was for
    if broken_off and status != "succeeded":
        raise Interrupted(f"the run was interrupted: {status}", hint=f"see: swamp workflow history get {run_id}")
    return status


@dataclass(frozen=True, slots=True)
class _AskedToEnd:
    """Somebody pressed Ctrl-C, or sent a signal that means the same."""

    how: str  #: for people


_Inbox = queue.SimpleQueue[LocalOutput | LocalFinished | _AskedToEnd]
_SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "a TERM signal", signal.SIGHUP: "the end of its terminal"}


def _drive_to_the_end(
    repo: Repo,
    store: Store,
    run_id: str,
    plan: Plan,
    listener: Callable[[Event], None],
    environ: Mapping[str, str],
    timeout: timedelta | None,
    spawner: Spawner,
) -> tuple[str, bool]:
    """The status it ended with, and whether somebody broke it off."""
    engine = Engine(repo.blobs, iso_now, owner="command")
    inbox: _Inbox = queue.SimpleQueue()
    steps = LocalSteps(repo.root, step_environment(environ), inbox.put, partial(read_for_step, repo), spawner)
    interrupted = False

    def save(accept: bool = False) -> list[tuple[str, str]]:
        with store.write() as tx:
            if accept:
                engine.accept(tx, run_id, plan, timeout)
            saved = engine.save(tx, _no_targets)
        for event in saved.events:
            listener(event)
        for start in saved.local:
            steps.start(start)
        return saved.ended

    try:
        with _signals_come_through(inbox):
            ended = save(accept=True)
            while not ended:
                for message in _received(inbox, 0.0 if engine.dirty else engine.seconds_to_deadline()):
                    match message:
                        case LocalOutput():
                            engine.output(run_id, message.position, message.stream, message.text)
                        case LocalFinished():
                            engine.finished(run_id, message.position, message.outcome)
                        case _AskedToEnd():
                            engine.cancel(run_id)
                            steps.cancel_all(f"canceled with {message.how}", 0.0 if interrupted else GRACE)
                            interrupted = True
                for overdue in engine.overdue():
                    engine.cancel(overdue)
                    steps.cancel_all(engine.runs[overdue].why_canceled, GRACE)
                ended = save()
    finally:
        if not steps.idle:
            _end_at_once(steps, inbox)
    return ended[0][1], interrupted


def _received(inbox: _Inbox, patience: float | None) -> list[LocalOutput | LocalFinished | _AskedToEnd]:
    """What has come in; waits for something, at most `patience` seconds."""
    messages: list[LocalOutput | LocalFinished | _AskedToEnd] = []
    with suppress(queue.Empty):
        messages.append(inbox.get(timeout=patience))
        while len(messages) < 1000:
            messages.append(inbox.get_nowait())
    return messages


@contextmanager
def _signals_come_through(inbox: _Inbox) -> Iterator[None]:
    """Ctrl-C and its like come as a message, so that they never break off a transaction or what is being shown. The
    third one interrupts all the same."""
    heard = 0

    def hear(number: int, frame: FrameType | None) -> None:
        nonlocal heard
        heard += 1
        if heard > 2:
            raise KeyboardInterrupt
        inbox.put(_AskedToEnd(_SIGNALS[signal.Signals(number)]))

    # Other threads cannot hear them, and a command started with `nohup` or `&` is not meant to.
    by_default = (signal.default_int_handler, signal.SIG_DFL)
    main = threading.current_thread() is threading.main_thread()
    previous = {it: handler for it in _SIGNALS if main and (handler := signal.getsignal(it)) in by_default}
    for number in previous:
        signal.signal(number, hear)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _end_at_once(steps: LocalSteps, inbox: _Inbox) -> None:
    """After an error, or the last Ctrl-C: no step outlives the command that ran it."""
    steps.cancel_all("the command that ran it ended", 0.0)
    deadline = time.monotonic() + _KILLED
    while not steps.idle and (left := deadline - time.monotonic()) > 0:
        with suppress(queue.Empty):
            inbox.get(timeout=left)


def _no_targets(start: Start) -> str:
    raise Unreachable(f"step '{start.step}' is placed on '{start.target}'", hint="start an orchestrator: swamp serve")


# ---------------------------------------------------------------------- who drives which run


@contextmanager
def _driving(repo: Repo, run_id: str) -> Iterator[None]:
    """Hold the run's lock file: as long as it is held, nobody takes the run for abandoned."""
    path = _lock_path(repo, run_id)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _lock_path(repo: Repo, run_id: str) -> Path:
    return repo.state / "runs" / f"{run_id}.lock"


def end_abandoned_runs(repo: Repo, store: Store) -> None:
    """Give every run whose command was killed its end: nothing stays `running` for ever."""
    with store.read() as tx:
        candidates = [run.id for run in journal.active_runs(tx, "command")]
    abandoned = [run_id for run_id in candidates if not _is_driven(repo, run_id)]
    if not abandoned:
        return
    engine = Engine(repo.blobs, iso_now, owner="command")
    with store.write() as tx:
        engine.load(tx, only=abandoned)
        for run_id in abandoned:
            for position in engine.cancel(run_id):
                engine.given_up(run_id, position, "failed", "the command that ran it was killed")
        engine.save(tx, _no_targets)
    for run_id in abandoned:
        _lock_path(repo, run_id).unlink(missing_ok=True)


def _is_driven(repo: Repo, run_id: str) -> bool:
    try:
        descriptor = os.open(_lock_path(repo, run_id), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # two that look do not take each other for the driver
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False

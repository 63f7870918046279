"""The orchestrator's port: requests of the command line, event streams, the WebSocket of workers, and what others
watch it by."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from swamp.clock import parse_duration, utc_now
from swamp.data import journal
from swamp.errors import Invalid, NotAllowed, NotFound, SwampError
from swamp.monitoring.health import Readiness, health_routes
from swamp.names import did_you_mean
from swamp.orchestrator import fleet
from swamp.orchestrator.core import Core
from swamp.orchestrator.enrollment import Enrollment
from swamp.orchestrator.figures import exposition
from swamp.orchestrator.gate import Guest, Reception, refusal
from swamp.orchestrator.readiness import why_not_ready
from swamp.orchestrator.slowness import Slowness
from swamp.orchestrator.streaming import EventStream, Reader
from swamp.tokens import store as tokens
from swamp.wire.messages import SESSION_PATH
from swamp.workflows.plan import Plan, plan_probe
from swamp.workflows.remembered import RememberedPlans

log = logging.getLogger("swamp.orchestrator")

_BATCH = 500  #: events sent in one piece
_LAST = '"run-finished"'  #: in the last event of a run, and maybe in others


class Watchers:
    """Who waits for events of which run. `notify` may be called from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self.over = False  #: the orchestrator is going down: nothing more will be told

    def end(self) -> None:
        """Send everybody away who waits. Belongs to the loop's thread."""
        self.over = True
        self.wake_all()

    def wake_all(self) -> None:
        """Have everybody look again. Belongs to the loop's thread."""
        self._wake(set(self._waiting))

    def notify(self, runs: set[str]) -> None:
        # Who comes to watch later will find what these were to be told of.
        if not any(run in self._waiting for run in runs):
            return
        try:
            self._loop.call_soon_threadsafe(self._wake, runs)
        except RuntimeError:
            log.debug("nobody can watch any more: the orchestrator is going down")

    def _wake(self, runs: set[str]) -> None:
        for run in runs:
            for event in self._waiting.get(run, ()):
                event.set()

    def watch(self, run: str, event: asyncio.Event) -> None:
        self._waiting.setdefault(run, set()).add(event)

    def unwatch(self, run: str, event: asyncio.Event) -> None:
        watching = self._waiting[run]
        watching.discard(event)
        if not watching:
            del self._waiting[run]


class App:
    """The requests of the command line. Who may ask is decided by the gate before it."""

    def __init__(self, core: Core, watchers: Watchers, reception: Reception, slowness: Slowness, repo_id: str) -> None:
        self._core = core
        self._watchers = watchers
        self._reception = reception
        self._repo_id = repo_id
        self._plans = RememberedPlans(core.repo)
        enrollment = Enrollment(core, slowness)
        self._readiness = readiness = Readiness(lambda: why_not_ready(core))
        self.asgi = Starlette(
            routes=[
                *health_routes(lambda: core.alive, readiness),
                Route("/metrics", self._metrics),
                Route("/api/ping", self._answering(self._ping)),
                Route("/api/runs", self._answering(self._run), methods=["POST"]),
                Route("/api/runs/{run}/events", self._answering(self._events)),
                Route("/api/runs/{run}/cancel", self._answering(self._cancel), methods=["POST"]),
                Route("/api/tokens/{name}/changed", self._answering(self._token_changed), methods=["POST"]),
                Route("/api/access/changed", self._answering(self._access_changed), methods=["POST"]),
                Route("/api/workers", self._answering(self._workers)),
                Route("/api/workers/drained", self._answering(self._drained), methods=["POST"]),
                Route("/api/ready", self._answering(self._ready)),
                Route("/api/queue", self._answering(self._queue)),
                WebSocketRoute(SESSION_PATH, enrollment.serve),
            ]
        )

    def _answering(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def answering(request: Request) -> Response:
            try:
                return await handler(request)
            except SwampError as error:
                return refusal(error)

        return answering

    async def _metrics(self, request: Request) -> Response:
        accept = request.headers.get("accept", "")
        content, content_type = await asyncio.to_thread(exposition, self._core, accept)
        return Response(content, headers={"content-type": content_type})

    async def _ping(self, _request: Request) -> Response:
        return JSONResponse({"repoId": self._repo_id})

    async def _run(self, request: Request) -> Response:
        """Accept a run of a workflow, or a probe, and tell its events."""
        wanted = await _wanted(request)
        plan = plan_probe(wanted.probe) if wanted.probe else self._plans.find(wanted.workflow)
        if plan is None:
            plan = await asyncio.to_thread(self._plans.make, wanted.workflow)
        if self._core.remote_only:
            _check_remote(plan)
        await asyncio.wrap_future(self._core.ask(partial(self._accept, wanted, plan)))
        return self._stream(Guest.of(request), wanted.run, 0, True)

    def _accept(self, wanted: _Wanted, plan: Plan, tx: sqlite3.Connection) -> None:
        if journal.has_run(tx, wanted.run):  # asked for twice: the first answer got lost
            return
        _check_targets(tx, plan)
        what = f"a probe of {wanted.probe}" if wanted.probe else f"workflow {plan.workflow_name}"
        self._core.pace.always("run %s received: %s", wanted.run, what, about=partial(dict, run=wanted.run))
        self._core.engine.accept(tx, wanted.run, plan, wanted.timeout)

    async def _events(self, request: Request) -> Response:
        run_id = request.path_params["run"]
        after = request.query_params.get("after", "0")
        if not after.isdecimal():
            raise Invalid(f"'{after}' is no number of an event")
        with self._core.store.read() as tx:
            run_id = journal.get_run(tx, run_id).id
        follow = request.query_params.get("follow", "1") != "0"
        return self._stream(Guest.of(request), run_id, int(after), follow)

    def _stream(self, guest: Guest, run_id: str, after: int, follow: bool) -> Response:
        return EventStream(partial(self._lines, guest, run_id, after, follow))

    async def _lines(self, guest: Guest, run_id: str, after: int, follow: bool, reader: Reader) -> AsyncIterator[bytes]:
        """Stored events, in order, from number `after` + 1 on, until the run has ended, or, not to `follow`, until
        there are no more. What is told was stored, so nothing is told twice or left out, however slow the reader is.
        A guest whose token is over is told nothing more."""
        self._watchers.watch(run_id, reader.woken)
        try:
            while True:
                reader.woken.clear()
                with self._core.store.read() as tx:
                    rows = journal.read_event_lines(tx, run_id, after, _BATCH)
                    # Whether it has ended is asked for once the last word may have been read.
                    ended = (not rows or _LAST in rows[-1][1]) and journal.has_ended(tx, run_id)
                if reader.gone or not self._reception.still_admits(guest):
                    return
                if rows:
                    after = rows[-1][0]
                    yield "".join(f"{line}\n" for _, line in rows).encode()
                if len(rows) == _BATCH:
                    continue
                if ended or not follow or self._watchers.over:
                    return
                await reader.woken.wait()
        finally:
            self._watchers.unwatch(run_id, reader.woken)

    async def _cancel(self, request: Request) -> Response:
        run_id = request.path_params["run"]

        def cancel(tx: sqlite3.Connection) -> tuple[journal.RunRow, bool]:
            run = journal.run_to_cancel(tx, run_id)
            return run, self._core.cancel_run(run.id)

        run, canceled = await asyncio.wrap_future(self._core.ask(cancel))
        return JSONResponse(
            {
                "canceled": canceled,
                "run": run.id,
                "workflowName": run.workflow_name,
                "owner": run.owner,
                "previousStatus": run.status,
            }
        )

    async def _access_changed(self, _request: Request) -> Response:
        """A client token was revoked: whoever listens with it is sent away."""
        self._watchers.wake_all()
        return JSONResponse({})

    async def _token_changed(self, request: Request) -> Response:
        """A token's row changed: whoever may not be here any more goes, before this answers."""
        name = request.path_params["name"]

        def look(tx: sqlite3.Connection) -> None:
            self._core.membership.token_changed(tx, name, utc_now())

        await asyncio.wrap_future(self._core.ask(look))
        return JSONResponse({})

    async def _ready(self, _request: Request) -> Response:
        return JSONResponse({"reason": await self._readiness.why_not()})

    async def _queue(self, request: Request) -> Response:
        most = request.query_params.get("limit", "20")
        if not most.isdecimal():
            raise Invalid(f"'{most}' is no number of steps")
        look = partial(fleet.queue, self._core, int(most), utc_now())
        return JSONResponse(await asyncio.wrap_future(self._core.ask(lambda _: look())))

    async def _drained(self, _request: Request) -> Response:
        """It changed on disk who takes no new steps."""
        await asyncio.wrap_future(self._core.ask(self._core.membership.drained_changed))
        return JSONResponse({})

    async def _workers(self, _request: Request) -> Response:
        found = await asyncio.wrap_future(self._core.ask(lambda _: fleet.workers(self._core)))
        return JSONResponse({"workers": found})


@dataclass(frozen=True)
class _Wanted:
    """A run that is asked for."""

    workflow: str  #: empty for a probe
    probe: str  #: the target to send a probe to; empty for a workflow
    run: str  #: its id
    timeout: timedelta | None


async def _wanted(request: Request) -> _Wanted:
    try:
        body = await request.json()
    except (ValueError, RecursionError) as error:
        raise Invalid("the request is no JSON document") from error
    name = body.get("workflow", "") if isinstance(body, dict) else None
    probe = body.get("probe", "") if isinstance(body, dict) else None
    if not isinstance(name, str) or not isinstance(probe, str) or bool(name) == bool(probe):
        raise Invalid("the request names no workflow")
    timeout = body.get("timeout")
    try:
        run_id = str(uuid.UUID(body.get("run"))) if "run" in body else str(uuid.uuid4())
    except (ValueError, TypeError, AttributeError) as error:
        raise Invalid("the request's id for the run is no UUID") from error
    return _Wanted(name, probe, run_id, None if timeout is None else parse_duration(str(timeout)))


def _check_remote(plan: Plan) -> None:
    """Under --remote-only nothing runs beside the orchestrator."""
    for step in plan.steps:
        if not step.target:
            name = f"{plan.jobs[step.job].name}/{step.name}"
            raise NotAllowed(
                f"step '{name}' has no target, and this orchestrator runs no steps itself",
                hint="give the step a target, or start the orchestrator without --remote-only",
                code="remote_only",
            )


def _check_targets(tx: sqlite3.Connection, plan: Plan) -> None:
    """A target that no token has ever made cannot be served by anybody: most likely it is misspelt."""
    known = [token.name for token in tokens.tokens(tx)]
    what = f"workflow '{plan.workflow_name}'" if plan.workflow_name else "the probe"
    for target in sorted(plan.targets):
        if target not in known:
            raise NotFound(
                f"{what} places a step on '{target}', and no token has that name{did_you_mean(target, known)}",
                hint=f"make the target with: swamp worker token create {target} --duration 1h",
                code="unknown_target",
            )

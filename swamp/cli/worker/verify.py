"""`swamp worker verify`: send a probe through every seam between here and the workers, and back."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import click

from swamp.cli.context import Context, examples, swamp_options, typed
from swamp.clock import duration_text, from_iso, parse_duration
from swamp.errors import Failed, NotFound, SwampError, Unreachable
from swamp.names import did_you_mean
from swamp.orchestrator import client
from swamp.orchestrator.client import Client, WorkerDocument

ROUNDS = 3  #: probes for each worker of a target, at most: its workers take them in turn


@dataclass(frozen=True)
class Seam:
    """One thing that was looked at."""

    worker: str  #: empty for what all workers share
    check: str
    problem: str | None
    took_ms: int | None = None

    def as_dict(self) -> dict[str, object]:
        return {
            "worker": self.worker or None,
            "check": self.check,
            "passed": self.problem is None,
            "problem": self.problem,
            "tookMs": self.took_ms,
        }


@click.command("verify", epilog=examples("swamp worker verify", "swamp worker verify build-node --timeout 30s"))
@click.argument("name", required=False)
@click.option(
    "--timeout",
    metavar="DURATION",
    default="15s",
    show_default=True,
    help="How long a probe may take: 15s, 1m.",
)
@swamp_options
def command(ctx: Context, name: str | None, timeout: str) -> None:
    """Send a probe to every connected worker, or to the worker or target NAME, and show how far it came.

    The probe is a step like any other: it is journaled, sealed, queued, claimed, run and stored, so whatever keeps
    steps from running shows here. It starts no process. Exit code 1 if anything failed.
    """
    patience = duration_text(typed(parse_duration, timeout, "--timeout"))
    orchestrator = client.find(ctx.repo)
    if orchestrator is None:
        raise Unreachable(
            "no orchestrator runs for this repository", hint="start one with: swamp serve", code="no_orchestrator"
        )
    seams = list(_verify(orchestrator, name, patience))
    failed = [seam for seam in seams if seam.problem is not None]
    if ctx.json:
        ctx.document({"passed": not failed, "checks": [seam.as_dict() for seam in seams]})
    else:
        ctx.table(
            ("WORKER", "CHECK", "RESULT", "TOOK"),
            [
                (
                    seam.worker or "-",
                    seam.check,
                    f"✗ {seam.problem}" if seam.problem else "✓",
                    "-" if seam.took_ms is None else f"{seam.took_ms}ms",
                )
                for seam in seams
            ],
        )
    if failed:
        raise Failed(
            f"{len(failed)} of {len(seams)} checks failed",
            hint="see what waits, and why, with: swamp worker queue",
            code="verify_failed",
        )


def _verify(orchestrator: Client, name: str | None, patience: str) -> Iterator[Seam]:
    known = orchestrator.workers()
    wanted = [worker for worker in known if name in (None, worker["name"], worker["target"])]
    if name is not None and not wanted:
        names = sorted({worker["name"] for worker in known} | {worker["target"] for worker in known})
        raise NotFound(
            f"there is no worker or target '{name}'{did_you_mean(name, names)}",
            hint="see which there are with: swamp worker list",
            code="unknown_worker",
        )
    began = time.monotonic()
    reason = orchestrator.why_not_ready()
    yield Seam("", "orchestrator, disk and Redis", reason and f"not ready: {reason}", _since(began))
    up = [worker for worker in wanted if worker["status"] != "disconnected"]
    if not up and name is None:
        yield Seam("", "connected", "no worker is connected")
    for worker in wanted:
        if worker not in up and (name is not None):
            yield Seam(worker["name"], "connected", "it is disconnected")
    for target in sorted({worker["target"] for worker in up}):
        yield from _probe(orchestrator, target, [worker for worker in up if worker["target"] == target], patience)


def _probe(orchestrator: Client, target: str, workers: list[WorkerDocument], patience: str) -> Iterator[Seam]:
    missing = {worker["name"]: worker for worker in workers}
    problem = ""
    all_of_it = sum(w["target"] == target and w["status"] != "disconnected" for w in orchestrator.workers())
    for _ in range(ROUNDS * max(1, all_of_it)):
        answered, started_ms, answered_ms, problem = _one_probe(orchestrator, target, patience)
        if answered in missing:
            yield Seam(answered, "takes a step", None, started_ms)
            yield Seam(answered, "its result is stored", problem or None, answered_ms)
            del missing[answered]
        if not missing or not answered:
            break
    for name, worker in sorted(missing.items()):
        if worker["status"] == "draining":
            yield Seam(name, "takes a step", "it is draining")
        else:
            yield Seam(name, "takes a step", problem or "other workers of its target took every probe")


def _one_probe(orchestrator: Client, target: str, patience: str) -> tuple[str, int | None, int | None, str]:
    """Who took it ("" if nobody did), after how long, for how long, and what went wrong."""
    worker, at, times = "", "", {}
    problem = ""
    try:
        for event in orchestrator.run({"probe": target, "run": str(uuid.uuid4()), "timeout": patience}):
            kind, at = event.get("kind"), str(event.get("time"))
            if kind in ("run-accepted", "step-started", "run-finished"):
                times[kind] = from_iso(at)
            if kind == "step-started":
                worker = str(event.get("worker"))
            elif kind == "run-finished" and event.get("status") != "succeeded":
                problem = str(event.get("error") or event.get("status"))
    except SwampError as error:
        problem = error.message

    def between(first: str, last: str) -> int | None:
        if first not in times or last not in times:
            return None
        return round((times[last] - times[first]).total_seconds() * 1000)

    return worker, between("run-accepted", "step-started"), between("step-started", "run-finished"), problem


def _since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)

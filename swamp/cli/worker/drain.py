"""`swamp worker drain`: let a worker finish what it runs, and take no more."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

import click

from swamp.cli.context import Context, examples, swamp_options, typed
from swamp.clock import parse_duration
from swamp.data.store import Store
from swamp.errors import Failed, NotFound
from swamp.names import did_you_mean
from swamp.orchestrator import client
from swamp.orchestrator.client import WorkerDocument
from swamp.tokens import store as tokens

LOOK = 0.3  #: seconds between two looks at what still runs
LONGEST_NOTE = 200


@click.command(
    "drain",
    epilog=examples("swamp worker drain build-node --note 'new disk'", "swamp worker drain build-node --timeout 10m"),
)
@click.argument("name")
@click.option("--note", metavar="TEXT", default="", help="Why, for whoever looks at: swamp worker list")
@click.option(
    "--timeout", metavar="DURATION", help="Wait until nothing runs there any more, at most so long: 90s, 15m."
)
@swamp_options
def command(ctx: Context, name: str, note: str, timeout: str | None) -> None:
    """Have the worker NAME take no new steps. What it runs goes on; what it has not begun goes to others.

    It holds until: swamp worker resume NAME, over restarts of the worker and of the orchestrator. Exit code 1 if
    something still runs after --timeout; it stays drained.
    """
    patience = typed(parse_duration, timeout, "--timeout").total_seconds() if timeout is not None else None
    change(ctx, name, lambda tx, machine: tokens.drain(tx, machine, note[:LONGEST_NOTE], ctx.now()))
    running = _wait(ctx, name, patience)
    if ctx.json:
        ctx.document({"name": name, "drained": True, "note": note[:LONGEST_NOTE], "running": running})
    elif not running:
        ctx.out(f"✓ Worker {name} is drained.")
    else:
        ctx.out(f"Worker {name} takes no new steps; {len(running)} still running.")
    if running and patience is not None:
        raise Failed(
            f"after {timeout} worker '{name}' still runs {len(running)} steps",
            hint="wait longer, or end them with: swamp workflow cancel <run>",
            code="still_running",
        )


def change(ctx: Context, name: str, act: Callable[..., object]) -> None:
    """Do something to the machine of the worker `name`, on disk, and tell a running orchestrator. Raises `NotFound`."""
    if not ctx.repo.database.exists():
        raise _unknown(name, [])
    with closing(Store.open(ctx.repo.database, ctx.repo.blobs, create=False)) as store, store.write() as tx:
        known = tokens.machines(tx)
        machines = [machine.id for machine in known if machine.worker == name]
        if not machines:
            raise _unknown(name, [machine.worker for machine in known])
        for machine in machines:
            act(tx, machine)
    orchestrator = client.find(ctx.repo)
    if orchestrator is not None:
        orchestrator.drained_changed()


def _unknown(name: str, known: list[str]) -> NotFound:
    return NotFound(
        f"there is no worker '{name}'{did_you_mean(name, known)}",
        hint="see which there are with: swamp worker list --all",
        code="unknown_worker",
    )


def _wait(ctx: Context, name: str, patience: float | None) -> list[str]:
    """What runs there in the end. Without an orchestrator nobody knows; a worker that is not connected is not asked."""
    until = time.monotonic() + (patience or 0.0)
    while True:
        found = _worker(ctx, name)
        running = found["running"] if found is not None else []
        if not running or time.monotonic() >= until:
            return running
        time.sleep(LOOK)


def _worker(ctx: Context, name: str) -> WorkerDocument | None:
    orchestrator = client.find(ctx.repo)
    workers = orchestrator.workers() if orchestrator is not None else []
    return next((worker for worker in workers if worker["name"] == name), None)

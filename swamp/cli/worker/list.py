"""`swamp worker list`: the workers, as the running orchestrator sees them or as they were last seen."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import closing

import click

from swamp.cli.context import Context, examples, options_with
from swamp.cli.server import Server, server_options
from swamp.clock import iso
from swamp.data.store import Store
from swamp.errors import Unreachable
from swamp.orchestrator.client import WorkerDocument
from swamp.repo import Repo
from swamp.tokens import store as tokens
from swamp.tokens.token import is_live

LOOK = 1.0  #: seconds between two looks with --watch
CLEAR = "\x1b[H\x1b[2J"


@click.command(
    "list", epilog=examples("swamp worker list", "swamp worker list --watch", "swamp worker list --all --json")
)
@click.option("--watch", is_flag=True, help="Show it anew whenever something changes.")
@click.option(
    "--all",
    "everyone",
    is_flag=True,
    help="Also the machines whose token has expired or was revoked.",
)
@options_with("Answer with one JSON document; with --watch one on a line of its own for every change.")
@server_options
def command(ctx: Context, server: Server, watch: bool, everyone: bool) -> None:
    """List the workers with their status, used and total slots, platform and when they were last seen.

    Without a running orchestrator every worker is disconnected. Ctrl-C ends --watch. With --server, --all shows no more
    than the orchestrator knows.
    """
    if watch:
        _watch(ctx, lambda: _workers(ctx, server, everyone=everyone))
        return
    workers = _workers(ctx, server, everyone=everyone)
    if ctx.json:
        ctx.document(workers)
    else:
        _show(ctx, workers)


def _watch(ctx: Context, look: Callable[[], list[WorkerDocument]]) -> None:
    shown: list[WorkerDocument] | None = None
    trouble = ""
    while True:
        try:
            workers = look()
            trouble = ""
        except Unreachable as error:  # it is most of all wanted while something is wrong
            if error.message != trouble:
                trouble = error.message
                ctx.say(f"{trouble}; trying again")
        else:
            if _without_times(workers) != shown:
                shown = _without_times(workers)
                if ctx.json:
                    ctx.out(json.dumps(workers, ensure_ascii=False))
                else:
                    if ctx.stdout_is_terminal:
                        ctx.out(CLEAR)
                    _show(ctx, workers)
        time.sleep(LOOK)


def _without_times(workers: Sequence[WorkerDocument]) -> list[WorkerDocument]:
    """A heartbeat is no change."""
    return [{**worker, "lastSeenAt": None} for worker in workers]


def _workers(ctx: Context, server: Server, *, everyone: bool) -> list[WorkerDocument]:
    orchestrator = server.orchestrator(ctx)
    if orchestrator is None:
        return _on_record(ctx, everyone=everyone)
    workers = orchestrator.workers()
    if everyone and server.url is None:
        known = {worker["machine"] for worker in workers}
        workers += [worker for worker in _on_record(ctx, everyone=True) if worker["machine"] not in known]
    return workers


def _show(ctx: Context, workers: Sequence[WorkerDocument]) -> None:
    if workers:
        ctx.table(("NAME", "STATUS", "SLOTS", "PLATFORM", "LAST SEEN"), _rows(workers))
    else:
        ctx.say("No workers. Connect one with: swamp worker connect <url> --token <token> --cache-dir <dir>")


def _on_record(ctx: Context, *, everyone: bool) -> list[WorkerDocument]:
    repo: Repo = ctx.repo
    if not repo.database.exists():
        return []
    with closing(Store.open(repo.database, repo.blobs, create=False)) as store, store.read() as tx:
        now = ctx.now()
        over = set() if everyone else {token.name for token in tokens.tokens(tx) if not is_live(token, now)}
        drained = tokens.drained(tx)
        return [
            WorkerDocument(
                name=machine.worker,
                target=machine.token,
                machine=machine.id,
                status="disconnected",
                slotsUsed=0,
                slotsTotal=machine.slots,
                platform=machine.platform,
                lastSeenAt=iso(machine.last_seen_at) if machine.last_seen_at else None,
                running=[],
                drainedAt=iso(why.at) if (why := drained.get(machine.id)) else None,
                note=why.note if why else "",
            )
            for machine in tokens.machines(tx)
            if machine.token not in over
        ]


def _rows(workers: Sequence[WorkerDocument]) -> list[tuple[str, ...]]:
    return [
        (
            worker["name"],
            f"{worker['status']} ({worker['note']})" if worker["note"] else worker["status"],
            f"{worker['slotsUsed']}/{worker['slotsTotal']}",
            worker["platform"] or "-",
            worker["lastSeenAt"] or "-",
        )
        for worker in workers
    ]

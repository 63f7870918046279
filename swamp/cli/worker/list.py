"""`swamp worker list`: the workers, as the running orchestrator sees them or as they were last seen."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.clock import iso
from swamp.data.store import Store
from swamp.orchestrator import client
from swamp.orchestrator.client import WorkerDocument
from swamp.repo import Repo
from swamp.tokens import store as tokens


@click.command("list", epilog=examples("swamp worker list", "swamp worker list --json"))
@swamp_options
def command(ctx: Context) -> None:
    """List the workers with their status, used and total slots, platform and when they were last seen.

    Without a running orchestrator every worker is disconnected.
    """
    orchestrator = client.find(ctx.repo)
    workers = _on_record(ctx.repo) if orchestrator is None else orchestrator.workers()
    if ctx.json:
        ctx.document(workers)
    elif workers:
        ctx.table(("NAME", "STATUS", "SLOTS", "PLATFORM", "LAST SEEN"), _rows(workers))
    else:
        ctx.say("No workers. Connect one with: swamp worker connect <url> --token <token> --cache-dir <dir>")


def _on_record(repo: Repo) -> list[WorkerDocument]:
    if not repo.database.exists():
        return []
    with closing(Store.open(repo.database, repo.blobs, create=False)) as store, store.read() as tx:
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
            )
            for machine in tokens.machines(tx)
        ]


def _rows(workers: Sequence[WorkerDocument]) -> list[tuple[str, ...]]:
    return [
        (
            worker["name"],
            worker["status"],
            f"{worker['slotsUsed']}/{worker['slotsTotal']}",
            worker["platform"] or "-",
            worker["lastSeenAt"] or "-",
        )
        for worker in workers
    ]

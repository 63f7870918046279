"""`swamp workflow cancel`: have the orchestrator end a run."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.data import journal
from swamp.data.store import Store
from swamp.errors import Failed, Invalid, Unreachable
from swamp.orchestrator.client import find
from swamp.workflows.local import end_abandoned_runs


@click.command("cancel", epilog=examples("swamp workflow cancel remote-demo", "swamp workflow cancel 3f2a --json"))
@click.argument("run")
@swamp_options
def command(ctx: Context, run: str) -> None:
    """End the run RUN: its id, the beginning of its id, or a workflow's name for the one run of it that is under way.

    What has not begun does not begin any more; what runs gets a TERM signal, and a KILL 10 seconds later. This command
    does not wait for that.

    Exit codes: 0 the run is canceled, or was before; 1 it had ended otherwise, or has no orchestrator to end it; 3 no
    such run; 5 no orchestrator runs.
    """
    with closing(Store.open(ctx.repo.database, ctx.repo.blobs, create=False)) as store:
        end_abandoned_runs(ctx.repo, store)
        with store.read() as tx:
            before = _named(tx, run)
        after = _canceled(ctx, store, before) if before.status == "running" else before
    status = "canceling" if after.status == "running" else after.status
    if status not in ("canceling", "canceled"):
        raise Failed(
            f"{_shown(after)} had ended already: {status}",
            hint=f"see: swamp workflow history get {after.id}",
            code="run_ended",
        )
    if ctx.json:
        ctx.document(
            {
                "run": after.id,
                "workflowName": after.workflow_name,
                "previousStatus": before.status,
                "status": status,
            }
        )
    elif status == "canceling":
        ctx.out(f"Canceling {_shown(after)}: its running steps are being ended.")
        ctx.say(f"Watch it end with: swamp workflow logs -f {after.id}")
    elif before.status == "canceled":
        ctx.out(f"Canceled before: {_shown(after)}.")
    else:
        ctx.out(f"Canceled {_shown(after)}.")


def _named(tx: sqlite3.Connection, name: str) -> journal.RunRow:
    running = journal.running_runs(tx, name)
    if len(running) > 1:
        raise Invalid(
            f"workflow '{name}' has {len(running)} runs under way",
            hint="\n".join(f"swamp workflow cancel {run.id}   # since {run.created_at}" for run in running),
            code="several_runs",
        )
    return running[0] if running else journal.get_run(tx, name)


def _canceled(ctx: Context, store: Store, run: journal.RunRow) -> journal.RunRow:
    """The run after the orchestrator was asked to end it."""
    if run.owner == "command":
        raise Failed(
            f"{_shown(run)} is driven by a command in another terminal, not by the orchestrator",
            hint="press Ctrl-C in that terminal",
            code="not_served",
        )
    orchestrator = find(ctx.repo)
    if orchestrator is None:
        raise Unreachable(
            f"{_shown(run)} cannot be canceled: no orchestrator runs for this repository",
            hint="start one in another terminal with: swamp serve",
            code="no_orchestrator",
        )
    orchestrator.cancel(run.id)
    with store.read() as tx:
        return journal.get_run(tx, run.id)


def _shown(run: journal.RunRow) -> str:
    return f"run {run.id} of {run.workflow_name}" if run.workflow_name else f"run {run.id}"

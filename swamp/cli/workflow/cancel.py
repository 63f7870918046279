"""`swamp workflow cancel`: have the orchestrator end a run."""

from __future__ import annotations

from contextlib import closing

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.cli.server import Server, server_options
from swamp.data import journal
from swamp.data.store import Store
from swamp.errors import Failed, Unreachable
from swamp.orchestrator.client import Client, find
from swamp.workflows.local import end_abandoned_runs


@click.command("cancel", epilog=examples("swamp workflow cancel remote-demo", "swamp workflow cancel 3f2a --json"))
@click.argument("run")
@swamp_options
@server_options
def command(ctx: Context, server: Server, run: str) -> None:
    """End the run RUN: its id, the beginning of its id, or a workflow's name for the one run of it that is under way.

    What has not begun does not begin any more; what runs gets a TERM signal, and a KILL 10 seconds later. A step whose
    worker is lost is not waited for longer than that. This command waits for none of it.

    Exit codes: 0 the run is canceled, or was before; 1 it had ended otherwise, or has no orchestrator to end it; 3 no
    such run; 5 no orchestrator runs.
    """
    elsewhere = server.elsewhere(ctx)
    if elsewhere is not None:
        _tell(ctx, *_canceled_elsewhere(elsewhere, run), look="swamp workflow logs")
        return
    with closing(Store.open(ctx.repo.database, ctx.repo.blobs, create=False)) as store:
        end_abandoned_runs(ctx.repo, store)
        with store.read() as tx:
            before = journal.run_to_cancel(tx, run)
        after = _canceled(ctx, store, before) if before.status == "running" else before
    _tell(ctx, after.id, after.workflow_name, before.status, after.status)


def _tell(
    ctx: Context, run: str, workflow: str, before: str, after: str, look: str = "swamp workflow history get"
) -> None:
    """What became of the run whose status was `before` and is `after`; `look` shows more of it."""
    status = "canceling" if after == "running" else after
    if status not in ("canceling", "canceled"):
        raise Failed(
            f"{_shown(run, workflow)} had ended already: {status}",
            hint=f"see: {look} {run}",
            code="run_ended",
        )
    if ctx.json:
        ctx.document({"run": run, "workflowName": workflow, "previousStatus": before, "status": status})
    elif status == "canceling":
        ctx.out(f"Canceling {_shown(run, workflow)}: its running steps are being ended.")
        ctx.say(f"Watch it end with: swamp workflow logs -f {run}")
    elif before == "canceled":
        ctx.out(f"Canceled before: {_shown(run, workflow)}.")
    else:
        ctx.out(f"Canceled {_shown(run, workflow)}.")


def _canceled_elsewhere(orchestrator: Client, name: str) -> tuple[str, str, str, str]:
    """Id, workflow, and status before and after it was asked to end."""
    answer = orchestrator.cancel(name)
    run, workflow = answer["run"], answer["workflowName"]
    if answer["previousStatus"] == "running" and answer["owner"] == "command":
        raise _driven_by_a_command(run, workflow)
    return run, workflow, answer["previousStatus"], answer["previousStatus"]


def _canceled(ctx: Context, store: Store, run: journal.RunRow) -> journal.RunRow:
    """The run after the orchestrator was asked to end it."""
    if run.owner == "command":
        raise _driven_by_a_command(run.id, run.workflow_name)
    orchestrator = find(ctx.repo)
    if orchestrator is None:
        raise Unreachable(
            f"{_shown(run.id, run.workflow_name)} cannot be canceled: no orchestrator runs for this repository",
            hint="start one in another terminal with: swamp serve",
            code="no_orchestrator",
        )
    orchestrator.cancel(run.id)
    with store.read() as tx:
        return journal.get_run(tx, run.id)


def _driven_by_a_command(run: str, workflow: str) -> Failed:
    return Failed(
        f"{_shown(run, workflow)} is driven by a command in another terminal, not by the orchestrator",
        hint="press Ctrl-C in that terminal",
        code="not_served",
    )


def _shown(run: str, workflow: str) -> str:
    return f"run {run} of {workflow}" if workflow else f"run {run}"

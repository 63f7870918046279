"""`swamp workflow history search`: past runs, newest first."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.data import journal
from swamp.data.store import Store
from swamp.errors import NotFound, SwampError
from swamp.output.record import milliseconds_between
from swamp.output.text import duration
from swamp.repo import Repo


@click.command(
    "search",
    epilog=examples("swamp workflow history search", "swamp workflow history search remote-demo --limit 5"),
)
@click.argument("workflow", required=False)
@click.option(
    "--limit", metavar="N", type=click.IntRange(min=1), default=50, show_default=True, help="Show at most so many runs."
)
@swamp_options
def command(ctx: Context, workflow: str | None, limit: int) -> None:
    """List the runs of all workflows, or of WORKFLOW, newest first.

    A run without an orchestrator whose command was killed has failed; the first look at it gives it its end.
    """
    runs = _search(ctx.repo, workflow, limit)
    if ctx.json:
        ctx.document([run_document(run) for run in runs])
    elif runs:
        ctx.table(("RUN", "WORKFLOW", "STATUS", "STARTED", "TOOK"), (_row(run) for run in runs))
    else:
        ctx.say(f"No runs{f' of {workflow}' if workflow else ''} yet.")


def run_document(run: journal.RunRow) -> dict[str, object]:
    """The run's `--json` form."""
    return {
        "id": run.id,
        "workflowName": run.workflow_name,
        "status": run.status,
        "createdAt": run.created_at,
        "endedAt": run.ended_at,
        "durationMs": milliseconds_between(run.created_at, run.ended_at),
        "error": run.error,
    }


def took(milliseconds: int | None) -> str:
    """A duration for people, `-` where there is none."""
    return "-" if milliseconds is None else duration(milliseconds)


def given_their_end(repo: Repo, store: Store, runs: Iterable[journal.RunRow]) -> bool:
    """Whether some of the runs may have changed: those whose command was killed have failed. Where that cannot be
    written, for want of room or of a turn, they still seem to run, and nobody is kept from looking."""
    if not any(run.status == "running" and run.owner == "command" for run in runs):
        return False
    from swamp.workflows.local import end_abandoned_runs  # it is seldom needed, and large

    with suppress(SwampError, OSError):
        end_abandoned_runs(repo, store)
    return True


def _search(repo: Repo, workflow: str | None, limit: int) -> list[journal.RunRow]:
    try:
        store = Store.open(repo.database, repo.blobs, create=False)
    except NotFound:  # nothing was ever run here
        return []
    try:
        with store.read() as tx:
            runs = journal.search_runs(tx, workflow, limit)
        if given_their_end(repo, store, runs):
            with store.read() as tx:
                runs = journal.search_runs(tx, workflow, limit)
        return runs
    finally:
        store.close()


def _row(run: journal.RunRow) -> tuple[str, ...]:
    took_ms = milliseconds_between(run.created_at, run.ended_at)
    return (run.id, run.workflow_name, run.status, run.created_at, took(took_ms))

"""`swamp workflow history get`: one run, its jobs and steps."""

from __future__ import annotations

from contextlib import closing

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.cli.workflow.history_search import given_their_end, run_document, took
from swamp.data import journal
from swamp.data.store import Store
from swamp.output.record import JobRecord, jobs_of, milliseconds_between
from swamp.output.text import harmless


@click.command(
    "get", epilog=examples("swamp workflow history get remote-demo", "swamp workflow history get 3f2a --json")
)
@click.argument("run")
@swamp_options
def command(ctx: Context, run: str) -> None:
    """Show a run: RUN is its id, the beginning of its id, or a workflow's name for its newest run.

    A run without an orchestrator whose command was killed has failed; the first look at it gives it its end.
    """
    with closing(Store.open(ctx.repo.database, ctx.repo.blobs, create=False)) as store:
        with store.read() as tx:
            row = journal.get_run(tx, run)
        given_their_end(ctx.repo, store, [row])
        with store.read() as tx:
            row = journal.get_run(tx, row.id)
            jobs = jobs_of(journal.read_events(tx, row.id))
    if ctx.json:
        ctx.document({**run_document(row), "jobs": [job.document() for job in jobs]})
    else:
        _show(ctx, row, jobs)


def _show(ctx: Context, run: journal.RunRow, jobs: list[JobRecord]) -> None:
    ctx.out(f"Run: {run.id}")
    if run.workflow_name:
        ctx.out(f"Workflow: {run.workflow_name}")
    ctx.out(f"Status: {run.status}")
    ctx.out(f"Started: {run.created_at}")
    if run.ended_at is not None:
        ctx.out(f"Took: {took(milliseconds_between(run.created_at, run.ended_at))}")
    rows: list[tuple[str, ...]] = []
    errors: list[str] = []
    for job in jobs:
        name = harmless(job.name)
        rows.append((name, "", job.status, took(milliseconds_between(job.started_at, job.ended_at)), "", ""))
        for step in job.steps.values():
            where = harmless(step.target) or "-", harmless(step.worker) or "-"
            rows.append((name, harmless(step.name), step.status, took(step.duration_ms), *where))
            if step.error:
                errors.append(f"{name}/{harmless(step.name)}: {harmless(step.error)}")
    if rows:
        ctx.out("")
        ctx.table(("JOB", "STEP", "STATUS", "TOOK", "TARGET", "WORKER"), rows)
    if errors:
        ctx.out("")
        for error in errors:
            ctx.out(error)

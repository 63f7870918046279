"""`swamp workflow history logs`: what the steps of a run printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.data import journal
from swamp.data.store import Store
from swamp.errors import NotFound
from swamp.names import did_you_mean, listed
from swamp.output.record import JobRecord, jobs_of, printed
from swamp.output.text import harmless, output_lines
from swamp.workflows.events import Event

_PART = 1_000  #: events read at once


@click.command(
    "logs",
    epilog=examples("swamp workflow history logs remote-demo", "swamp workflow history logs 3f2a --step build/compile"),
)
@click.argument("run")
@click.option("--step", metavar="JOB/STEP", help="Only what this step printed.")
@swamp_options
def command(ctx: Context, run: str, step: str | None) -> None:
    """Show every line that the steps of RUN printed, in order, as `[job/step] line`.

    RUN is a run's id, the beginning of one, or a workflow's name for its newest run.
    """
    with closing(Store.open(ctx.repo.database, ctx.repo.blobs, create=False)) as store:
        with store.read() as tx:
            row = journal.get_run(tx, run)
            if step is not None:
                _check_step(step, jobs_of(islice(journal.read_events(tx, row.id), 1)))
        lines = (line for line in printed(_events(store, row.id)) if step in (None, _place(line)))
        sys.stdout.writelines(_as_document(lines) if ctx.json else _as_text(lines))


def _check_step(step: str, jobs: Sequence[JobRecord]) -> None:
    known = [f"{job.name}/{name}" for job in jobs for name in job.steps]
    if step not in known:
        raise NotFound(
            f"the run has no step '{step}'{did_you_mean(step, known)}", hint=listed("steps", known), code="no_step"
        )


def _events(store: Store, run_id: str) -> Iterator[Event]:
    """The run's events, read in parts: a log may be larger than the memory, and no read transaction may stay open
    while a pager waits for its reader."""
    after = 0
    while True:
        with store.read() as tx:
            part = journal.read_event_lines(tx, run_id, after, _PART)
        for after, text in part:  # noqa: B007 - the last number is where the next part begins
            yield json.loads(text)
        if len(part) < _PART:
            return


def _place(line: dict[str, object]) -> str:
    return f"{line['job']}/{line['step']}"


def _as_text(lines: Iterator[dict[str, object]]) -> Iterator[str]:
    for line in lines:
        for text in output_lines(str(line["text"])):
            yield f"[{harmless(_place(line))}] {text}\n"


def _as_document(lines: Iterator[dict[str, object]]) -> Iterator[str]:
    """One JSON list, its items a line each."""
    separator = "["
    for line in lines:
        yield f"{separator}\n  {json.dumps(line)}"
        separator = ","
    yield "[]\n" if separator == "[" else "\n]\n"

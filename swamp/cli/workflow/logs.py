"""`swamp workflow logs`: what the steps of a run print, followed to its end if wanted."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import closing

import click

from swamp.cli.context import Context, examples, options_with
from swamp.cli.server import Server, server_options
from swamp.data import journal
from swamp.data.store import Store
from swamp.errors import Unreachable
from swamp.orchestrator.aside import Aside
from swamp.orchestrator.client import find
from swamp.orchestrator.following import follow, follow_beside, follow_remote, stored
from swamp.orchestrator.watching import ENDINGS
from swamp.output.jsonl import JsonLines
from swamp.output.listener import Listener
from swamp.output.loglines import LogLines
from swamp.output.watched import Watched
from swamp.signals import heard
from swamp.workflows.events import Event


@click.command("logs", epilog=examples("swamp workflow logs remote-demo", "swamp workflow logs -f 3f2a"))
@click.argument("run")
@click.option("-f", "--follow", "to_the_end", is_flag=True, help="Go on until the run has ended, and exit as it did.")
@options_with("Print the run's events instead, each as JSON on a line of its own.")
@server_options
def command(ctx: Context, server: Server, run: str, to_the_end: bool) -> None:
    """Show the lines that the steps of RUN have printed so far, in order and each once, as `[job/step] line`.

    A step on a worker that prints faster than can be told, or while the orchestrator is away for long, has a line in
    their place that says how many are not shown. All of them are in its data: swamp data get
    MODEL log --content.

    RUN is a run's id, the beginning of one, or a workflow's name for its newest run. Any number of terminals may follow
    a run, from its first line on. When the orchestrator goes away they wait for it and go on where they were. Ctrl-C
    leaves; the run goes on.

    Exit codes with --follow: 0 the run succeeded; 1 it failed or was canceled; 3 no such run; 5 it has not ended and no
    orchestrator runs; 130 left with Ctrl-C (143 and 129: because of TERM or HUP).
    """
    view = (JsonLines if ctx.json else LogLines)(sys.stdout, sys.stderr)
    elsewhere = server.elsewhere(ctx)
    if elsewhere is not None:
        watched = Watched(run, view)
        _show(watched, follow_remote(elsewhere, run, view.note) if to_the_end else elsewhere.events_so_far(run), run)
    else:
        with closing(Store.open(ctx.repo.database, ctx.repo.blobs, create=False)) as store:
            with store.read() as tx:
                row = journal.get_run(tx, run)
            watched = Watched(row.workflow_name or f"run {row.id}", view)
            _show(watched, _to_the_end(ctx, store, row, view) if to_the_end else stored(store, row.id), row.id)
    view.close()
    if to_the_end:
        watched.check()


def _show(watched: Watched, events: Iterator[Event], run: str) -> None:
    messages = Aside(events)
    with heard(ENDINGS, messages.put):
        for message in messages:
            if isinstance(message, signal.Signals):
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # who goes on pressing it wants to read how to come back
                raise ENDINGS[message](f"left run {run}", hint=f"follow it again with: swamp workflow logs -f {run}")
            watched.event(message)


def _to_the_end(ctx: Context, store: Store, run: journal.RunRow, view: Listener) -> Iterator[Event]:
    if run.status != "running":
        return stored(store, run.id)
    if run.owner == "command":
        return follow_beside(ctx.repo, store, run.id)
    if find(ctx.repo) is None:
        raise Unreachable(
            f"run {run.id} has not ended, and no orchestrator runs for this repository to go on with it",
            hint="start one in another terminal with: swamp serve\n"
            f"what it has printed so far: swamp workflow logs {run.id}",
            code="no_orchestrator",
        )
    return follow(ctx.repo, run.id, view.note)

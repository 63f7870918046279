"""`swamp workflow run`: have the orchestrator run a workflow, or run it here if it needs none, and watch."""

from __future__ import annotations

import signal
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import click

from swamp.cli.context import Context, examples, options_with, typed
from swamp.cli.server import Server, server_options
from swamp.clock import duration_text, parse_duration
from swamp.errors import HungUp, Interrupted, Unreachable
from swamp.orchestrator.client import Client
from swamp.orchestrator.watching import Watching
from swamp.output.choose import listener_for
from swamp.output.fields import text_of
from swamp.output.listener import Listener
from swamp.output.watched import Watched


@click.command(
    "run",
    epilog=examples(
        "swamp workflow run remote-demo",
        "swamp workflow run remote-demo --json",
        "swamp workflow run nightly --timeout 2h --detach",
        "swamp workflow run nightly --server https://swamp.example:9090 --server-token-file token.txt",
    ),
)
@click.argument("name", metavar="WORKFLOW")
@click.option("--timeout", metavar="DURATION", help="Cancel the run when it has taken this long: 90s, 15m, 2h, 1d.")
@click.option("--detach", is_flag=True, help="Print the run's id as soon as it is accepted, and leave it to itself.")
@options_with("Print the run's events instead, each as JSON on a line of its own.")
@server_options
def command(ctx: Context, server: Server, name: str, timeout: str | None, detach: bool) -> None:
    """Run the workflow WORKFLOW (name or id) and show it while it runs.

    A running orchestrator of this repository (swamp serve) runs it; without one, a workflow whose steps have no
    target runs here. With --server the orchestrator there runs the workflow of that name in its repository, and no
    repository is needed here. Ctrl-C cancels the run; pressed again, it leaves the run to end by itself.

    Of a run of more than 300 steps those that succeed are counted, not shown; the first 50 of those that do not are
    shown, each with its error and what it printed. What all of them print: swamp workflow logs RUN.

    TERM and the closing of the terminal (HUP) end this command and leave the run to the orchestrator. Who leaves before
    the orchestrator has answered is told the id of the run that it may have accepted.

    With --timeout the orchestrator ends the run when its time is over, also if this command has gone or the
    orchestrator itself was away meanwhile. It then counts as canceled: `the run took longer than 30s`.

    Without an orchestrator no step outlives this command: Ctrl-C pressed again ends them at once, and TERM and HUP
    cancel the run as Ctrl-C does.

    Exit codes: 0 succeeded (with --detach: accepted); 1 failed or canceled; 3 no such workflow; 5 it has a target and
    no orchestrator runs; 130 canceled or left with Ctrl-C; 143 and 129 left because of TERM or HUP (canceled, without
    an orchestrator: 130).
    """
    limit = typed(parse_duration, timeout, "--timeout") if timeout is not None else None
    orchestrator = server.orchestrator(ctx)
    # The id is ours, so that it is known what to ask for should the orchestrator die before it answers.
    wanted = {"workflow": name, "run": str(uuid.uuid4())}
    if limit is not None:
        wanted["timeout"] = duration_text(limit)
    if detach:
        _detach(ctx, orchestrator, wanted)
        return
    interrupted = False
    with _closing(listener_for(sys.stdout, sys.stderr, ctx.environ, json=ctx.json)) as view:
        watched = Watched(name, view)
        if orchestrator is not None:
            interrupted = _follow(orchestrator, wanted, watched, view)
        else:
            from swamp.workflows.local import run_workflow

            try:
                run_workflow(ctx.repo, name, watched.event, ctx.environ, limit)
            except Interrupted:
                if not watched.run:
                    raise
                interrupted = True
    watched.check(interrupted=interrupted)


@contextmanager
def _closing(view: Listener) -> Iterator[Listener]:
    """Closes it in the end; that its terminal is gone does not hide that this is why."""
    try:
        yield view
    except HungUp:
        with suppress(OSError):  # there may be nothing left to show it on
            view.close()
        raise
    except BaseException:
        view.close()
        raise
    view.close()


def _detach(ctx: Context, orchestrator: Client | None, wanted: Mapping[str, str]) -> None:
    if orchestrator is None:
        raise Unreachable(
            "only an orchestrator can go on with a run by itself, and none runs for this repository",
            hint="start one in another terminal with: swamp serve",
            code="no_orchestrator",
        )
    with Watching(orchestrator, wanted, ctrl_c_cancels=False) as watching:
        first = next(iter(watching))  # what is told is stored
        if isinstance(first, signal.Signals):
            raise watching.leave(first)
    run = text_of(first, "run")
    if ctx.json:
        ctx.document({"run": run})
    else:
        ctx.out(run)
        ctx.say(f"Follow it with: swamp workflow logs -f {run}")


def _follow(orchestrator: Client, wanted: Mapping[str, str], watched: Watched, view: Listener) -> bool:
    """Have the orchestrator run it; whether Ctrl-C canceled it."""
    interrupted = False
    with Watching(orchestrator, wanted, ctrl_c_cancels=True) as watching:
        for message in watching:
            if not isinstance(message, signal.Signals):
                watched.event(message)
            elif message == signal.SIGINT and not interrupted:
                interrupted = True
                view.note("Canceling the run; Ctrl-C again stops watching it.")
            else:
                raise watching.leave(message)
    return interrupted

"""`swamp workflow run`: have the orchestrator run a workflow, or run it here if it needs none, and watch."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from types import FrameType

import click

from swamp.cli.context import Context, examples, options_with
from swamp.errors import Failed, Interrupted, NotFound
from swamp.orchestrator.client import Client, find
from swamp.output.choose import listener_for
from swamp.output.fields import number_of, text_of
from swamp.output.listener import Listener
from swamp.workflows.events import Event


class Watched:
    """Passes the events of a run on to its view and remembers what the command itself has to know."""

    def __init__(self, workflow: str, view: Listener) -> None:
        self.run = ""
        self._workflow = workflow
        self._view = view
        self._end: Event = {}

    def event(self, event: Event) -> None:
        kind = event.get("kind")
        if kind == "run-accepted":
            self.run = text_of(event, "run")
        elif kind == "run-finished":
            self._end = event
        self._view.event(event)

    def check(self, *, interrupted: bool) -> None:
        """Raises `Failed` unless the run succeeded, `Interrupted` if Ctrl-C is why it did not."""
        status = text_of(self._end, "status") or "not finished"
        if status == "succeeded":
            return
        if interrupted:
            raise Interrupted(
                f"{self._workflow} was interrupted: {status}", hint=f"see: swamp workflow history get {self.run}"
            )
        reason = text_of(self._end, "error")
        more = (number_of(self._end, "failed") or 0) - 1
        message = f"{self._workflow} {status}" + (f": {reason}" if reason else "")
        raise Failed(
            message + (f" (and {more} more)" if reason and more > 0 else ""),
            hint=f"what its steps printed: swamp workflow history logs {self.run}",
            code=f"run_{status.replace(' ', '_')}",
        )


@click.command("run", epilog=examples("swamp workflow run remote-demo", "swamp workflow run remote-demo --json"))
@click.argument("name", metavar="WORKFLOW")
@options_with("Print the run's events instead, each as JSON on a line of its own.")
def command(ctx: Context, name: str) -> None:
    """Run the workflow WORKFLOW (name or id) and show it while it runs.

    A running orchestrator of this repository (swamp serve) runs it; without one, a workflow whose steps have no
    target runs here. Ctrl-C cancels the run.

    Exit codes: 0 succeeded; 1 failed or canceled; 3 no such workflow; 5 it has a target and no orchestrator runs;
    130 canceled with Ctrl-C.
    """
    orchestrator = find(ctx.repo)
    interrupted = False
    with closing(listener_for(sys.stdout, sys.stderr, ctx.environ, json=ctx.json)) as view:
        watched = Watched(name, view)
        if orchestrator is not None:
            interrupted = _follow(orchestrator, name, watched, view)
        else:
            from swamp.workflows.local import run_workflow

            try:
                run_workflow(ctx.repo, name, watched.event, ctx.environ)
            except Interrupted:
                if not watched.run:
                    raise
                interrupted = True
    watched.check(interrupted=interrupted)


def _follow(orchestrator: Client, name: str, watched: Watched, view: Listener) -> bool:
    """Have the orchestrator run it; whether Ctrl-C canceled it."""
    interrupted = False

    def cancel() -> None:
        nonlocal interrupted
        interrupted = True
        if watched.run:  # else it is canceled as soon as its first event has told its id
            send()

    def send() -> None:
        view.note("Canceling the run; Ctrl-C again stops watching it.")
        with suppress(NotFound):  # it has just ended: its last events are on their way
            orchestrator.cancel(watched.run)

    with _on_ctrl_c(cancel):
        for event in orchestrator.run({"workflow": name}):
            known = bool(watched.run)
            watched.event(event)
            if interrupted and watched.run and not known:
                send()
    return interrupted


@contextmanager
def _on_ctrl_c(first: Callable[[], None]) -> Iterator[None]:
    """Inside the block, the first Ctrl-C calls `first` and what is being read goes on; the second one interrupts."""

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        first()

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)

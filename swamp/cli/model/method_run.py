"""`swamp model method run`: run one method of a model here."""

from __future__ import annotations

import sys

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.errors import Failed, Interrupted
from swamp.output.method import MethodEnd, MethodView
from swamp.workflows.events import Event


@click.command(
    "run",
    epilog=examples(
        "swamp model method run remote-echo execute",
        "swamp model method run remote-echo execute --input run='echo hello' --json",
    ),
)
@click.argument("model")
@click.argument("method")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=VALUE",
    help="An argument for this run only; may be repeated. A map takes one entry an option: env.HOME=/tmp",
    allow_from_autoenv=False,  # click would split its value at every space
)
@swamp_options
def command(ctx: Context, model: str, method: str, inputs: tuple[str, ...]) -> None:
    """Run the method METHOD of MODEL (name or id) on this machine and show its output while it runs.

    What the method prints on stdout and stderr goes to stdout and stderr; with --json one document tells how it ended
    and which data it made. What it produced is stored either way. Which arguments there are, says
    swamp model type describe TYPE.

    Exit codes: 0 succeeded; 1 failed; 3 no such model or method.
    """
    from swamp.models.catalog import find_model
    from swamp.models.types import find_type
    from swamp.workflows.local import run_method

    definition = find_model(ctx.repo, model)
    arguments = find_type(definition.type).read(method, inputs)
    end = MethodEnd()
    view = None if ctx.json else MethodView(sys.stdout, sys.stderr, ctx.environ)

    def listen(event: Event) -> None:
        end.event(event)
        if view is not None:
            view.event(event)

    try:
        run_method(ctx.repo, definition.name, method, arguments, listen, ctx.environ)
    except Interrupted:
        if sys.stderr.isatty():
            ctx.say("")  # the terminal shows ^C without ending the line
        raise
    if view is not None:
        view.ended(definition.name, method, end)
        if end.status != "succeeded":
            raise click.exceptions.Exit(Failed.exit_code)
        return
    ctx.document(
        {
            "run": end.run,
            "modelName": definition.name,
            "modelType": definition.type,
            "methodName": method,
            "status": end.status,
            "error": end.error,
            "durationMs": end.duration_ms,
            "dataArtifacts": end.data,
        }
    )
    if end.status != "succeeded":
        raise Failed(f"{definition.name} {method} {end.status}" + (f": {end.error}" if end.error else ""))

"""`swamp workflow get`."""

from __future__ import annotations

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.workflows.catalog import find_workflow_file, load_workflow
from swamp.workflows.workflow import document


@click.command("get", epilog=examples("swamp workflow get remote-demo", "swamp workflow get remote-demo --json"))
@click.argument("workflow")
@swamp_options
def command(ctx: Context, workflow: str) -> None:
    """Show a workflow, named by its name or id: its file as it stands."""
    path = find_workflow_file(ctx.repo, workflow)
    if ctx.json:
        found = load_workflow(ctx.repo, path)
        ctx.document({**document(found), "path": found.path})
    else:
        ctx.out_bytes(path.read_bytes())

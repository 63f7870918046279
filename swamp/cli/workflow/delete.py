"""`swamp workflow delete`."""

from __future__ import annotations

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.workflows.catalog import delete, find_workflow_file, source_of


@click.command("delete", epilog=examples("swamp workflow delete remote-demo", "swamp workflow delete remote-demo -y"))
@click.argument("workflow")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@swamp_options
def command(ctx: Context, workflow: str, yes: bool) -> None:
    """Delete a workflow, named by its name or id. Its past runs and their data stay."""
    path = find_workflow_file(ctx.repo, workflow)
    shown = source_of(ctx.repo, path)
    ctx.require(f"Delete the workflow '{path.stem}' ({shown})?", agreed=yes)
    delete(path)
    if ctx.json:
        ctx.document({"name": path.stem, "path": shown, "deleted": True})
    else:
        ctx.out(f"Deleted workflow: {path.stem}")

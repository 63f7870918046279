"""`swamp model delete`."""

from __future__ import annotations

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.models.catalog import delete_model, find_model_file


@click.command("delete", epilog=examples("swamp model delete remote-echo", "swamp model delete remote-echo -y"))
@click.argument("model")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@swamp_options
def command(ctx: Context, model: str, yes: bool) -> None:
    """Delete a model, named by its name or id. The data that it produced stays."""
    path = find_model_file(ctx.repo, model)
    shown = path.relative_to(ctx.repo.root).as_posix()
    ctx.require(f"Delete the model '{path.stem}' ({shown})?", agreed=yes)
    delete_model(path)
    if ctx.json:
        ctx.document({"name": path.stem, "path": shown, "deleted": True})
    else:
        ctx.out(f"Deleted model: {path.stem}")

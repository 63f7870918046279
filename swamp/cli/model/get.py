"""`swamp model get`."""

from __future__ import annotations

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.models.catalog import find_model_file, load_model
from swamp.models.definition import document


@click.command("get", epilog=examples("swamp model get remote-echo", "swamp model get remote-echo --json"))
@click.argument("model")
@swamp_options
def command(ctx: Context, model: str) -> None:
    """Show a model, named by its name or id: its file as it stands."""
    path = find_model_file(ctx.repo, model)
    if ctx.json:
        found = load_model(ctx.repo, path)
        ctx.document({**document(found), "path": found.path})
    else:
        ctx.out_bytes(path.read_bytes())

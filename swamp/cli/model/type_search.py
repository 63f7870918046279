"""`swamp model type search`."""

from __future__ import annotations

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.models.types import types


@click.command("search", epilog=examples("swamp model type search", "swamp model type search shell"))
@click.argument("query", default="")
@swamp_options
def command(ctx: Context, query: str) -> None:
    """List the model types whose name or description holds QUERY; all without it."""
    wanted = query.lower()
    found = [known for known in types().values() if wanted in f"{known.name} {known.description}".lower()]
    if ctx.json:
        results = [{"name": one.name, "version": one.version, "description": one.description} for one in found]
        ctx.document({"query": query, "results": results})
    elif found:
        ctx.table(["TYPE", "VERSION", "DESCRIPTION"], [[one.name, one.version, one.description] for one in found])
    else:
        ctx.say(f"No model type matches '{query}'.")

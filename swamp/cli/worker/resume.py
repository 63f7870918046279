"""`swamp worker resume`: let a drained worker take steps again."""

from __future__ import annotations

import sqlite3

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.cli.worker.drain import change
from swamp.tokens import store as tokens


@click.command("resume", epilog=examples("swamp worker resume build-node"))
@click.argument("name")
@swamp_options
def command(ctx: Context, name: str) -> None:
    """Let the worker NAME, which was drained, take steps again. Resuming one that was not does no harm."""
    was: list[bool] = []

    def resume(tx: sqlite3.Connection, machine: str) -> None:
        was.append(tokens.resume(tx, machine))

    change(ctx, name, resume)
    if ctx.json:
        ctx.document({"name": name, "drained": False, "wasDrained": any(was)})
    elif any(was):
        ctx.out(f"✓ Worker {name} takes steps again.")
    else:
        ctx.out(f"Worker {name} was not drained.")
